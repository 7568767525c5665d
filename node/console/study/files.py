"""What a person takes away of a reading: documents, result.json, report.txt, report.pdf, and all of them as one ZIP.

A file that names the patient needs a reader; what names no patient is for whoever looks. A document leaves only if it
still has the bytes that were made; the audit trail names person, study and files.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Annotated, BinaryIO, Final, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from fastapi.responses import StreamingResponse

from ainode.node.audit.messages import exported, study_subject
from ainode.node.console.answers import ShownDocument, answer_of
from ainode.node.console.entry.access import Role, Visit, of
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.domain import UID, UID_PATTERN
from ainode.node.errors import CannotRender
from ainode.node.keeping.records import Job

StudyUid = Annotated[str, Path(pattern=rf"^{UID_PATTERN}$")]
InstanceUid = Annotated[str, Path(pattern=rf"^{UID_PATTERN}$")]
JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Viewer = Annotated[Visit, Depends(of(Role.VIEWER))]
Reader = Annotated[Visit, Depends(of(Role.READER))]
_Content = TypeVar("_Content")
_BLOCK: Final = 1 << 20
_NOT_KEPT: Final = {"Cache-Control": "no-store"}
# The oldest time that a ZIP can hold.
_ZIP_EPOCH: Final = 1980


def router(parts: Parts) -> APIRouter:
    """Return the routes of the files."""
    files, routes = StudyFiles(parts), APIRouter(prefix="/studies/{study}/jobs/{job}")
    routes.add_api_route("/documents/{uid}.dcm", files.document)
    routes.add_api_route("/documents/{uid}.png", files.picture)
    routes.add_api_route("/documents/{uid}/tree", files.tree)
    routes.add_api_route("/result.json", files.result)
    routes.add_api_route("/report.txt", files.text)
    routes.add_api_route("/report.pdf", files.pdf)
    routes.add_api_route("/all.zip", files.everything)
    return routes


class StudyFiles:
    """The files of the readings of a study."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def document(self, request: Request, study: StudyUid, job: JobId, uid: InstanceUid, visit: Reader) -> Response:
        """Return a document as it was made."""
        document = self._document(study, job, uid)
        file = _opened(document)
        self._record(request, visit, study, [document], document.file_name)
        return StreamingResponse(_blocks(file), headers=_download(document.file_name), media_type="application/dicom")

    def picture(self, study: StudyUid, job: JobId, uid: InstanceUid, _: Viewer) -> Response:
        """Return the pixels of a capture as PNG, for the page."""
        document = self._document(study, job, uid)
        if not document.is_capture:
            raise HTTPException(404, f"document {uid}: is no capture")
        _opened(document).close()
        content = _rendered(lambda: self._parts.rendering.picture(document.document.path))
        return Response(content, media_type="image/png", headers=_NOT_KEPT)

    def tree(self, request: Request, study: StudyUid, job: JobId, uid: InstanceUid, _: Viewer) -> Response:
        """Return a structured report, item by item."""
        document = self._document(study, job, uid)
        if not document.is_report:
            raise HTTPException(404, f"document {uid}: is no structured report")
        _opened(document).close()
        root = _rendered(lambda: self._parts.rendering.tree(document.document.path))
        template = "_study_tree.html" if "hx-request" in request.headers else "study_tree.html"
        return render(request, template, study=study, uid=uid, root=root)

    def result(self, request: Request, study: StudyUid, job: JobId, visit: Viewer) -> Response:
        """Return the result.json of a job."""
        content = self._job(study, job).result.encode()
        self._record(request, visit, study, [], "result.json")
        return Response(content, media_type="application/json", headers=_download("result.json"))

    def text(self, request: Request, study: StudyUid, job: JobId, visit: Viewer) -> Response:
        """Return the report.txt of a job, in the words of `ainode read`."""
        content = self._text(self._job(study, job))
        self._record(request, visit, study, [], "report.txt")
        return Response(content, media_type="text/plain; charset=utf-8", headers=_download("report.txt"))

    def pdf(self, request: Request, study: StudyUid, job: JobId, visit: Reader) -> Response:
        """Return the report.pdf of a job, as `ainode read` makes one: it names the patient."""
        documents = _printed(self._documents(study, job))
        content = self._pdf(self._job(study, job), documents)
        self._record(request, visit, study, documents, "report.pdf")
        return Response(content, media_type="application/pdf", headers=_download("report.pdf"))

    def everything(self, request: Request, study: StudyUid, job: JobId, visit: Reader) -> Response:
        """Return all files of a job as one ZIP, which is made while it is sent."""
        documents, row = self._documents(study, job), self._job(study, job)
        for document in documents:
            _opened(document).close()  # nothing can be said any more once the ZIP is on its way
        texts = {
            "result.json": row.result.encode(),
            "report.txt": self._text(row),
            "report.pdf": self._pdf(row, _printed(documents)),
        }
        name = f"study-{study}-{row.id[:8]}.zip"
        self._record(request, visit, study, documents, ", ".join((name, *texts)))
        content = _zipped(texts, documents, row.finished_at or row.queued_at)
        return StreamingResponse(content, media_type="application/zip", headers=_download(name))

    def _job(self, study: str, job: str) -> Job:
        """Return a job of the study that was read.

        Raises: HTTPException 404.
        """
        try:
            row = self._parts.ledger.job(job)
        except LookupError as error:
            raise HTTPException(404, f"job {job}: is not here, or its documents were removed") from error
        if row.study_instance_uid != study or not row.result:
            raise HTTPException(404, f"study {study}: has no reading {job}")
        return row

    def _documents(self, study: str, job: str) -> tuple[ShownDocument, ...]:
        return answer_of(self._job(study, job), self._parts.ledger.documents(job), ()).documents

    def _document(self, study: str, job: str, uid: str) -> ShownDocument:
        for document in self._documents(study, job):
            if document.uid == uid:
                return document
        raise HTTPException(404, f"study {study}: reading {job} has no document {uid}")

    def _text(self, job: Job) -> bytes:
        return _rendered(lambda: self._parts.rendering.text(job.result))

    def _pdf(self, job: Job, documents: Sequence[ShownDocument]) -> bytes:
        for document in documents:
            _opened(document).close()
        files = [(str(shown.document.kind), shown.document.path) for shown in documents]
        return _rendered(lambda: self._parts.rendering.pdf(job.result, files))

    def _record(
        self, request: Request, visit: Visit, study: str, documents: Sequence[ShownDocument], files: str
    ) -> None:
        """Write into the audit trail who takes which files of a study where."""
        counts: dict[str, int] = {}
        for shown in documents:
            sop_class = shown.document.ref.sop_class_uid
            counts[sop_class] = counts.get(sop_class, 0) + 1
        address = request.client.host if request.client else "unknown"
        self._parts.web.record(exported(visit.person, address, study_subject(UID(study), counts, {"files": files})))


def _printed(documents: Sequence[ShownDocument]) -> list[ShownDocument]:
    """Return what a report.pdf shows: the first capture, and the last document, which names the patient."""
    captures = [shown for shown in documents if shown.is_capture][:1]
    return [*captures, *(shown for shown in documents[-1:] if shown not in captures)]


def _rendered(content_of: Callable[[], _Content]) -> _Content:
    """Return what the process that decodes files makes.

    Raises: HTTPException 503 with its reason.
    """
    try:
        return content_of()
    except CannotRender as error:
        raise HTTPException(503, str(error)) from error


def _opened(shown: ShownDocument) -> BinaryIO:
    """Return the file of a document, open at its begin, after a look at all of its bytes.

    Raises: HTTPException 410 if the file is gone, or is not what was made.
    """
    document = shown.document
    try:
        file = document.path.open("rb")
    except OSError as error:
        raise _changed(shown) from error
    if hashlib.file_digest(file, "sha256").hexdigest() != document.sha256:
        file.close()
        raise _changed(shown)
    file.seek(0)
    return file


def _changed(shown: ShownDocument) -> HTTPException:
    message = f"document {shown.uid}: its file is gone or changed; have the study read again with the same weights"
    return HTTPException(410, message)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while block := file.read(_BLOCK):
            yield block


def _download(name: str) -> dict[str, str]:
    return {**_NOT_KEPT, "Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}


class _Outlet(io.RawIOBase):
    """Takes what `zipfile` writes until somebody takes it on."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self._waiting += content
        return len(content)

    def content(self) -> bytes:
        """Return what was written since the last call."""
        content = bytes(self._waiting)
        self._waiting.clear()
        return content


def _zipped(texts: dict[str, bytes], documents: Sequence[ShownDocument], at: datetime) -> Iterator[bytes]:
    """Yield a ZIP of texts and documents, a block at a time; a document is not compressed, as its pixels may be."""
    outlet = _Outlet()
    moment = at.timetuple()[:6] if at.year >= _ZIP_EPOCH else (_ZIP_EPOCH, 1, 1, 0, 0, 0)
    with zipfile.ZipFile(outlet, "w") as archive:
        for name, content in texts.items():
            archive.writestr(zipfile.ZipInfo(name, moment), content, zipfile.ZIP_DEFLATED)
            yield outlet.content()
        for shown in documents:
            with _opened(shown) as file, archive.open(zipfile.ZipInfo(shown.file_name, moment), "w") as entry:
                while block := file.read(_BLOCK):
                    entry.write(block)
                    yield outlet.content()
    yield outlet.content()
