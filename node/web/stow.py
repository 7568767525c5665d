"""STOW-RS (PS3.18 10.5): a multipart body, part after part from the socket to the disk, an answer for each instance.

An instance that is listed as stored is as safe as one that a C-STORE answered 0x0000; of a request that breaks off,
what was stored is kept.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import anyio
from anyio import from_thread, to_thread
from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from ainode.node.archive.multipart import boundary_of, parts
from ainode.node.domain import UID, UID_PATTERN, is_uid
from ainode.node.errors import ReceiveError
from ainode.node.web.doorway import Doorway, Visit

_log = logging.getLogger(__name__)
_UPLOADS_AT_ONCE: Final = 8
_MEDIA_TYPE: Final = "application/dicom+json"
_SOP_CLASS, _SOP_INSTANCE, _RETRIEVE_URL = "00081150", "00081155", "00081190"
_FAILURE_REASON, _FAILED, _REFERENCED, _OTHER_FAILURES = "00081197", "00081198", "00081199", "0008119A"


@dataclass(slots=True)
class _Answer:
    """What became of the parts so far."""

    stored: list[tuple[str, str]] = field(default_factory=list)
    """SOP Class and Instance UID"""
    failed: list[tuple[str, str, int]] = field(default_factory=list)
    """the same, '' where they are not known, and the reason"""

    @property
    def status(self) -> int:
        """Return 200 where all were stored, 202 for some, 409 for none (PS3.18 table 10.5.3-1)."""
        if not self.failed:
            return 200
        return 202 if self.stored else 409

    def json(self) -> dict[str, Any]:
        """Return the Store Instances Response Module (PS3.18 I.2) in DICOM JSON."""
        # type 2, and empty: what came here is not retrieved from here
        answer: dict[str, Any] = {_RETRIEVE_URL: {"vr": "UR"}}
        stored = [{**_reference(*one), _RETRIEVE_URL: {"vr": "UR"}} for one in self.stored]
        named = [{**_reference(*uids), **_reason(why)} for *uids, why in self.failed if all(uids)]
        nameless = [_reason(why) for *uids, why in self.failed if not all(uids)]
        for tag, items in ((_REFERENCED, stored), (_FAILED, named), (_OTHER_FAILURES, nameless)):
            if items:
                answer[tag] = _sequence(items)
        return answer


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items}


def _reference(sop_class_uid: str, sop_instance_uid: str) -> dict[str, Any]:
    return {
        _SOP_CLASS: {"vr": "UI", "Value": [sop_class_uid]},
        _SOP_INSTANCE: {"vr": "UI", "Value": [sop_instance_uid]},
    }


def _reason(status: int) -> dict[str, Any]:
    return {_FAILURE_REASON: {"vr": "US", "Value": [status]}}


class Upload:
    """The two addresses of STOW-RS."""

    def __init__(self, doorway: Doorway, timeout_s: float) -> None:
        self._doorway, self._timeout_s = doorway, timeout_s
        self._places = anyio.CapacityLimiter(_UPLOADS_AT_ONCE)

    def add_routes(self, app: FastAPI, caller: Callable[..., str]) -> None:
        """Add them; `caller` is the dependency that names who sends."""

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
            """Store instances of one study (STOW-RS); one of another study is refused."""
            return await self._store(request, sender, UID(study))

    async def _store(self, request: Request, sender: str, study: UID | None) -> Response:
        boundary = _boundary(request)
        blocks = self._blocks(request.stream())
        address = request.client.host if request.client else ""

        def take() -> _Answer:
            with self._doorway.visit(sender, address) as visit:
                answer = _taken(visit, parts(blocks, boundary), study)
                deque(blocks, maxlen=0)  # what stands behind the last boundary
            return answer

        try:
            answer = await to_thread.run_sync(take, limiter=self._places)
        except (ClientDisconnect, TimeoutError) as error:
            _log.warning("upload broke off: %s", type(error).__name__, extra={"action": "upload_lost"})
            return Response("the body ended or paused too long; what was stored is kept", 408)
        except ValueError as error:
            raise HTTPException(400, f"the body is no multipart/related message: {error}") from error
        return JSONResponse(answer.json(), answer.status, media_type=_MEDIA_TYPE)

    def _blocks(self, stream: AsyncIterator[bytes]) -> Iterator[bytes]:
        """Yield the body in a worker thread, as it arrives; nothing is read ahead of the disk."""

        async def following() -> bytes | None:
            with anyio.fail_after(self._timeout_s):
                return await anext(stream, None)

        while (block := from_thread.run(following)) is not None:
            yield block


def _boundary(request: Request) -> bytes:
    """Return the boundary of the body.

    Raises: HTTPException for another kind of body, or of answer asked for.
    """
    content_type = request.headers.get("content-type", "")
    boundary = boundary_of(content_type)
    if boundary is None or "application/dicom" not in content_type.replace("application/dicom+", ""):
        raise HTTPException(415, 'send multipart/related; type="application/dicom"; boundary=…')
    accepted = request.headers.get("accept", "*/*")
    if not any(one in accepted for one in ("*/*", "application/*", "json")):
        raise HTTPException(406, f"the answer is {_MEDIA_TYPE}")
    return boundary


def _taken(visit: Visit, contents: Iterator[Iterator[bytes]], study: UID | None) -> _Answer:
    """Store the parts one after the other; a bad one spares the next."""
    answer = _Answer()
    for content in contents:
        with visit.file() as file:
            try:
                for block in content:
                    file.write(memoryview(block))
                ref = visit.keep(file, of_study=study)
                answer.stored.append((ref.sop_class_uid, ref.sop_instance_uid))
            except ReceiveError as error:
                said = file.said
                named = (said.sop_class_uid, said.sop_instance_uid) if said else ("", "")
                answer.failed.append((*named, error.status))
                uid = named[1] if is_uid(named[1]) else "(no UID)"
                about = {"action": "object_refused", "status": f"{error.status:04X}", "sop_instance_uid": uid}
                _log.warning("refused: %s", error, extra=about)
    return answer
