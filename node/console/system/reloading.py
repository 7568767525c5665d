"""An administrator has the node take up changed routes and peers, and sees what changed, or why nothing did."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse

from ainode.node.console.entry.access import Administrator
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.starting import reload

# For the checks, and the start of the new program; the end of the old one comes on top.
_LONGEST: Final = timedelta(seconds=60)
_PATH: Final = "/console/system/reload"


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    routes, settings = APIRouter(), parts.settings

    @routes.get("/system/reload")
    def page(
        request: Request,
        _: Administrator,
        since: Annotated[datetime | None, Query()] = None,
    ) -> Response:
        """Return what became of the last reload, or of the one that was asked for then."""
        now, outcome = datetime.now(UTC), reload.noted(settings.data)
        if since and since.tzinfo is None:
            raise HTTPException(422, "a time without an offset; press the button of the page")
        if since and (outcome is None or outcome.at < since):
            outcome = None
        is_over = since is None or outcome is not None
        is_overdue = since is not None and now - since > _LONGEST + timedelta(seconds=settings.node.stop_limit_s)
        return render(
            request,
            "_reload.html" if "hx-request" in request.headers else "reload.html",
            outcome=outcome,
            is_waiting=not is_over and not is_overdue,
            is_overdue=not is_over and is_overdue,
            is_possible=parts.request_reload is not None,
            address=f"{_PATH}?{urlencode({'since': since.isoformat()})}" if since else _PATH,
        )

    @routes.post("/system/reload")
    def ask(_: Administrator) -> Response:
        """Have the node check its files and take them up."""
        if parts.request_reload is None:
            raise HTTPException(409, "this program takes up no changed files; a node that `ainode serve` runs does")
        since = datetime.now(UTC)
        parts.request_reload()
        return RedirectResponse(f"{_PATH}?{urlencode({'since': since.isoformat()})}", 303)

    return routes
