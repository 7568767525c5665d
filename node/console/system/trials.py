"""What a person tries on the node: a peer, by echo or by the doctor, and the whole way of a synthetic study."""

import secrets
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Path, Query, Request, Response

from ainode.node.console.assistant.client import Assistant
from ainode.node.console.entry import access
from ainode.node.console.entry.access import Role, Visit
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.console.system.hops import hops_of
from ainode.node.domain import UID, UID_PATTERN
from ainode.node.errors import ConfigError

_ECHO_S: Final = 60.0
_DOCTOR_S: Final = 300.0
_SEND_S: Final = 180.0


def router(parts: Parts) -> APIRouter:
    """Return the routes of the pages."""
    routes, pages = APIRouter(), _TrialPages(parts)
    routes.add_api_route("/system/peers/{name}/echo", pages.echo, methods=["POST"])
    routes.add_api_route("/system/peers/{name}/doctor", pages.doctor, methods=["POST"])
    routes.add_api_route("/system/test", pages.offer)
    routes.add_api_route("/system/test", pages.send, methods=["POST"])
    routes.add_api_route("/system/test/{study}", pages.hops)
    return routes


class _TrialPages:
    """The pages of trials."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._assistant = parts, Assistant(parts.settings)

    def echo(self, request: Request, name: str, _: Annotated[Visit, Depends(access.of(Role.OPERATOR))]) -> Response:
        """Ask a peer whether it is there, by each protocol that the node speaks with it."""
        return self._trial(request, name, "echo", _ECHO_S)

    def doctor(self, request: Request, name: str, _: Annotated[Visit, Depends(access.of(Role.OPERATOR))]) -> Response:
        """Try with synthetic objects what a peer takes."""
        return self._trial(request, name, "doctor", _DOCTOR_S)

    def _trial(self, request: Request, name: str, task: str, limit_s: float) -> Response:
        try:
            self._parts.settings.peer(name)
        except ConfigError as error:
            raise HTTPException(404, str(error)) from error
        result, problem = self._assistant.reply(task, limit_s=limit_s, name=name)
        template = "_peer_trial.html" if "hx-request" in request.headers else "peer_trial.html"
        return render(request, template, name=name, result=result, problem=problem)

    def offer(self, request: Request, _: Annotated[Visit, Depends(access.of(Role.OPERATOR))]) -> Response:
        """Return the page that offers a self-test."""
        return render(request, "self_test.html", routes=self._parts.settings.routes, problem="")

    def send(
        self,
        request: Request,
        _: Annotated[Visit, Depends(access.of(Role.OPERATOR))],
        route: Annotated[str, Form(max_length=64)] = "",
    ) -> Response:
        """Send a synthetic study to the receiver, and show how far it came; '' names no route, so that nothing is read.

        Raises: HTTPException for a route that the node does not have.
        """
        handlers = {entry.name: entry.handler for entry in self._parts.settings.routes}
        if route and route not in handlers:
            raise HTTPException(404, f"no route is named {route!r}; choose a route of the page")
        sent, problem = self._assistant.reply(
            "send", limit_s=_SEND_S, handler=handlers.get(route, ""), token=secrets.token_hex(8)
        )
        if problem:
            return render(request, "self_test.html", routes=self._parts.settings.routes, problem=problem)
        return self._hops(request, sent["study"], route, sent)

    def hops(
        self,
        request: Request,
        study: Annotated[str, Path(pattern=rf"^{UID_PATTERN}$")],
        _: Annotated[Visit, Depends(access.of(Role.OPERATOR))],
        route: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        """Return how far the synthetic study came."""
        return self._hops(request, study, route, None)

    def _hops(self, request: Request, study: str, route: str, sent: dict[str, Any] | None) -> Response:
        hops = hops_of(self._parts, UID(study), route)
        template = "_hops.html" if "hx-request" in request.headers else "hops.html"
        query = f"?{urlencode({'route': route})}" if route else ""
        values: dict[str, Any] = {
            "study": study,
            "route": route,
            "sent": sent,
            "hops": hops,
            "address": f"/console/system/test/{study}{query}",
            "is_over": all(hop.is_over for hop in hops),
        }
        return render(request, template, **values)
