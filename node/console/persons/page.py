"""The pages on which an administrator says who may log in, and a person changes the own password."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from ainode.node.audit.messages import USER_ATTRIBUTES, alert
from ainode.node.console.entry.access import Administrator, Role, Viewer, Visit
from ainode.node.console.pages import render
from ainode.node.console.persons.login import Desk, TooManyAttempts
from ainode.node.errors import ConfigError

# 120 random bits, which nobody guesses and everybody can copy.
_RANDOM_BYTES: Final = 15
Text = Annotated[str, Form(max_length=256)]


class Persons:
    """The pages."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._visits, self._people = desk, desk.visits, desk.visits.people

    def router(self) -> APIRouter:
        """Return the routes of the pages."""
        routes = APIRouter()
        routes.add_api_route("/persons", self.page)
        routes.add_api_route("/persons", self.add, methods=["POST"])
        routes.add_api_route("/persons/{name}/role", self.change_role, methods=["POST"])
        routes.add_api_route("/persons/{name}/password", self.reset_password, methods=["POST"])
        routes.add_api_route("/persons/{name}/remove", self.remove, methods=["POST"])
        routes.add_api_route("/password", self.own_page)
        routes.add_api_route("/password", self.change_own, methods=["POST"])
        return routes

    async def page(self, request: Request, _: Administrator) -> Response:
        """Return the list of persons."""
        return await self._page(request)

    async def add(self, request: Request, visit: Administrator, name: Text = "", role: Text = "viewer") -> Response:
        """Add a person with a random password, which the page shows once."""
        password = new_password()

        def add_person() -> str:
            return self._people.add(name, Role.of(role), password, datetime.now(UTC)).name

        return await self._with_password(
            request, visit, add_person, password, f"a person with the role {role} was added"
        )

    async def change_role(self, request: Request, visit: Administrator, name: str, role: Text = "") -> Response:
        """Give a person another role."""

        def change() -> None:
            self._people.change_role(name, Role.of(role))

        return await self._changed(request, visit, name, change, f"the role of a person was changed to {role}")

    async def reset_password(self, request: Request, visit: Administrator, name: str) -> Response:
        """Give a person a random password, which the page shows once."""
        password = new_password()

        def change() -> str:
            self._people.change_password(name, password)
            return name

        return await self._with_password(request, visit, change, password, "the password of a person was changed")

    async def remove(self, request: Request, visit: Administrator, name: str) -> Response:
        """Remove a person."""
        if name == visit.person:
            return await self._page(request, problem="Another administrator has to remove you.")
        return await self._changed(request, visit, name, lambda: self._people.remove(name), "a person was removed")

    async def own_page(self, request: Request, _: Viewer) -> Response:
        """Return the form of a new password."""
        return render(request, "password.html", problem="")

    async def change_own(
        self, request: Request, visit: Viewer, current: Text = "", new: Text = "", again: Text = ""
    ) -> Response:
        """Change the own password; all sessions of the person end."""
        problem = "" if new == again else "The two new passwords differ."
        try:
            if not problem and not await self._desk.is_password(request, visit.person, current):
                problem = "The current password is wrong."
            if not problem:
                await self._desk.hash(lambda: self._people.change_password(visit.person, new))
        except TooManyAttempts as error:
            problem = f"Too many attempts. Wait {error.wait_s} s, and try again."
        except ConfigError as error:
            problem = f"Not changed: {error}."
        if problem:
            return render(request, "password.html", status=400, problem=problem)
        self._record(visit, visit.person, "a person changed the own password")
        return RedirectResponse("/console/login", 303)

    async def _with_password(
        self, request: Request, visit: Visit, change: Callable[[], str], password: str, sentence: str
    ) -> Response:
        """Make a change in which a password is hashed, and show the new password once."""
        try:
            name = await self._desk.hash(change)
        except TooManyAttempts as error:
            raise HTTPException(503, "too many logins at this moment; try again") from error
        except ConfigError as error:
            return await self._page(request, problem=str(error))
        self._record(visit, name, sentence)
        return await self._page(request, name=name, password=password)

    async def _changed(
        self, request: Request, visit: Visit, name: str, change: Callable[[], None], sentence: str
    ) -> Response:
        try:
            await self._visits.answer(change)
        except ConfigError as error:
            return await self._page(request, problem=str(error))
        self._record(visit, name, sentence)
        return RedirectResponse("/console/persons", 303)

    async def _page(self, request: Request, *, problem: str = "", name: str = "", password: str = "") -> Response:
        persons = await self._visits.answer(self._people.all)
        values = {"persons": persons, "roles": [role.word for role in Role], "problem": problem}
        status = 400 if problem else 200
        return render(request, "persons.html", status=status, **values, new_name=name, new_password=password)

    def _record(self, visit: Visit, name: str, sentence: str) -> None:
        self._visits.record(visit.signed(alert(USER_ATTRIBUTES, f"urn:ainode:person:{name}", sentence)))


def new_password() -> str:
    """Return a random password."""
    return secrets.token_urlsafe(_RANDOM_BYTES)
