"""What a person tries on the node: a peer, by echo or by the doctor, and the whole way of a synthetic study."""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Query, Request, Response

from ainode.node.console.assistant.client import Assistant
from ainode.node.console.entry.access import Operator
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts, StudyUid
from ainode.node.console.system.hops import hops_of
from ainode.node.console.system.route_tests import RouteTests
from ainode.node.domain import UID, synthetic_uid
from ainode.node.errors import ConfigError
from ainode.node.proving import golden

_ECHO_S: Final = 60.0
_DOCTOR_S: Final = 300.0
_SEND_S: Final = 180.0
# Seconds since 1970 that a datetime can be made of everywhere.
_LAST_TIME: Final = 4e9


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
        self._tests = RouteTests(parts.settings)

    def echo(self, request: Request, name: str, _: Operator) -> Response:
        """Ask a peer whether it is there, by each protocol that the node speaks with it."""
        return self._trial(request, name, "echo", _ECHO_S)

    def doctor(self, request: Request, name: str, _: Operator) -> Response:
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

    def offer(self, request: Request, _: Operator) -> Response:
        """Return the page that offers a self-test."""
        return self._offered(request, "")

    def _offered(self, request: Request, problem: str) -> Response:
        tested = self._parts.settings.self_test.routes
        routes = [route.name for route in self._parts.settings.routes]
        untested = [name for name in routes if name not in tested]
        return render(request, "self_test.html", tested=tested, untested=untested, problem=problem)

    def send(
        self,
        request: Request,
        _: Operator,
        route: Annotated[str, Form(max_length=64)] = "",
    ) -> Response:
        """Test a route, or up to the routes where none is named, and show how far the synthetic study came.

        Raises: HTTPException for a route that [self_test] does not name.
        """
        if route:
            if route not in self._parts.settings.self_test.routes:
                raise HTTPException(404, f"[self_test] names no route {route!r}; choose a route of the page")
            since, problem = self._tests.begin(route)
            if problem:
                return self._offered(request, problem)
            return self._hops(request, synthetic_uid(golden.study_of(route)), route=route, since=since.timestamp())
        sent, problem = self._assistant.reply("send", limit_s=_SEND_S, token=secrets.token_hex(8))
        if problem:
            return self._offered(request, problem)
        return self._hops(request, UID(sent["study"]), sent=sent)

    def hops(
        self,
        request: Request,
        study: StudyUid,
        _: Operator,
        route: Annotated[str, Query(max_length=64)] = "",
        since: Annotated[float, Query(ge=0, le=_LAST_TIME)] = 0.0,
    ) -> Response:
        """Return how far the synthetic study came; `since` is in seconds since 1970."""
        return self._hops(request, UID(study), route=route, since=since)

    def _hops(
        self, request: Request, study: UID, *, route: str = "", since: float = 0.0, sent: dict[str, Any] | None = None
    ) -> Response:
        began = datetime.fromtimestamp(since, UTC) if route else None
        outcome = self._tests.outcome(route, began) if began else None
        hops = hops_of(self._parts, study, since=began, outcome=outcome)
        template = "_hops.html" if "hx-request" in request.headers else "hops.html"
        query = f"?{urlencode({'route': route, 'since': since})}" if route else ""
        values: dict[str, Any] = {
            "study": study,
            "route": route,
            "sent": sent,
            "hops": hops,
            "address": f"/console/system/test/{study}{query}",
            "is_over": all(hop.is_over for hop in hops),
        }
        return render(request, template, **values)
