"""The files of a trial: what a person takes away of a reading, and the images that the viewer shows."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Path as InPath

from ainode.node.console.answers import ShownDocument
from ainode.node.console.documents import (
    TYPES,
    document_of,
    picture,
    taken_document,
    taken_text,
    taken_zip,
    tree,
)
from ainode.node.console.entry.access import Reader, Visit
from ainode.node.console.parts import InstanceUid, Parts
from ainode.node.console.trials.answers import answer
from ainode.node.console.trials.page import trial_of
from ainode.node.offline.trials import Trial

Number = Annotated[str, InPath(pattern=r"^\d{1,4}$")]


def router(parts: Parts) -> APIRouter:
    """Return the routes of the files."""
    files, routes = TrialFiles(parts), APIRouter(prefix="/trials/{identifier}/readings/{number}")
    routes.add_api_route("/documents/{uid}.dcm", files.document)
    routes.add_api_route("/documents/{uid}.png", files.picture)
    routes.add_api_route("/documents/{uid}/tree", files.tree)
    routes.add_api_route("/all.zip", files.everything)
    routes.add_api_route("/{name}", files.text)
    return routes


class TrialFiles:
    """The files of the readings of a trial."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def document(self, request: Request, number: Number, uid: InstanceUid, visit: Reader) -> Response:
        """Return a document as it was made."""
        return taken_document(self._document(request, number, uid, visit))

    def picture(self, request: Request, number: Number, uid: InstanceUid, visit: Reader) -> Response:
        """Return the pixels of a capture as PNG, for the page."""
        return picture(self._parts.rendering, self._document(request, number, uid, visit))

    def tree(self, request: Request, number: Number, uid: InstanceUid, visit: Reader) -> Response:
        """Return a structured report, item by item."""
        return tree(request, self._parts.rendering, self._document(request, number, uid, visit))

    def text(self, request: Request, number: Number, name: str, visit: Reader) -> Response:
        """Return result.json, report.txt or report.pdf of a reading."""
        trial, entry = self._reading(request, number, visit)
        if name not in TYPES:
            raise HTTPException(404, "a reading has result.json, report.txt and report.pdf; choose one of these")
        try:
            path = trial.document(f"{entry['folder']}/{name}")
        except LookupError as error:
            raise HTTPException(404, str(error)) from error
        return taken_text(name, path.read_bytes())

    def everything(self, request: Request, number: Number, visit: Reader) -> Response:
        """Return all files of a reading as one ZIP."""
        trial, entry = self._reading(request, number, visit)
        paths = {name: trial.folder / entry["folder"] / name for name in TYPES}
        texts = {name: path.read_bytes() for name, path in paths.items() if path.is_file()}
        return taken_zip(f"trial-{number}.zip", texts, answer(trial, entry).documents, datetime.now(UTC))

    def _reading(self, request: Request, number: str, visit: Visit) -> tuple[Trial, dict[str, Any]]:
        trial = trial_of(self._parts, request, visit)
        for entry in trial.content()["readings"]:
            if entry["folder"] == f"result/{number}":
                return trial, entry
        raise HTTPException(404, "the trial has no such reading; load the page of the trial again")

    def _document(self, request: Request, number: str, uid: str, visit: Visit) -> ShownDocument:
        return document_of(answer(*self._reading(request, number, visit)).documents, uid)
