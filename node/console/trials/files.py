"""The files of a trial: what a person takes away of a reading, and the images that the viewer shows."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse

from ainode.node.console.entry import access
from ainode.node.console.entry.access import Role, Visit
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.console.trials.answers import documents
from ainode.node.console.trials.page import trial_of
from ainode.node.domain import UID_PATTERN, DocumentKind
from ainode.node.errors import CannotRender
from ainode.node.keeping.records import KeptDocument
from ainode.node.offline.trials import Trial

Reader = Annotated[Visit, Depends(access.of(Role.READER))]
InstanceUid = Annotated[str, InPath(pattern=rf"^{UID_PATTERN}$")]
Number = Annotated[str, InPath(pattern=r"^\d{1,4}$")]
_NOT_KEPT: Final = {"Cache-Control": "no-store"}
_TYPES: Final = {
    "result.json": "application/json",
    "report.txt": "text/plain; charset=utf-8",
    "report.pdf": "application/pdf",
}


def router(parts: Parts) -> APIRouter:
    """Return the routes of the files."""
    files, routes = TrialFiles(parts), APIRouter(prefix="/trials/{identifier}/readings/{number}")
    routes.add_api_route("/documents/{uid}.dcm", files.document)
    routes.add_api_route("/documents/{uid}.png", files.picture)
    routes.add_api_route("/documents/{uid}/tree", files.tree)
    routes.add_api_route("/{name}", files.file)
    return routes


class TrialFiles:
    """The files of the readings of a trial."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def document(self, request: Request, number: Number, uid: InstanceUid, visit: Reader) -> Response:
        """Return a document as it was made."""
        document = self._document(request, number, uid, visit)
        return FileResponse(
            document.path, media_type="application/dicom", filename=document.path.name, headers=_NOT_KEPT
        )

    def picture(self, request: Request, number: Number, uid: InstanceUid, visit: Reader) -> Response:
        """Return the pixels of a capture as PNG, for the page."""
        document = self._document(request, number, uid, visit)
        if document.kind is not DocumentKind.SECONDARY_CAPTURE:
            raise HTTPException(404, f"document {uid}: is no capture")
        try:
            content = self._parts.rendering.picture(document.path)
        except CannotRender as error:
            raise HTTPException(503, str(error)) from error
        return Response(content, media_type="image/png", headers=_NOT_KEPT)

    def tree(self, request: Request, number: Number, uid: InstanceUid, visit: Reader) -> Response:
        """Return a structured report, item by item."""
        document = self._document(request, number, uid, visit)
        if document.kind is not DocumentKind.STRUCTURED_REPORT:
            raise HTTPException(404, f"document {uid}: is no structured report")
        try:
            root = self._parts.rendering.tree(document.path)
        except CannotRender as error:
            raise HTTPException(503, str(error)) from error
        template = "_study_tree.html" if "hx-request" in request.headers else "study_tree.html"
        return render(request, template, study=document.ref.study_instance_uid, uid=uid, root=root)

    def file(self, request: Request, number: Number, name: str, visit: Reader) -> Response:
        """Return result.json, report.txt or report.pdf of a reading."""
        trial, entry = self._reading(request, number, visit)
        if name not in _TYPES:
            raise HTTPException(404, "a reading has result.json, report.txt and report.pdf")
        try:
            path = trial.document(f"{entry['folder']}/{name}")
        except LookupError as error:
            raise HTTPException(404, str(error)) from error
        return FileResponse(path, media_type=_TYPES[name], filename=name, headers=_NOT_KEPT)

    def _reading(self, request: Request, number: str, visit: Visit) -> tuple[Trial, dict[str, Any]]:
        trial = trial_of(self._parts, request, visit)
        for entry in trial.content()["readings"]:
            if entry["folder"] == f"result/{number}":
                return trial, entry
        raise HTTPException(404, "the trial has no such reading")

    def _document(self, request: Request, number: str, uid: str, visit: Visit) -> KeptDocument:
        for document in documents(*self._reading(request, number, visit)):
            if document.ref.sop_instance_uid == uid and document.path.is_file():
                return document
        raise HTTPException(404, f"the reading has no document {uid}")
