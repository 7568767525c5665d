"""Who may see and do what: the visit of a person, the roles, and the token that every form carries (CSRF)."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Depends, HTTPException, Request

from ainode.node.audit.messages import Message, Participant
from ainode.node.keeping.people import Role

__all__ = [
    "SAFE_METHODS",
    "Administrator",
    "LoginNeeded",
    "NoteAction",
    "Operator",
    "Reader",
    "Role",
    "RoleCheck",
    "Viewer",
    "Visit",
    "VisitOf",
    "of",
    "page_address",
    "refuse_forgery",
]
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Visit:
    """A person who is logged in."""

    person: str
    role: Role
    csrf: str
    """the token that each form of this visit sends back"""
    session: str = ""
    """digest of the session's token, '' for a person whom a proxy names"""
    address: str = ""
    """address of the browser"""
    identity: str = ""
    """what tells the person from a later one of the same name"""

    def participant(self) -> Participant:
        """Return the person as the participant of a message of the audit trail."""
        return Participant(self.person, address=self.address, is_requestor=True)

    def signed(self, message: Message) -> Message:
        """Return a message of the audit trail with the person as one more participant."""
        return replace(message, participants=(*message.participants, self.participant()))

    def may(self, role: str) -> bool:
        """Return whether the person has a role, by its word; for templates."""
        return self.role >= Role[role.upper()]


class LoginNeeded(Exception):
    """Nobody is logged in; the browser is sent to the login page, and comes back to `address`."""

    def __init__(self, address: str) -> None:
        super().__init__("log in")
        self.address = address


VisitOf = Callable[[Request], Awaitable[Visit | None]]
NoteAction = Callable[[Request, Visit], None]


@dataclass(frozen=True, slots=True)
class RoleCheck:
    """The dependency of a page: the visit of a person who has the role."""

    role: Role
    has_files: bool = False
    """whether the page itself calls `refuse_forgery`, once it has the fields of its form with files"""

    async def __call__(self, request: Request) -> Visit:
        """Return the visit.

        Raises: LoginNeeded if nobody is logged in; HTTPException 403 if the person has a lesser role, or if a request
        that changes something does not carry the token of the visit.
        """
        visit = _visit(request, self.role)
        if request.method not in SAFE_METHODS:
            if not self.has_files:
                refuse_forgery(visit, await _token(request))
            _note_action(request, visit)
        return visit


def of(role: Role) -> RoleCheck:
    """Return the dependency of a page."""
    return RoleCheck(role)


Viewer = Annotated[Visit, Depends(of(Role.VIEWER))]
Reader = Annotated[Visit, Depends(of(Role.READER))]
Operator = Annotated[Visit, Depends(of(Role.OPERATOR))]
Administrator = Annotated[Visit, Depends(of(Role.ADMINISTRATOR))]


def with_files(role: Role) -> RoleCheck:
    """Return the dependency of a page with a form with files."""
    return RoleCheck(role, has_files=True)


def _note_action(request: Request, visit: Visit) -> None:
    note_action: NoteAction = request.app.state.note_action
    note_action(request, visit)


def _visit(request: Request, role: Role) -> Visit:
    visit: Visit | None = getattr(request.state, "visit", None)
    if visit is None:
        raise LoginNeeded(page_address(request))
    if visit.role < role:
        raise HTTPException(
            403,
            f"this needs the role {role.word}; you are {visit.role.word}. An administrator of this node gives roles, "
            "on the page Persons or by `ainode user role`",
        )
    return visit


async def _token(request: Request) -> str:
    """Return the token that the request carries in a header or in a field of its form."""
    token = request.headers.get("x-csrf", "")
    if not token and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        field = (await request.form()).get("csrf", "")
        token = field if isinstance(field, str) else ""
    return token


def refuse_forgery(visit: Visit, token: str) -> None:
    """Refuse a request that another site may have made the browser send.

    Raises: HTTPException 403 if the token is not the token of the visit.
    """
    if not hmac.compare_digest(token.encode(), visit.csrf.encode()):
        raise HTTPException(403, "the form is not from this visit; load the page again, and send the form again")


def page_address(request: Request) -> str:
    """Return path and query of a page, where the browser goes after the login; the first page for anything else."""
    if request.method not in SAFE_METHODS:
        return "/console/"
    query = request.url.query
    return quote(request.url.path) + (f"?{query}" if query else "")
