"""A worklist that answers as PS3.18 11 and PS3.4 CC say, and strictly; its states are those of PS3.4 CC.1.1.

pydicom reads each data set that comes, and knows the value representation of each element.
"""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import generate_uid
from pynetdicom.sop_class import UnifiedProcedureStepPush
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ainode.node.settings import Peer, WorklistTable

SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED = "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"
NAMES = ("Transaction-uid", "transaction-uid", "transaction")
_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
# PS3.4 table CC.2.5-3, the column of the final state: R for both, P for COMPLETED, X for CANCELED.
FINAL_STATE: Mapping[str, str] = {
    "SOPClassUID": "R",
    "SOPInstanceUID": "R",
    "ScheduledProcedureStepPriority": "R",
    "ScheduledProcedureStepModificationDateTime": "R",
    "ScheduledProcedureStepStartDateTime": "R",
    "InputReadinessState": "R",
    "ProcedureStepState": "R",
    "ProcedureStepProgressInformationSequence": "X",
    "ProcedureStepProgressInformationSequence/ProcedureStepCancellationDateTime": "X",
    "ProcedureStepProgressInformationSequence/ProcedureStepDiscontinuationReasonCodeSequence": "X",
    "UnifiedProcedureStepPerformedProcedureSequence": "P",
    "UnifiedProcedureStepPerformedProcedureSequence/PerformedStationNameCodeSequence": "P",
    "UnifiedProcedureStepPerformedProcedureSequence/PerformedProcedureStepStartDateTime": "P",
    "UnifiedProcedureStepPerformedProcedureSequence/PerformedWorkitemCodeSequence": "P",
    "UnifiedProcedureStepPerformedProcedureSequence/PerformedProcedureStepEndDateTime": "P",
    "UnifiedProcedureStepPerformedProcedureSequence/OutputInformationSequence": "P",
}
# PS3.4 table CC.2.5-3, the column of N-SET: what nobody may change.
_FIXED = ("SOPClassUID", "SOPInstanceUID", "ProcedureStepState", "PatientID", "PatientName", "StudyInstanceUID")
_STATES = {COMPLETED: "P", CANCELED: "X"}
_FINAL = frozenset(_STATES)
_INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."


def missing(item: Dataset, state: str) -> list[str]:
    """Return the attributes that an item needs for a final state and does not have."""
    codes = {"R", _STATES[state]}
    return [path for path, code in FINAL_STATE.items() if code in codes and not _has(item, path.split("/"))]


def _has(item: Dataset, path: Sequence[str]) -> bool:
    value = item.get(path[0])
    if len(path) == 1 or not value:
        return bool(value)
    return all(_has(nested, path[1:]) for nested in value)


def broken(item: Dataset) -> list[str]:
    """Return what contradicts PS3.3: a code without value, scheme or meaning, an output that nobody can fetch."""
    found = [element.keyword for element in item.iterall() if dictionary_VR(element.tag) != element.VR]
    for sequence in (element for element in item.iterall() if element.VR == "SQ" and "Code" in element.keyword):
        found += [sequence.keyword for code in sequence.value if not all(code.get(keyword) for keyword in _CODE)]
    for performed in item.get("UnifiedProcedureStepPerformedProcedureSequence", ()):
        for output in performed.get("OutputInformationSequence", ()):
            places = ("DICOMRetrievalSequence", "WADORSRetrievalSequence")
            is_whole = output.get("TypeOfInstances") == "DICOM" and output.get("ReferencedSOPSequence")
            if not (is_whole and any(output.get(place) for place in places)):
                found.append("OutputInformationSequence")
    return found


def a_workitem(study: str, uid: str = "", **elements: Any) -> Dataset:  # noqa: ANN401
    """Return an item as PS3.4 table CC.2.5-3 wants it at its creation; elements win."""
    item = Dataset()
    item.SOPClassUID = UnifiedProcedureStepPush
    item.SOPInstanceUID = uid or generate_uid(prefix=None)
    item.ScheduledProcedureStepPriority = "MEDIUM"
    item.ProcedureStepLabel = "read"
    item.WorklistLabel = "AI"
    item.ScheduledProcedureStepModificationDateTime = item.ScheduledProcedureStepStartDateTime = "20260101120000"
    item.ScheduledWorkitemCodeSequence = [a_code("110004", "DCM", "Computer Aided Detection")]
    item.InputReadinessState, item.ProcedureStepState = "READY", SCHEDULED
    item.StudyInstanceUID = study
    item.InputInformationSequence = [an_input(study)] if study else []
    item.PatientID = item.PatientName = ""
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def a_code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return an item of a code sequence."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def an_input(study: str, *, ae_title: str = "", url: str = "") -> Dataset:
    """Return an item of Input Information Sequence."""
    item, place = Dataset(), Dataset()
    item.TypeOfInstances, item.StudyInstanceUID = "DICOM", study
    if ae_title:
        place.RetrieveAETitle = ae_title
        item.DICOMRetrievalSequence = [place]
    if url:
        place = Dataset()
        place.RetrieveURL = url
        item.WADORSRetrievalSequence = [place]
    return item


@dataclass
class Kept:
    """An item of the server, its lock, and the states that it had."""

    dataset: Dataset
    states: list[str] = field(default_factory=lambda: [SCHEDULED])
    locks: list[str] = field(default_factory=list)
    """Transaction UIDs of the claims that were granted"""
    progress: list[int] = field(default_factory=list)


@dataclass
class Server:
    """A worklist; a test reads and changes it between requests."""

    form: str = "any"
    """how a Transaction UID must be given: "any", "body" alone, or the name of the query parameter, alone"""
    ignores_keys: bool = False
    """whether a search lists every item, whatever is searched for"""
    broken: set[str] = field(default_factory=set)
    """items whose retrieval answers with what is no workitem"""
    wants_requester: bool = False
    """whether the state has the requester's AE title at the end of its address, as dcm4chee has it"""
    filters_subscriptions: bool = True
    channel_host: str = "127.0.0.1"
    items: dict[str, Kept] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    """the Patient ID of each study that a search for studies lists"""
    subscriptions: dict[str, str] = field(default_factory=dict)
    """AE title to the filter, '' for all items"""
    words: str = ""
    """what the server says beside every refusal"""
    requests: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    lose: Callable[[str], bool] = lambda _: False
    """whether the answer to a request, such as "PUT state", is lost once it was performed"""
    refuse: Callable[[str], int] = lambda _: 0
    """the HTTP status with which a request is answered without being performed, 0 to perform it"""
    authorizations: set[str] = field(default_factory=set)
    certificate: Path | None = None
    """PEM file of certificate and key, for https"""
    channel_scheme: str = "ws"
    port: int = 0
    _channels: dict[str, WebSocket] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Return the address of the service."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}/dicom-web"

    def peer(self, **table: Any) -> Peer:  # noqa: ANN401
        """Return it as a peer with a worklist."""
        worklist = WorklistTable(**{"poll_s": 0.2, **table})
        ca_file = str(self.certificate or "")
        by_web = {"deliver": "dicomweb", "retrieve": "dicomweb", "dicomweb": self.address}
        return Peer.model_validate({"name": "web", "ca_file": ca_file, "worklist": worklist, **by_web})

    def add(self, item: Dataset) -> str:
        """Put an item into the worklist; report it to the subscribers."""
        uid = str(item.SOPInstanceUID)
        self.items[uid] = Kept(item)
        self.report(uid, 1)
        return uid

    def state(self, uid: str) -> str:
        """Return the state of an item."""
        return str(self.items[uid].dataset.ProcedureStepState)

    def move(self, uid: str, state: str, lock: str = "") -> None:
        """Change the state of an item, as its owner or the server itself does."""
        kept = self.items[uid]
        kept.dataset.ProcedureStepState = state
        kept.states.append(state)
        if lock:
            kept.locks.append(lock)
        self.report(uid, 1)

    def request_cancel(self, uid: str) -> None:
        """Ask the owner to cancel an item, as another system does (PS3.4 CC.2.2)."""
        if self.state(uid) == SCHEDULED:
            self.move(uid, IN_PROGRESS)
            self.move(uid, CANCELED)
        else:
            self.report(uid, 2)

    def report(self, uid: str, kind: int) -> None:
        """Send an event report to every subscriber with an open channel."""
        item = self.items[uid].dataset
        event = {
            "00000002": {"vr": "UI", "Value": [UnifiedProcedureStepPush]},
            "00000110": {"vr": "US", "Value": [23]},
            "00001000": {"vr": "UI", "Value": [uid]},
            "00001002": {"vr": "US", "Value": [kind]},
            "00741000": {"vr": "CS", "Value": [item.ProcedureStepState]},
            "00404041": {"vr": "CS", "Value": [item.InputReadinessState]},
        }
        for title, channel in list(self._channels.items()):
            if _meets(item, self.subscriptions.get(title, "")):
                self._send(channel.send_text(json.dumps(event)))

    def break_channels(self) -> None:
        """Close every channel and forget every subscription, as a restart does."""
        self.subscriptions.clear()
        for title in list(self._channels):
            self._send(self._channels.pop(title).close())

    def say(self, text: str) -> None:
        """Send words to every open channel."""
        for channel in list(self._channels.values()):
            self._send(channel.send_text(text))

    @property
    def open_channels(self) -> int:
        """Return how many channels are open."""
        return len(self._channels)

    def _send(self, action: Awaitable[None]) -> None:
        async def sent() -> None:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await action

        assert self._loop
        if threading.current_thread() is self._thread:
            self._loop.create_task(sent())
        else:
            asyncio.run_coroutine_threadsafe(sent(), self._loop).result(10)

    # HTTP

    async def search(self, request: Request) -> Response:
        self._note(request)
        if status := self.refuse("GET workitems"):
            return Response(status_code=status)
        reserved = {"limit", "offset", "includefield", "fuzzymatching"}
        conditions = {key: value for key, value in request.query_params.items() if key not in reserved}
        if self.ignores_keys:
            conditions = {}
        found = [
            kept.dataset for kept in self.items.values() if all(_is(kept.dataset, *one) for one in conditions.items())
        ]
        offset, limit = (
            int(request.query_params.get(key, default)) for key, default in (("offset", 0), ("limit", 100))
        )
        page = [_listed(item) for item in found[offset : offset + limit]]
        return _json(page) if page else Response(status_code=204)

    async def search_studies(self, request: Request) -> Response:
        self._note(request)
        study = request.query_params.get("StudyInstanceUID", "")
        if study not in self.patients or request.query_params.get("offset", "0") != "0":
            return Response(status_code=204)
        patient = {"vr": "LO", "Value": [self.patients[study]]}
        return _json([{"0020000D": {"vr": "UI", "Value": [study]}, "00100020": patient}])

    async def retrieve(self, request: Request) -> Response:
        self._note(request)
        if status := self.refuse("GET workitem"):
            return Response(status_code=status)
        if request.path_params["uid"] in self.broken:
            return Response("<html>", media_type="text/html")
        kept = self.items.get(request.path_params["uid"])
        return _json([kept.dataset.to_json_dict()]) if kept else Response(status_code=404)

    async def update(self, request: Request) -> Response:
        return await self._changed(request, "POST workitem", self._update)

    async def change_state(self, request: Request) -> Response:
        if self.wants_requester is not ("title" in request.path_params):
            return Response(status_code=404)
        return await self._changed(request, "PUT state", self._change_state)

    async def _changed(self, request: Request, name: str, action: Callable[[Kept, Dataset, str], Response]) -> Response:
        self._note(request)
        if status := self.refuse(name):
            return Response(status_code=status)
        kept = self.items.get(request.path_params["uid"])
        if kept is None:
            return Response(status_code=404)
        if request.headers.get("content-type") != "application/dicom+json":
            return self._refused(415, "the media type is not supported")
        datasets = json.loads(await request.body())
        assert isinstance(datasets, list)
        assert len(datasets) == 1
        dataset = Dataset.from_json(datasets[0])
        lock, problem = self._lock(request, dataset)
        answer = self._refused(400, problem) if problem else action(kept, dataset, lock)
        return Response(status_code=504) if answer.status_code == 200 and self.lose(name) else answer

    def _lock(self, request: Request, dataset: Dataset) -> tuple[str, str]:
        """Return the Transaction UID, and what is wrong with how it was given."""
        in_body = str(dataset.pop("TransactionUID").value) if "TransactionUID" in dataset else ""
        in_query = dict(parse_qsl(request.url.query))
        if self.form == "any":
            return in_body or next(iter(in_query.values()), ""), ""
        if self.form == "body":
            return in_body, "query parameters are not supported" if in_query else ""
        is_exact = set(in_query) == {self.form} and not in_body
        return in_query.get(self.form, ""), "" if is_exact else f"give the parameter {self.form} alone"

    def _update(self, kept: Kept, dataset: Dataset, lock: str) -> Response:
        state = str(kept.dataset.ProcedureStepState)
        if state in _FINAL:
            return self._refused(400, "The submitted request is inconsistent with the current state of the Workitem.")
        if state == IN_PROGRESS and lock != kept.locks[-1]:
            return self._refused(409, "The Transaction UID is incorrect.")
        if fixed := [keyword for keyword in _FIXED if keyword in dataset]:
            return self._refused(400, f"{fixed} cannot be changed")
        if faults := broken(dataset):
            return self._refused(400, f"invalid: {faults}")
        kept.dataset.update(dataset)
        for progress in dataset.get("ProcedureStepProgressInformationSequence", ()):
            kept.progress.append(int(progress.ProcedureStepProgress))
        return Response(status_code=200)

    def _change_state(self, kept: Kept, dataset: Dataset, lock: str) -> Response:
        state, wanted = str(kept.dataset.ProcedureStepState), str(dataset.ProcedureStepState)
        if not lock:
            return self._refused(400, "The Transaction UID is missing.")
        if wanted != IN_PROGRESS:
            return self._end(kept, state, wanted, lock)
        if state != SCHEDULED:
            return self._refused(409, _INCONSISTENT)
        self.move(str(kept.dataset.SOPInstanceUID), IN_PROGRESS, lock)
        return Response(status_code=200)

    def _end(self, kept: Kept, state: str, wanted: str, lock: str) -> Response:
        if not kept.locks or lock != kept.locks[-1]:
            return self._refused(409, "The Transaction UID is incorrect.")
        if state == wanted:
            words = f"299 worklist: The UPS is already in the requested state of {wanted}."
            return Response(status_code=200, headers={"Warning": words})
        if state != IN_PROGRESS or wanted not in _FINAL:
            return self._refused(409, _INCONSISTENT)
        if lacking := missing(kept.dataset, wanted):
            return self._refused(409, f"the final state requires {lacking}")
        self.move(str(kept.dataset.SOPInstanceUID), wanted)
        return Response(status_code=200)

    def _refused(self, status: int, words: str) -> Response:
        self.refusals.append(f"{status} {words}")
        return Response(self.words, status, headers={"Warning": f"299 worklist: {words} {self.words}".strip()})

    async def subscribe(self, request: Request) -> Response:
        self._note(request)
        if status := self.refuse("POST subscribers"):
            return Response(status_code=status)
        uid, title = request.path_params["uid"], request.path_params["title"]
        if uid == "1.2.840.10008.5.1.4.34.5.1" and not self.filters_subscriptions:
            words = "299 worklist: Filtered Worklist Subscriptions are not supported."
            return Response(status_code=403, headers={"Warning": words})
        assert uid in {"1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"}
        self.subscriptions[title] = request.query_params["filter"] if uid.endswith(".5.1") else ""
        address = f"{self.channel_scheme}://{self.channel_host}:{self.port}/ws/subscribers/{title}"
        return Response(status_code=201, headers={"Content-Location": address})

    async def unsubscribe(self, request: Request) -> Response:
        self._note(request)
        is_filtered = request.path_params["uid"].endswith(".5.1")
        title = request.path_params["title"]
        if title not in self.subscriptions or bool(self.subscriptions[title]) is not is_filtered:
            return Response(status_code=404)
        del self.subscriptions[title]
        return Response(status_code=200)

    async def listen(self, socket_: WebSocket) -> None:
        title = socket_.path_params["title"]
        self.authorizations.add(socket_.headers.get("authorization", ""))
        await socket_.accept()
        self._channels[title] = socket_
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await socket_.receive_text()
        if self._channels.get(title) is socket_:
            del self._channels[title]

    def _note(self, request: Request) -> None:
        self._loop, self._thread = asyncio.get_running_loop(), threading.current_thread()
        self.authorizations.add(request.headers.get("authorization", ""))
        self.requests.append(f"{request.method} {request.url.path}")


def _listed(item: Dataset) -> dict[str, Any]:
    """Return an item as a search lists it: without sequences, which a server may leave out."""
    listed = deepcopy(item)
    del listed.InputInformationSequence
    return listed.to_json_dict()


def _json(datasets: list[dict[str, Any]]) -> Response:
    return JSONResponse(datasets, media_type="application/dicom+json")


def _meets(item: Dataset, conditions: str) -> bool:
    pairs = [one.partition("=") for one in conditions.split(",") if one]
    return all(_is(item, key, value) for key, _, value in pairs)


def _is(item: Dataset, path: str, value: str) -> bool:
    """Return whether an attribute, of any item of a sequence where the path names one, has a value."""
    keyword, _, rest = path.partition(".")
    assert tag_for_keyword(keyword) is not None, keyword
    if rest:
        return any(_is(nested, rest, value) for nested in item.get(keyword, ()))
    return str(item.get(keyword, "")) == value


@contextmanager
def worklist(**options: Any) -> Iterator[Server]:  # noqa: ANN401
    """Run a worklist on a port of its own."""
    server = Server(**options)
    prefix = "/dicom-web/workitems"
    routes = [
        Route(prefix, server.search, methods=["GET"]),
        Route("/dicom-web/studies", server.search_studies, methods=["GET"]),
        Route(f"{prefix}/{{uid}}", server.retrieve, methods=["GET"]),
        Route(f"{prefix}/{{uid}}", server.update, methods=["POST"]),
        Route(f"{prefix}/{{uid}}/state", server.change_state, methods=["PUT"]),
        Route(f"{prefix}/{{uid}}/state/{{title}}", server.change_state, methods=["PUT"]),
        Route(f"{prefix}/{{uid}}/subscribers/{{title}}", server.subscribe, methods=["POST"]),
        Route(f"{prefix}/{{uid}}/subscribers/{{title}}", server.unsubscribe, methods=["DELETE"]),
        WebSocketRoute("/ws/subscribers/{title}", server.listen),
    ]
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server.port = listener.getsockname()[1]
    config = uvicorn.Config(
        Starlette(routes=routes),
        log_config=None,  # the loggers of the process stay as they are
        ws="websockets-sansio",
        lifespan="off",
        ssl_certfile=server.certificate,
        ssl_keyfile=server.certificate,
    )
    http = uvicorn.Server(config)
    thread = threading.Thread(target=http.run, args=([listener],), daemon=True)
    thread.start()
    try:
        while not http.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server
    finally:
        http.should_exit = http.force_exit = True
        thread.join(60)
        listener.close()
