"""What the slice viewer (`static/viewer.js`) loads: the slices of a series, their values, and what was found there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from zipfile import BadZipFile

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from ainode.node.console.entry.access import Role, of
from ainode.node.console.parts import Parts
from ainode.node.console.rendering.client import Rendering
from ainode.node.domain import UID, DocumentKind, JobState
from ainode.node.errors import Busy, CannotRender
from ainode.node.keeping.saliency import FILE_NAME, saliency_entries, saliency_values

# Pixels and words of a patient: nothing of them stays in a browser.
_NOT_KEPT: Final = {"Cache-Control": "no-store"}


class Source(Protocol):
    """The files of a series that a page shows, and of what was read in the series."""

    def files(self) -> Sequence[Path]:
        """Return the files of the series."""
        ...

    def file(self, sop_instance_uid: str) -> Path | None:
        """Return the file of an instance, None if the series has no such instance."""
        ...

    def reports(self) -> Sequence[Path]:
        """Return the structured reports whose regions are drawn."""
        ...

    def saliency(self) -> Sequence[Path]:
        """Return the files of saliency (`keeping/saliency.py`); a file may be absent."""
        ...


@dataclass(frozen=True, slots=True)
class StudySeries:
    """A series of a study in the spool, with what the jobs of the study answered, or one job."""

    parts: Parts
    study: UID
    series: str
    job: str = ""

    def files(self) -> Sequence[Path]:
        """Return the files of the series, none once the pixels were removed."""
        stored = self.parts.catalog.instances(self.study)
        return [item.path for item in stored if item.ref.series_instance_uid == self.series]

    def file(self, sop_instance_uid: str) -> Path | None:
        """Return the file of an instance."""
        stored = self.parts.catalog.versions([sop_instance_uid]).get((self.study, UID(sop_instance_uid)))
        return stored.path if stored else None

    def reports(self) -> Sequence[Path]:
        """Return the reports of the jobs."""
        documents = (document for job in self._jobs() for document in self.parts.ledger.documents(job))
        return [document.path for document in documents if document.kind is DocumentKind.STRUCTURED_REPORT]

    def saliency(self) -> Sequence[Path]:
        """Return the files of saliency of the jobs."""
        return [self.parts.settings.data / "documents" / job / FILE_NAME for job in self._jobs()]

    def _jobs(self) -> list[str]:
        jobs = self.parts.ledger.jobs(study=self.study)
        return [job.id for job in jobs if job.id == self.job or (not self.job and job.state is JobState.REPORTED)]


def router(parts: Parts) -> APIRouter:
    """Return the addresses of the viewer of a study."""

    def source(request: Request) -> Source:
        study, series = request.path_params["study"], request.path_params["series"]
        return StudySeries(parts, UID(study), series, request.query_params.get("job", ""))

    routes = APIRouter()
    add_viewer(routes, "/studies/{study}/series/{series}", source, parts.rendering)
    return routes


def add_viewer(
    routes: APIRouter, prefix: str, source: Callable[[Request], Source], rendering: Rendering, role: Role = Role.VIEWER
) -> None:
    """Add the addresses below `prefix` that the viewer loads; `source` finds the files by path and query."""
    answers = _Answers(source, rendering)
    for path, endpoint in (
        ("series.json", answers.series),
        ("overlays.json", answers.overlays),
        ("slices/{uid}/{frame}", answers.values),
        ("thumbnails/{uid}/{frame}", answers.thumbnail),
        ("saliency/{file}/{number}", answers.saliency),
    ):
        routes.add_api_route(f"{prefix}/{path}", endpoint, dependencies=[Depends(of(role))])


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the viewer gets at its addresses."""

    source: Callable[[Request], Source]
    rendering: Rendering

    def series(self, request: Request) -> Response:
        files = self.source(request).files()
        if not files:
            return _refused("the images are no longer on this node; the archive has them", 404)
        try:
            view = self.rendering.series(files)
        except CannotRender as reason:
            return _not_rendered(reason)
        query = f"?{request.url.query}" if request.url.query else ""
        return JSONResponse({**view, "query": query}, headers=_NOT_KEPT)

    def overlays(self, request: Request) -> Response:
        return JSONResponse(_overlays(self.source(request), self.rendering), headers=_NOT_KEPT)

    def values(self, request: Request, uid: str, frame: int) -> Response:
        compressed = {**_NOT_KEPT, "Content-Encoding": "gzip"}
        file, render = self.source(request).file(uid), self.rendering.values
        return _rendered(file, frame, render, "application/octet-stream", compressed)

    def thumbnail(self, request: Request, uid: str, frame: int) -> Response:
        return _rendered(self.source(request).file(uid), frame, self.rendering.thumbnail, "image/jpeg", _NOT_KEPT)

    def saliency(self, request: Request, file: int, number: int) -> Response:
        try:
            content = saliency_values(self.source(request).saliency()[file], number)
        except (LookupError, OSError, BadZipFile):
            return _refused("no such saliency was kept", 404)
        return Response(content, media_type="application/octet-stream", headers=_NOT_KEPT)


def _overlays(source: Source, rendering: Rendering) -> dict[str, Any]:
    """Return regions and saliency maps; what cannot be read is named, and the rest is drawn."""
    regions: list[dict[str, Any]] = []
    maps: list[dict[str, Any]] = []
    left_out: list[str] = []
    for path in source.reports():
        try:
            regions += rendering.regions(path)
        except CannotRender as reason:
            left_out.append(str(reason))
    for file, path in enumerate(source.saliency()):
        try:
            entries = saliency_entries(path)
        except (OSError, BadZipFile):
            left_out.append("a file of saliency is damaged")
            continue
        maps += [{**entry, "address": f"saliency/{file}/{number}"} for number, entry in enumerate(entries)]
    return {"regions": regions, "saliency": maps, "left_out": left_out}


def _rendered(
    path: Path | None, frame: int, render: Callable[[Path, int], bytes], media_type: str, headers: dict[str, str]
) -> Response:
    if path is None or not path.exists() or frame < 0:
        return _refused("the image is no longer on this node; the archive has it", 404)
    try:
        return Response(render(path, frame), media_type=media_type, headers=headers)
    except CannotRender as reason:
        return _not_rendered(reason)


def _not_rendered(reason: CannotRender) -> JSONResponse:
    return _refused(str(reason), 503 if isinstance(reason, Busy) else 422)


def _refused(reason: str, status: int) -> JSONResponse:
    return JSONResponse({"reason": reason}, status, headers=_NOT_KEPT)
