"""The page that says what the words of the pages mean."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from ainode.node.console.entry.access import Role, Visit, of
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts


def router(_: Parts) -> APIRouter:
    """Return the route of the page."""
    routes = APIRouter()

    @routes.get("/words")
    def words(request: Request, _: Annotated[Visit, Depends(of(Role.VIEWER))]) -> Response:
        """Return the page."""
        return render(request, "words.html")

    return routes
