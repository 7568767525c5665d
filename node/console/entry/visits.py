"""Whose visit a request belongs to: a session of a person, or a person whom a listed proxy names."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response

from ainode.node.audit.messages import RESTRICTED_FUNCTION, Message, alert, logged_out
from ainode.node.console.entry.access import Visit
from ainode.node.console.entry.callers import address_of, direct_address, is_in
from ainode.node.console.entry.cookies import Cookies
from ainode.node.errors import ConfigError
from ainode.node.keeping.people import People, SessionLimits, person_name, session_digest
from ainode.node.settings import Settings

T = TypeVar("T")
_LOOKUPS_AT_ONCE: Final = 8
_SECRET_BYTES: Final = 32
# A UID, or what the node made; a number without a dot may be a Patient ID.
_IDENTIFIER: Final = re.compile(r"[0-9]+(\.[0-9]+)+|[0-9a-f]{32}")


class Visits:
    """Finds, opens and ends visits."""

    def __init__(self, settings: Settings, people: People, record: Callable[[Message], None]) -> None:
        self.people, self.record = people, record
        self._header, self._proxies = settings.console.login_header, settings.console.networks
        self._peers = frozenset(peer.name for peer in settings.peers)
        self.cookies = Cookies(settings.web.port, self._proxies)
        console = settings.console
        self._limits = SessionLimits(timedelta(seconds=console.session_idle_s), timedelta(seconds=console.session_s))
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._lookups = CapacityLimiter(_LOOKUPS_AT_ONCE)

    async def of(self, request: Request) -> Visit | None:
        """Return the visit of a request, None if nobody is logged in."""
        return await self.answer(lambda: self._visit(request))

    async def answer(self, question: Callable[[], T]) -> T:
        """Return the answer to a question to the database, which a thread waits for."""
        return await to_thread.run_sync(question, limiter=self._lookups)

    async def is_open(self, visit: Visit) -> bool:
        """Return whether a visit goes on: an answer without an end asks again and again."""
        return await self.answer(lambda: self._is_open(visit))

    def open(self, name: str, stored_hash: str) -> str | None:
        """Open a session of a person who gave the right password, and return its token; None if the person is gone."""
        return self.people.open(name, _now(), self._limits, stored_hash)

    def close_earlier(self, request: Request) -> None:
        """End the session that the browser had before a login."""
        if token := self.cookies.get(request, "session"):
            self.people.close(session_digest(token))

    async def log_out(self, request: Request, response: Response, visit: Visit) -> None:
        """End a visit, and remove its cookie."""
        await self.answer(lambda: self.people.close(visit.session))
        self.cookies.remove(request, response, "session")
        self.record(logged_out(visit.participant()))

    def note_action(self, request: Request, visit: Visit) -> None:
        """Record that a person does what not everybody may do."""
        uri = f"urn:ainode:{request.method} {self._plain_path(request)}"
        self.record(visit.signed(alert(RESTRICTED_FUNCTION, uri, f"as {visit.role.word}")))

    def _plain_path(self, request: Request) -> str:
        """Return the path of a route with UIDs, identifiers of the node and names of peers; a person may type words."""
        path = f"{request.scope['root_path']}{request.scope['route'].path}"
        for name, value in request.path_params.items():
            if _IDENTIFIER.fullmatch(value) or value in self._peers:
                path = path.replace(f"{{{name}}}", value)
        return path

    def address(self, request: Request) -> str:
        """Return the address of the caller, behind a listed proxy too."""
        return address_of(request.scope, self._proxies)

    def _visit(self, request: Request) -> Visit | None:
        address = self.address(request)
        if name := self._proxied_name(request):
            person = self.people.person(name)
            csrf = hmac.new(self._secret, name.encode(), hashlib.sha256).hexdigest()
            return Visit(name, person.role, csrf, address=address, identity=person.identity) if person else None
        token = self.cookies.get(request, "session")
        session = self.people.session(token, _now(), self._limits) if token else None
        if session is None:
            return None
        about = {"session": session.digest, "address": address, "identity": session.identity}
        return Visit(session.person, session.role, session.csrf, **about)

    def _proxied_name(self, request: Request) -> str:
        """Return the person whom a listed proxy names, '' for nobody; a stranger's header does not count."""
        names = request.headers.getlist(self._header) if self._header else []
        if len(names) != 1 or not is_in(direct_address(request.scope), self._proxies):
            return ""
        try:
            return person_name(names[0])
        except ConfigError:
            return ""

    def _is_open(self, visit: Visit) -> bool:
        if visit.session:
            return self.people.is_session_open(visit.session, _now(), self._limits)
        person = self.people.person(visit.person)
        return person is not None and (person.role, person.identity) == (visit.role, visit.identity)


def _now() -> datetime:
    return datetime.now(UTC)
