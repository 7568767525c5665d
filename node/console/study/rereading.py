"""The page of a reading once more: progress, then both readings side by side."""

from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response
from fastapi.responses import RedirectResponse

from ainode.node.console.answers import KIND_WORDS
from ainode.node.console.entry.access import Operator, Viewer
from ainode.node.console.pages import render
from ainode.node.console.parts import JobId, Parts, StudyUid
from ainode.node.console.study.rereadings import Rereadings
from ainode.node.errors import ConfigError


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    page, routes = RereadingPage(parts), APIRouter(prefix="/studies/{study}")
    routes.add_api_route("/jobs/{job}/rereadings", page.begin, methods=["POST"])
    routes.add_api_route("/rereadings/{identifier}", page.show)
    return routes


class RereadingPage:
    """Begins readings once more, and shows what they brought."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._rereadings = Rereadings(parts.settings, parts.ledger, parts.catalog, parts.readers.mark)

    def begin(self, study: StudyUid, job: JobId, visit: Operator, weights: Annotated[str, Form()] = "") -> Response:
        """Have a study read once more with the weights of a configured folder, or with the installed weights."""
        row = self._parts.reading(study, job)
        try:
            entry = self._rereadings.begin(row, self._folder(weights), visit.person)
        except ConfigError as error:
            raise HTTPException(429, str(error)) from error
        return RedirectResponse(f"/console/studies/{study}/rereadings/{entry.id}", 303)

    def _folder(self, name: str) -> FilePath | None:
        """Return the configured folder of other weights with a name, None for ''.

        Raises: HTTPException 422 for any other folder.
        """
        folders = {str(folder): folder.expanduser() for folder in self._parts.settings.console.other_weights}
        if name and name not in folders:
            raise HTTPException(422, "the folder of weights is not in [console] other_weights; add it there")
        return folders[name] if name else None

    def show(
        self, request: Request, study: StudyUid, identifier: Annotated[str, Path(pattern="^[0-9a-f]{16}$")], _: Viewer
    ) -> Response:
        """Return how far the reading is, or the comparison."""
        entry = self._rereadings.entry(identifier)
        if entry is None or entry.job.study_instance_uid != study:
            raise HTTPException(404, "this comparison was forgotten; have the study read a second time")
        template = "_rereading.html" if "hx-request" in request.headers else "rereading.html"
        return render(request, template, study=study, entry=entry, kind_words=KIND_WORDS)
