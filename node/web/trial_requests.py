"""Files read without being kept: POST /api/read, its progress and documents; and POST /upload of the spine system."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as AnyHTTPException

from ainode.node.offline.kinds import FileKind, format_of
from ainode.node.offline.trial_question import SLOTS, UPLOAD_ANSWER, Stage, TrialOptions, trial_options
from ainode.node.offline.trials import Trial, TrialRefused, Trials
from ainode.node.reading import described, registry
from ainode.node.settings import Settings
from ainode.node.web import trial_examples as examples
from ainode.node.web.uploads import Form, Uploads

_POLL_S: Final = 0.1
_SPINE: Final = "SPINE"
_FILE: Final = "file"
"""the field of POST /upload"""
_DOCUMENT_TYPES: Final = {
    ".dcm": "application/dicom",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".hl7": "text/plain",
    ".pdf": "application/pdf",
}
_ONE_RADIOGRAPH: Final = (
    "POST /upload takes one DICOM radiograph of the spine (Modality CR or DX), and this is a picture or a volume; "
    "POST /api/read takes pictures and volumes, for the models that read them"
)
_NAME_PART: Final = "name the body part in the field `body_part`, such as CHEST: the files are not DICOM and name none"
_IDENTIFIER: Final = "the `id` that POST /api/read answered"


class TrialReading(BaseModel):
    """The reading of one study by one route, or by the chosen model."""

    study_instance_uid: str
    prior_uids: tuple[str, ...] = Field(description="studies that the model compared with the study")
    route: str = Field(description="the name of the handler where `model` was given: then no route is asked")
    handler: str
    answer: str = Field("", description="the answer in words, or why the model refuses the study")
    is_refusal: bool = False
    seconds: float = 0.0
    error: str = Field("", description="why there is no answer")
    advice: str = Field("", description="what would have the files read that the model refused, where the node knows")
    documents: tuple[str, ...] = Field((), description="names for GET /api/read/{id}/documents/{name}")
    result: dict[str, Any] = Field({}, description="result.json")


class TrialAnswer(BaseModel):
    """How far a trial is, and its readings at the end."""

    id: str
    stage: Stage
    study_number: int = Field(description="of the study that is read, from 1")
    study_count: int
    error: str
    readings: tuple[TrialReading, ...]
    unread: tuple[str, ...] = Field(description="files that are not read, each with the reason")


class TrialRequests:
    """The requests that read files; each caller sees the trials of its own alone."""

    def __init__(self, settings: Settings, uploads: Uploads, trials: Trials) -> None:
        self._uploads, self._trials, self._address = uploads, trials, settings.web.address
        self._spine = next((route.handler for route in settings.routes if _SPINE in route.body_part), "")
        self._handlers = {*registry.names(), *described.names(settings.models), *(r.handler for r in settings.routes)}

    def add_routes(self, app: FastAPI, router: APIRouter) -> None:
        """Add the routes; `router` asks for a token, `app` leaves that to the guard."""
        node = self._address
        read = examples.described(examples.READ_FIELDS, examples.READ_CURL, examples.READ_PYTHON, node=node)
        upload = examples.described(examples.UPLOAD_FIELDS, examples.UPLOAD_CURL, examples.UPLOAD_PYTHON, node=node)
        router.add_api_route("/api/read", self.read, methods=["POST"], status_code=202, openapi_extra=read)
        router.add_api_route("/api/read/{identifier}", self.state)
        router.add_api_route("/api/read/{identifier}", self.discard, methods=["DELETE"], status_code=204)
        router.add_api_route(
            "/api/read/{identifier}/documents/{name:path}",
            self.document,
            response_class=FileResponse,
            openapi_extra=examples.samples(examples.DOCUMENT_CURL, node=node),
        )
        app.add_api_route("/upload", self.upload, methods=["POST"], openapi_extra=upload, tags=["files"])

    async def read(self, request: Request) -> TrialAnswer:
        """Read files, and keep nothing: DICOM, ZIP archives, NRRD, NIfTI, pictures; up to three dates of one patient.

        The answer has an `id`. The files and the answer are removed an hour after the reading, or by DELETE.
        """
        trial, form = await self._received(request)
        try:
            options = read_options(form, self._handlers)
            self._trials.read(trial, options)
        except (ValueError, TrialRefused) as error:
            self._trials.discard(trial)
            raise HTTPException(422, str(error)) from error
        return _answer(trial)

    def state(self, request: Request, identifier: str) -> TrialAnswer:
        """Return how far a trial is, and the readings at the end."""
        return _answer(self._trial(request, identifier))

    def document(self, request: Request, identifier: str, name: str) -> FileResponse:
        """Return a document: `1/report.pdf`, `1/report.txt`, `1/result.json`, `1/sr-1.dcm`, `1/sc-1.dcm`."""
        try:
            path = self._trial(request, identifier).document(f"result/{name}")
        except LookupError as error:
            raise HTTPException(404, str(error)) from error
        return FileResponse(path, media_type=_DOCUMENT_TYPES[path.suffix], filename=path.name)

    def discard(self, request: Request, identifier: str) -> None:
        """Remove the files and the answer of a trial now; a reading that runs ends."""
        self._trials.discard(self._trial(request, identifier))

    async def upload(self, request: Request) -> Response:
        """Read one DICOM radiograph of the spine, in the words of the spine system that scripts were written for.

        POST /api/read takes pictures and volumes.

        `confidence` is in percent; probabilities and thresholds are from 0 to 1; `bbox` is left, top, right, bottom in
        pixels of the image, which `annotated_image` has too. `model` says which weights answered.
        """
        try:
            trial, form = await self._received(request)
        except AnyHTTPException as error:
            return _upload_error(error.status_code, str(error.detail))
        try:
            if len(form.all_files) != 1 or _FILE not in form.files:
                return _upload_error(400, "send one DICOM file in the field `file`")
            if not self._spine:
                return _upload_error(400, "routes.toml has no route for the spine")
            if await to_thread.run_sync(_is_no_dicom, form.all_files[0].path):
                return _upload_error(400, _ONE_RADIOGRAPH)
            (trial.folder / _FILE).rename(trial.folder / SLOTS[0])
            trial.names = {path.replace(_FILE, SLOTS[0], 1): name for path, name in trial.names.items()}
            self._trials.read(trial, TrialOptions(handler=self._spine, has_upload_answer=True))
            # The thread of the trials changes the state.
            while not (trial.state.stage.is_final or trial.is_discarded):  # noqa: ASYNC110
                await anyio.sleep(_POLL_S)
            return await to_thread.run_sync(_upload_answer, trial)
        finally:
            self._trials.discard(trial)

    async def _received(self, request: Request) -> tuple[Trial, Form]:
        """Return a new trial with the files of a request."""
        caller: str = request.state.caller
        try:
            trial = self._trials.open(caller)
        except TrialRefused as error:
            raise HTTPException(429, str(error)) from error
        with ExitStack() as unless_received:
            unless_received.callback(self._trials.discard, trial)
            form = await self._uploads.receive(request, trial.folder, caller=caller)
            unless_received.pop_all()
        trial.names = {str(file.path.relative_to(trial.folder)): file.name for file in form.all_files}
        return trial, form

    def _trial(self, request: Request, identifier: str) -> Trial:
        try:
            return self._trials.of(request.state.caller, identifier)
        except LookupError as error:
            raise HTTPException(404, str(error)) from error


def read_options(form: Form, handlers: set[str]) -> TrialOptions:
    """Return the options of a form.

    Raises: ValueError.
    """
    values = form.values
    if unknown := set(form.files) - set(SLOTS):
        raise ValueError(f"the fields {', '.join(sorted(unknown))} have files; files are taken in {', '.join(SLOTS)}")
    if not form.files:
        raise ValueError("nothing was uploaded; choose a file")
    handler = values.get("model", "")
    if handler and handler not in handlers:
        raise ValueError(f"there is no such model; give one of {', '.join(sorted(handlers))}, or none for the routes")
    return trial_options(
        handler,
        [values.get(name, "") for name in ("point", "point_2", "point_3")],
        point_is=values.get("point_is", "mm"),
        body_part=values.get("body_part", ""),
        is_look=bool(values.get("look")),
    )


def _is_no_dicom(path: Path) -> bool:
    """Return whether a file is a picture or a volume, of which no model of the spine reads any."""
    return format_of(path).kind in {FileKind.PICTURE, FileKind.NRRD, FileKind.NIFTI}


def _answer(trial: Trial) -> TrialAnswer:
    content = trial.content() if trial.state.stage is Stage.DONE else {"readings": (), "unread": ()}
    return TrialAnswer(
        id=trial.identifier,
        stage=trial.state.stage,
        study_number=trial.state.number,
        study_count=trial.state.count,
        error=trial.state.error,
        readings=tuple(_reading(trial, entry) for entry in content["readings"]),
        unread=tuple(trial.shown(f"{entry['path']}: {entry['reason']}") for entry in content["unread"]),
    )


def _reading(trial: Trial, entry: Mapping[str, Any]) -> TrialReading:
    result = trial.folder / entry["folder"] / "result.json"
    number = entry["folder"].rpartition("/")[2]
    documents = tuple(f"{number}/{name}" for name in entry.get("files", ()))
    return TrialReading(
        **{name: entry[name] for name in ("study_instance_uid", "prior_uids", "route", "handler")},
        **{name: entry[name] for name in ("answer", "is_refusal", "seconds") if name in entry},
        error=trial.shown(entry["error"]),
        advice=_NAME_PART if entry.get("wants_body_part") else "",
        documents=documents,
        result=json.loads(result.read_text("utf-8")) if result.exists() else {},
    )


def _upload_answer(trial: Trial) -> Response:
    """Return what the process of a trial made of a radiograph."""
    path = trial.folder / UPLOAD_ANSWER
    if trial.state.stage is not Stage.DONE:
        return _upload_error(400, trial.state.error or "the node ends")
    if not path.exists():
        errors = [trial.shown(reading["error"]) for reading in trial.content()["readings"]]
        return _upload_error(400, "; ".join(errors) or "the file is not read")
    content = path.read_bytes()
    is_error = content.startswith(b'{"status": "error"')
    return Response(content, 400 if is_error else 200, media_type="application/json")


def _upload_error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"status": "error", "message": message}, status)
