"""The routes: what each asks for, whether it is ready, what a dropped file would meet, what a change would change."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response

from ainode.node.console.assistant.client import Assistant
from ainode.node.console.entry import access
from ainode.node.console.entry.access import Administrator, Reader, Role, Viewer, Visit
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.routes import BodyPartSource, Route, RouteMode
from ainode.node.web.uploads import Uploads

_EXPLAIN_S: Final = 180.0
_READY_S: Final = 180.0
_COMPARE_S: Final = 60.0
_COMPARED_STUDIES: Final = 200
_GRACE_S: Final = 30.0
_NOT_ASKED: Final = (
    "the handler has not told yet whether its weights are for demonstration, whose documents stay in the node: "
    "press Check the routes now, below"
)


def router(parts: Parts) -> APIRouter:
    """Return the routes of the pages."""
    routes, pages = APIRouter(), _RoutesPages(parts)
    routes.add_api_route("/routes", pages.table)
    routes.add_api_route("/routes/ready", pages.ready)
    routes.add_api_route("/routes/test", pages.tester)
    routes.add_api_route("/routes/test", pages.test, methods=["POST"])
    routes.add_api_route("/routes/change", pages.change)
    routes.add_api_route("/routes/change", pages.compare, methods=["POST"])
    return routes


class _RoutesPages:
    """The pages about routes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._assistant, self._uploads = Assistant(parts.settings), Uploads(parts.settings)
        self._checked: dict[str, tuple[str, str]] = {}

    def table(self, request: Request, _: Viewer) -> Response:
        """Return the routes as a table."""
        rows = [(route, conditions(route), *self._state(route)) for route in self._parts.settings.routes]
        return render(request, "routes.html", rows=rows)

    def ready(self, request: Request, _: Viewer) -> Response:
        """Return whether each route is ready, asked of its handler in a process of its own."""
        lines, problem = self._assistant.reply("ready", limit_s=_READY_S)
        self._checked = {name.removeprefix("route "): (state, words) for name, state, words in lines or ()}
        is_part = "hx-request" in request.headers
        return render(request, "_ready.html" if is_part else "ready.html", lines=lines or [], problem=problem)

    def tester(self, request: Request, _: Reader) -> Response:
        """Return the page on which a person drops files."""
        return render(request, "route_tester.html", explained=None, problem="")

    async def test(
        self, request: Request, visit: Annotated[Visit, Depends(access.with_files(Role.READER))]
    ) -> Response:
        """Explain dropped files, and keep nothing."""
        with self._uploads.folder() as folder:
            form = await self._uploads.receive(request, folder, caller=visit.person)
            access.refuse_forgery(visit, request.headers.get("x-csrf", "") or form.values.get("csrf", ""))
            names = {str(file.path): file.name for file in form.all_files}
            explained, problem = None, "choose or drop a file first" if not names else ""
            if names:
                explained, problem = await to_thread.run_sync(
                    partial(self._assistant.reply, "explain", limit_s=_EXPLAIN_S, folder=str(folder), names=names)
                )
        name = "_tested.html" if "hx-request" in request.headers else "route_tester.html"
        return render(request, name, explained=explained, problem=problem)

    def change(self, request: Request, _: Administrator) -> Response:
        """Return the page on which an administrator gives a changed routes.toml."""
        return render(request, "route_change.html", comparison=None, problem="", text="")

    async def compare(
        self, request: Request, visit: Annotated[Visit, Depends(access.with_files(Role.ADMINISTRATOR))]
    ) -> Response:
        """Say what is wrong with a changed routes.toml, or what it would have changed."""
        with self._uploads.folder() as folder:
            form = await self._uploads.receive(request, folder, caller=visit.person)
            access.refuse_forgery(visit, request.headers.get("x-csrf", "") or form.values.get("csrf", ""))
            text = form.values.get("text", "")
            path = folder / "routes.toml"
            if form.all_files:
                path = form.all_files[0].path.rename(path)
            else:
                path.write_text(text, encoding="utf-8")
            comparison, problem = await to_thread.run_sync(self._compared, path)
        name = "_compared.html" if "hx-request" in request.headers else "route_change.html"
        return render(request, name, comparison=comparison, problem=problem, text=text)

    def _compared(self, path: Path) -> tuple[Any, str]:
        question: dict[str, Any] = {"path": str(path), "study_count": _COMPARED_STUDIES, "seconds": _COMPARE_S}
        comparison, problem = self._assistant.reply("changed", limit_s=_COMPARE_S + _GRACE_S, **question)
        return comparison, problem.replace(f"{path.parent}/", "")

    def _state(self, route: Route) -> tuple[str, str]:
        """Return what becomes of the documents of a route, as `ainode check` calls it, and why they stay in the node.

        Which weights a handler reads with, it tells at its first study; before that, a check of the routes has asked.
        """
        if route.mode is RouteMode.SHADOW:
            return "shadow", ""
        state, reason = self._told(route) or self._checked.get(route.name, ("", ""))
        if state == "shadow":
            return state, reason
        if not route.live_destinations:
            return "sends nothing", "the route has no destinations"
        is_known = state == "ready" or route.allow_demonstration
        return ("live", reason) if is_known else ("live or shadow", _NOT_ASKED)

    def _told(self, route: Route) -> tuple[str, str] | None:
        """Return state and reason of a live route whose handler has told its weights, None before."""
        weights = self._parts.readers.known_weights(route.handler)
        if weights is None:
            return None
        return weights.state_of(route)


def conditions(route: Route) -> list[str]:
    """Return what a route asks of a series, a sentence for each condition."""
    parts = " or ".join(route.body_part)
    if route.body_part_from is BodyPartSource.PIXELS:
        parts += ", or a CT that names no part and whose pixels show it"
    lines = [
        f"Modality {' or '.join(route.modality)}" if route.modality else "any image",
        f"body part {parts}" if parts else "",
        *(f"{keyword} {pattern}" for keyword, pattern in route.tags.items()),
        *(f"a further series with {json.dumps(dict(tags))}" for tags in route.required_series),
        f"at least {route.min_instances} images" if route.min_instances > 1 else "",
        f"beside it: {', '.join(route.companions)}" if route.companions else "",
        *(f"read first where {keyword} is {pattern}" for keyword, pattern in route.urgent_tags.items()),
        f"earlier studies from {route.priors.source}, {route.priors.count} at most" if route.priors else "",
    ]
    return list(filter(None, lines))
