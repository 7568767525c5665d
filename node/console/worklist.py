"""The worklist: what arrived, what became of it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from ainode.node.console import access
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    routes = APIRouter()

    @routes.get("/")
    def worklist(request: Request, _: Annotated[access.Visit, Depends(access.of(access.Role.VIEWER))]) -> Response:
        """Return the worklist."""
        return render(request, "worklist.html", jobs=parts.ledger.jobs())

    return routes
