"""STOW-RS (PS3.18 10.5): each part of a multipart body goes from socket to disk; the answer names each instance.

An instance that the answer lists as stored is as safe as an instance whose C-STORE was answered 0x0000. If a request
breaks off, the node keeps the instances that it stored before.
"""

import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ainode.node.archive.dicom_json import xml_of
from ainode.node.archive.multipart import boundary_of, parts
from ainode.node.domain import UID, UID_PATTERN, is_uid
from ainode.node.errors import ReceiveError
from ainode.node.web.bodies import blocks
from ainode.node.web.doorway import ArrivingFile, Doorway, Visit
from ainode.node.web.headers import media_ranges
from ainode.node.web.limits import Complaints

_log = logging.getLogger(__name__)
_UPLOADS_AT_ONCE: Final = 8
# As many as the node takes of one study.
_MAX_PARTS: Final = 100_000
_MAX_UNIDENTIFIED: Final = 1_000
_MAX_LOG_LINES: Final = 10
_MAX_EPILOGUE_BYTES: Final = 65_536
_JSON: Final = "application/dicom+json"
_XML: Final = "application/dicom+xml"
_MULTIPART: Final = "multipart/related"
_SOP_CLASS, _SOP_INSTANCE, _RETRIEVE_URL = "00081150", "00081155", "00081190"
_FAILURE_REASON, _FAILED, _REFERENCED, _OTHER_FAILURES = "00081197", "00081198", "00081199", "0008119A"


@dataclass(slots=True)
class _Answer:
    """The outcome of the parts that were received; the answer lists each part as stored or failed."""

    stored: list[tuple[str, str]] = field(default_factory=list)
    """SOP Class and Instance UID"""
    failed: list[tuple[str, str, int]] = field(default_factory=list)
    """SOP Class and Instance UID, '' where unknown, and the failure reason"""

    unidentified_count: int = 0

    def add_failure(self, file: ArrivingFile, error: ReceiveError) -> None:
        """Add a refused part, by its UIDs if both are UIDs, and log the first of many."""
        meta = file.meta
        uids = (meta.sop_class_uid, meta.sop_instance_uid) if meta else ("", "")
        sop_class_uid, sop_instance_uid = uids if all(map(is_uid, uids)) else ("", "")
        self.failed.append((sop_class_uid, sop_instance_uid, error.status))
        self.unidentified_count += not sop_instance_uid
        if len(self.failed) <= _MAX_LOG_LINES:
            uid = sop_instance_uid or "(no UID)"
            extra = {"action": "object_refused", "status": f"{error.status:04X}", "sop_instance_uid": uid}
            _log.warning("refused: %s", error, extra=extra)

    @property
    def status(self) -> int:
        """Return HTTP status 200 if no part failed, 202 if some failed, 409 if all failed (PS3.18 table 10.5.3-1)."""
        if not self.failed:
            return 200
        return 202 if self.stored else 409

    def json(self) -> dict[str, Any]:
        """Return the Store Instances Response Module (PS3.18 I.2) in DICOM JSON.

        A failed part without a known UID is an item of Other Failures Sequence, by its reason alone.
        """
        # Retrieve URL is type 2, and empty: nobody retrieves instances from the node.
        answer: dict[str, Any] = {_RETRIEVE_URL: {"vr": "UR"}}
        stored = [{**_reference(*uids), _RETRIEVE_URL: {"vr": "UR"}} for uids in self.stored]
        failed = [{**_reference(*uids), **_failure_reason(status)} for *uids, status in self.failed if all(uids)]
        unidentified = [_failure_reason(status) for *uids, status in self.failed if not all(uids)]
        for tag, items in ((_REFERENCED, stored), (_FAILED, failed), (_OTHER_FAILURES, unidentified)):
            if items:
                answer[tag] = _sequence(items)
        return answer


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a sequence element in DICOM JSON."""
    return {"vr": "SQ", "Value": items}


def _reference(sop_class_uid: str, sop_instance_uid: str) -> dict[str, Any]:
    """Return the elements that refer to an instance, in DICOM JSON."""
    return {
        _SOP_CLASS: {"vr": "UI", "Value": [sop_class_uid]},
        _SOP_INSTANCE: {"vr": "UI", "Value": [sop_instance_uid]},
    }


def _failure_reason(status: int) -> dict[str, Any]:
    """Return the element Failure Reason in DICOM JSON; the reason is a C-STORE status."""
    return {_FAILURE_REASON: {"vr": "US", "Value": [status]}}


class Upload:
    """The two routes of STOW-RS; each caller has uploads of its own, so that slow uploads delay no other caller."""

    def __init__(self, doorway: Doorway, complaints: Complaints) -> None:
        self._doorway, self._complaints = doorway, complaints
        self._limits: defaultdict[str, CapacityLimiter] = defaultdict(lambda: CapacityLimiter(_UPLOADS_AT_ONCE))

    def add_routes(self, app: FastAPI, caller: Callable[..., str]) -> None:
        """Add the routes to the application; `caller` is the dependency that returns the sender's name."""

        @app.post("/dicom-web/studies", tags=["DICOMweb"])
        async def store(request: Request, sender: Annotated[str, Depends(caller)]) -> Response:
            """Store instances (STOW-RS): multipart/related; type="application/dicom"."""
            return await self._store(request, sender, None)

        @app.post("/dicom-web/studies/{study}", tags=["DICOMweb"])
        async def store_study(
            request: Request,
            sender: Annotated[str, Depends(caller)],
            study: Annotated[str, Path(pattern=rf"^{UID_PATTERN}$")],
        ) -> Response:
            """Store instances of one study (STOW-RS); an instance of another study is refused."""
            return await self._store(request, sender, UID(study))

    async def _store(self, request: Request, sender: str, study: UID | None) -> Response:
        """Store the instances of a request, only of `study` unless None; the status is 408 if the body breaks off.

        The worker thread encodes the answer: of many instances the answer is long.

        Raises: HTTPException if the request is no STOW-RS.
        """
        boundary = _boundary(request)
        body = blocks(request.stream())
        address = request.client.host if request.client else ""

        def receive() -> Response:
            with self._doorway.visit(sender, address) as visit:
                answer = _store_parts(visit, parts(body, boundary), study)
                _skip_epilogue(body)
            return _response(answer, request.headers.get("accept", ""))

        try:
            return await to_thread.run_sync(receive, limiter=self._limits[sender])
        except (ClientDisconnect, HTTPException) as error:
            self._complaints.note("upload_lost", f"upload broke off: {type(error).__name__}", address)
            return Response("the body ended early or is too slow; the instances stored before are kept", 408)
        except ValueError as error:
            raise HTTPException(400, f"the body is no multipart/related message: {error}") from error


def _skip_epilogue(body: Iterator[bytes]) -> None:
    """Read the bytes after the last boundary, but not many: nobody waits for the end of a long epilogue."""
    skipped_bytes = 0
    while skipped_bytes < _MAX_EPILOGUE_BYTES and (block := next(body, None)) is not None:
        skipped_bytes += len(block)


def _boundary(request: Request) -> bytes:
    """Return the boundary that separates the parts of the body.

    Raises: HTTPException 415 if the body is not multipart with DICOM files.
    """
    content_type = request.headers.get("content-type", "")
    boundary = boundary_of(content_type)
    if boundary is None or "application/dicom" not in content_type.replace("application/dicom+", ""):
        raise HTTPException(415, 'send multipart/related; type="application/dicom"; boundary=…')
    return boundary


def _response(answer: _Answer, accept_header: str) -> Response:
    """Return the answer in the form that the caller prefers.

    A caller that accepts no form of ours gets DICOM JSON (RFC 9110 12.5.1): its instances are stored.
    """
    form = _preferred_form(accept_header)
    if form == _JSON:
        return JSONResponse(answer.json(), answer.status, media_type=_JSON)
    content = xml_of(answer.json())
    if form == _XML:
        return Response(content, answer.status, media_type=_XML)
    edge = secrets.token_hex(16)
    body = f"--{edge}\r\nContent-Type: {_XML}\r\n\r\n".encode() + content + f"\r\n--{edge}--\r\n".encode()
    return Response(body, answer.status, media_type=f'{_MULTIPART}; type="{_XML}"; boundary={edge}')


def _preferred_form(accept_header: str) -> str:
    """Return the media type of the answer: the first of the media ranges with the largest weight that names a form."""
    for media_range in media_ranges(accept_header):
        if "json" in media_range or media_range.startswith(("*/", "application/*")):
            return _JSON
        if _XML in media_range or media_range.startswith("application/xml"):
            return _MULTIPART if media_range.startswith(_MULTIPART) else _XML
    return _JSON


def _store_parts(visit: Visit, contents: Iterator[Iterator[bytes]], study: UID | None) -> _Answer:
    """Store the parts in sequence and return the answer; a refused part does not affect the next part.

    Raises: ValueError if the body is not multipart, has too many parts, or too many parts without a UID;
    ClientDisconnect or HTTPException if the body breaks off.
    """
    answer = _Answer()
    for count, content in enumerate(contents):
        if count == _MAX_PARTS or answer.unidentified_count > _MAX_UNIDENTIFIED:
            raise ValueError("too many parts, or too many that are no DICOM files; the instances before are kept")
        with visit.file() as file:
            try:
                for block in content:
                    file.write(memoryview(block))
                ref = visit.store(file, of_study=study)
                answer.stored.append((ref.sop_class_uid, ref.sop_instance_uid))
            except ReceiveError as error:
                if not answer.failed:
                    visit.note_refusal()
                answer.add_failure(file, error)
    if len(answer.failed) > _MAX_LOG_LINES:
        _log.warning("refused %d instances of one request", len(answer.failed), extra={"action": "object_refused"})
    return answer
