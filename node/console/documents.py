"""Files of a reading over HTTP: a picture, a tree, what a person takes away; of a study and of a trial alike."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import BinaryIO, Final, TypeVar

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from ainode.node.console.answers import ShownDocument
from ainode.node.console.pages import render
from ainode.node.console.rendering.client import Rendering
from ainode.node.domain import DocumentKind
from ainode.node.errors import CannotRender

TYPES: Final = {
    "result.json": "application/json",
    "report.txt": "text/plain; charset=utf-8",
    "report.pdf": "application/pdf",
}
"""the files that are no DICOM documents, each with its media type"""
_Content = TypeVar("_Content")
_MEDIA_TYPES: Final = {DocumentKind.MESSAGE: "text/plain", DocumentKind.BUNDLE: "application/fhir+json"}
_BLOCK: Final = 1 << 20
_NOT_KEPT: Final = {"Cache-Control": "no-store"}
# The oldest time that a ZIP can hold.
_ZIP_EPOCH: Final = 1980


def document_of(documents: Sequence[ShownDocument], uid: str) -> ShownDocument:
    """Return the document with a SOP Instance UID.

    Raises: HTTPException 404.
    """
    for document in documents:
        if document.uid == uid:
            return document
    raise HTTPException(404, f"the reading has no document {uid}; choose a document on the page of the study")


def picture(rendering: Rendering, document: ShownDocument) -> Response:
    """Return the pixels of a picture as PNG, of several frames the first.

    Raises: HTTPException 404 if the document is no picture, 410 if its file is gone or changed.
    """
    if not document.is_picture:
        raise HTTPException(404, f"document {document.uid} is no capture; choose a capture on the page of the study")
    opened(document).close()
    content = rendered(lambda: rendering.picture(document.document.path))
    return Response(content, media_type="image/png", headers=_NOT_KEPT)


def tree(request: Request, rendering: Rendering, document: ShownDocument) -> Response:
    """Return a structured report, item by item.

    Raises: HTTPException 404 if the document is no structured report, 410 if its file is gone or changed.
    """
    if not document.is_report:
        raise HTTPException(
            404, f"document {document.uid} is no structured report; choose one on the page of the study"
        )
    opened(document).close()
    root = rendered(lambda: rendering.tree(document.document.path))
    template = "_study_tree.html" if "hx-request" in request.headers else "study_tree.html"
    study = document.document.ref.study_instance_uid
    return render(request, template, study=study, uid=document.uid, root=root)


def taken_document(document: ShownDocument) -> Response:
    """Return a document as it was made.

    Raises: HTTPException 410 if its file is gone or changed.
    """
    content = _blocks(opened(document))
    media_type = _MEDIA_TYPES.get(document.document.kind, "application/dicom")
    return StreamingResponse(content, headers=_download(document.file_name), media_type=media_type)


def taken_text(name: str, content: bytes) -> Response:
    """Return a file of `TYPES`."""
    return Response(content, media_type=TYPES[name], headers=_download(name))


def taken_zip(
    name: str, texts: Mapping[str, bytes], documents: Sequence[ShownDocument], finished_at: datetime
) -> Response:
    """Return texts and documents as a ZIP, which is made while it is sent.

    Raises: HTTPException 410 if a document's file is gone or changed.
    """
    for document in documents:
        opened(document).close()  # nothing can be said any more once the ZIP is on its way
    content = _zipped(texts, documents, finished_at)
    return StreamingResponse(content, media_type="application/zip", headers=_download(name))


def rendered(content_of: Callable[[], _Content]) -> _Content:
    """Return what the process that decodes files makes.

    Raises: HTTPException 503 with its reason.
    """
    try:
        return content_of()
    except CannotRender as error:
        raise HTTPException(503, str(error)) from error


def opened(shown: ShownDocument) -> BinaryIO:
    """Return the file of a document, open at its begin, after a look at all of its bytes; a trial keeps no digest.

    Raises: HTTPException 410 if the file is gone, or is not what was made.
    """
    document = shown.document
    try:
        file = document.path.open("rb")
    except OSError as error:
        raise _changed(shown) from error
    if document.sha256 and hashlib.file_digest(file, "sha256").hexdigest() != document.sha256:
        file.close()
        raise _changed(shown)
    file.seek(0)
    return file


def _changed(shown: ShownDocument) -> HTTPException:
    return HTTPException(
        410, f"document {shown.uid}: its file is gone or changed; have the images read again with the same weights"
    )


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


def _zipped(texts: Mapping[str, bytes], documents: Sequence[ShownDocument], at: datetime) -> Iterator[bytes]:
    """Yield a ZIP of texts and documents, a block at a time; a document is not compressed, as its pixels may be."""
    outlet = _Outlet()
    moment = at.timetuple()[:6] if at.year >= _ZIP_EPOCH else (_ZIP_EPOCH, 1, 1, 0, 0, 0)
    with zipfile.ZipFile(outlet, "w") as archive:
        for name, content in texts.items():
            archive.writestr(zipfile.ZipInfo(name, moment), content, zipfile.ZIP_DEFLATED)
            yield outlet.content()
        for shown in documents:
            with opened(shown) as file, archive.open(zipfile.ZipInfo(shown.file_name, moment), "w") as entry:
                while block := file.read(_BLOCK):
                    entry.write(block)
                    yield outlet.content()
    yield outlet.content()
