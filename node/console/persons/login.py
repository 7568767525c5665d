"""The pages on which a person logs in and out."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from ainode.node.audit.messages import Participant, authenticated
from ainode.node.console.entry.access import Viewer
from ainode.node.console.entry.attempts import Attempt, Attempts, browser_mark, known_browser
from ainode.node.console.entry.visits import Visits
from ainode.node.console.pages import render
from ainode.node.errors import ConfigError
from ainode.node.keeping import passwords
from ainode.node.keeping.people import person_name
from ainode.node.receiving.places import network_of
from ainode.node.web.limits import Complaints

T = TypeVar("T")
FIRST_PAGE: Final = "/console/"
# Each hash takes 46 MiB and a processor for some hundredths of a second.
_HASHES_AT_ONCE: Final = 1
_HASHES_WAITING: Final = 32
_MAX_FIELDS: Final = 8
_UNKNOWN: Final = "unknown"
_OVER: Final = "Your session is over. Log in again."
_WRONG: Final = "Name or password is wrong."


class TooManyAttempts(Exception):
    """A password that is not tried; it may be tried after so many seconds."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"wait {wait_s} s")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Entrance:
    """A login that succeeded: the token of the session, and the mark of the browser."""

    token: str
    mark: str


class Desk:
    """Tries names and passwords, one at a time."""

    def __init__(self, visits: Visits, complaints: Complaints) -> None:
        self.visits, self._complaints = visits, complaints
        self._attempts, self._hashing = Attempts(), CapacityLimiter(_HASHES_AT_ONCE)

    async def log_in(self, request: Request, name: str, password: str) -> Entrance | None:
        """Return the entrance of a person; None if name or password is wrong.

        Raises: TooManyAttempts if the password was not tried.
        """
        return await self.hash(lambda: self._log_in(request, _name(name), password))

    async def is_password(self, request: Request, name: str, password: str) -> bool:
        """Return whether a password is that of a person.

        Raises: TooManyAttempts if the password was not tried.
        """
        return bool(await self.hash(lambda: self._verified_hash(request, name, password)))

    async def hash(self, function: Callable[[], T]) -> T:
        """Return what a function returns that hashes a password; others wait.

        Raises: TooManyAttempts if too many wait.
        """
        if self._hashing.statistics().tasks_waiting >= _HASHES_WAITING:
            raise TooManyAttempts(1)
        return await to_thread.run_sync(function, limiter=self._hashing)

    def _log_in(self, request: Request, name: str, password: str) -> Entrance | None:
        stored_hash = self._verified_hash(request, name, password)
        token = self.visits.open(name, stored_hash) if stored_hash else None
        if token is None:
            return None
        self.visits.close_earlier(request)
        return Entrance(token, browser_mark(name, stored_hash))

    def _verified_hash(self, request: Request, name: str, password: str) -> str:
        """Return what is kept of a person's password, '' if the password is another or nobody has the name."""
        visits, address = self.visits, self.visits.address(request)
        stored_hash = visits.people.password_hash(name)
        browser = known_browser(visits.cookies.get(request, "browser"), name, stored_hash)
        attempt = Attempt(name, network_of(address), browser)
        if wait_s := self._attempts.wait_s(attempt):
            raise TooManyAttempts(wait_s)
        # A name that nobody has takes as long as a name that somebody has.
        is_right = passwords.is_password(stored_hash, password)
        # A name that nobody has may be a password in the wrong field.
        caller = Participant(name if stored_hash else _UNKNOWN, address=address, is_requestor=True)
        visits.record(authenticated(caller, "" if is_right else "wrong name or password"))
        if is_right:
            return stored_hash
        self._attempts.failed(attempt)
        self._complaints.note("login_refused", "refused a login to the console", address)
        return ""


def router(desk: Desk) -> APIRouter:
    """Return the routes of the pages."""
    routes, visits = APIRouter(), desk.visits

    @routes.get("/login")
    async def form(request: Request) -> Response:
        """Return the form of a login."""
        if await visits.of(request):
            return RedirectResponse(_inside(request.query_params.get("next", "")), 303)
        return await _page(request, visits, _OVER if visits.cookies.get(request, "session") else "")

    @routes.post("/login")
    async def log_in(request: Request) -> Response:
        """Open a session."""
        name, password = await _fields(request, visits, "name", "password")
        try:
            entrance = await desk.log_in(request, name, password)
        except TooManyAttempts as error:
            problem = f"Too many attempts. Wait {error.wait_s} s, and try again."
            page = await _page(request, visits, problem, status=429)
            page.headers["Retry-After"] = str(error.wait_s)
            return page
        if entrance is None:
            return await _page(request, visits, _WRONG, status=401)
        response = RedirectResponse(_inside(request.query_params.get("next", "")), 303)
        visits.cookies.set(request, response, "session", entrance.token)
        visits.cookies.set(request, response, "browser", entrance.mark)
        visits.cookies.remove(request, response, "form")
        return response

    @routes.post("/logout")
    async def log_out(request: Request, visit: Viewer) -> Response:
        """End the session."""
        response = RedirectResponse("/console/login", 303)
        await visits.log_out(request, response, visit)
        return response

    return routes


async def _page(request: Request, visits: Visits, problem: str = "", status: int = 200) -> Response:
    """Return the form of a login; a node without persons says how the first one is made."""
    token = visits.cookies.form_token(request)
    values = {"csrf": token, "problem": problem, "is_first": await visits.answer(visits.people.are_none)}
    address = _inside(request.query_params.get("next", ""))
    page = render(request, "login.html", status=status, next=address, **values)
    visits.cookies.set(request, page, "form", token)
    return page


async def _fields(request: Request, visits: Visits, *names: str) -> tuple[str, ...]:
    """Return fields of the login form.

    Raises: HTTPException 403 if the form is not the one that the browser got from the node.
    """
    fields = await request.form(max_files=0, max_fields=_MAX_FIELDS)
    token, cookie = str(fields.get("csrf", "")), visits.cookies.get(request, "form")
    if not cookie or not hmac.compare_digest(token.encode(), cookie.encode()):
        raise HTTPException(403, "the form is not from this browser, or too old; load the login page again")
    return tuple(str(fields.get(name, "")) for name in names)


def _inside(address: str) -> str:
    """Return the address of a page of the console, the first page for an address anywhere else."""
    parts = urlsplit(address)
    is_plain = address.isprintable() and "\\" not in address and not parts.scheme and not parts.netloc
    return address if is_plain and address.startswith(FIRST_PAGE) else FIRST_PAGE


def _name(text: str) -> str:
    """Return a name as names are kept, '' for a text that can be no name."""
    try:
        return person_name(text)
    except ConfigError:
        return ""
