"""The HTTP interface: announce a study, ask for its state or explanation, have the study read now; and STOW-RS."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Annotated, Final, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from ainode.node import __version__
from ainode.node.audit.messages import Message
from ainode.node.audit.recorder import drop
from ainode.node.deciding.liveness import Liveness
from ainode.node.disk import is_full
from ainode.node.domain import FARTHEST_MM, REQUEST, UID, UID_PATTERN, Location
from ainode.node.errors import DatabaseUnavailable
from ainode.node.jobs.retries import deliver_study
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.report_search import ReportSearch
from ainode.node.offline.trials import Trials
from ainode.node.proving import golden
from ainode.node.settings import Settings
from ainode.node.web.doorway import Doorway
from ainode.node.web.fhir import FhirReports
from ainode.node.web.guard import Guard
from ainode.node.web.headers import PROTECTION, DefaultHeaders
from ainode.node.web.limits import Complaints
from ainode.node.web.logins import Logins
from ainode.node.web.metrics import add_metrics
from ainode.node.web.puller import is_pulled
from ainode.node.web.readiness import Readiness
from ainode.node.web.state import StudyStatus, study_status
from ainode.node.web.stow import Upload
from ainode.node.web.tokens import Tokens
from ainode.node.web.trial_requests import TrialRequests
from ainode.node.web.uploads import DISK_FULL, Uploads

StudyUID = Annotated[str, Path(pattern=rf"^{UID_PATTERN}$", description="Study Instance UID")]
_UID_OR_NONE: Final = rf"^({UID_PATTERN})?$"
# 40 hexadecimal digits in five groups: what Orthanc makes of Patient ID and Study Instance UID.
_ORTHANC_STUDY_OR_NONE: Final = r"^([0-9a-f]{8}(-[0-9a-f]{8}){4})?$"
_MAX_INSTANCES: Final = 1_000_000
_MAX_POSITIONS: Final = 100
_READY_AT_ONCE: Final = 4
_READY_WAITING: Final = 64
_DOCS_STYLE: Final = (
    "body{max-width:60rem;margin:0 auto;padding:1rem;font:1rem/1.5 system-ui,sans-serif}"
    "dt{margin-top:1.5rem;font-weight:600}dd{margin:0}code,pre{overflow-wrap:anywhere}"
    "pre{padding:.5rem;white-space:pre-wrap;background:#f1f3f5}"
)
_DOCS_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_DOCS_STYLE.encode()).digest()).decode()
_DOCS_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_DOCS_STYLE_HASH}'; frame-ancestors 'none'"
_BEARER: Final = HTTPBearer(auto_error=False, description="`ainode token add NAME` creates the token")
Coordinate = Annotated[float, Field(ge=-FARTHEST_MM, le=FARTHEST_MM, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The parts of the node that the HTTP interface uses."""

    settings: Settings
    catalog: Catalog
    ledger: Ledger
    announcements: Announcements
    tokens: Tokens
    complaints: Complaints
    doorway: Doorway
    on_announced: Callable[[Announcement], None]
    """called after the announcement is committed"""
    liveness: Liveness
    readiness: Readiness
    uploads: Uploads
    trials: Trials
    record: Callable[[Message], None] = drop
    """writes into the audit trail"""
    metrics: Callable[[], str] | None = None
    """returns the page for Prometheus, None where there is none"""
    reports: ReportSearch | None = None
    """the reports for whoever asks by FHIR, None where nobody may"""


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid")

    peer: str = Field(
        "", description="name of the [[peer]] that has the study; '' where another system sends the study"
    )
    orthanc_study: str = Field(
        "",
        pattern=_ORTHANC_STUDY_OR_NONE,
        description="identifier of the study in the peer's Orthanc, which keeps a study for each patient of a Study "
        "Instance UID; '' for every study of the Study Instance UID",
    )


class AnnounceQuestion(_Question):
    """An announcement: the study is complete, with this many instances."""

    instances: int = Field(ge=1, le=_MAX_INSTANCES)


class PointedPosition(BaseModel):
    """A position in the patient at which somebody points, such as a nodule."""

    model_config = ConfigDict(extra="forbid")

    position_mm: tuple[Coordinate, Coordinate, Coordinate] = Field(
        description="x, y, z in the LPS coordinates of the Frame of Reference"
    )
    frame_of_reference_uid: str = Field(
        "", pattern=_UID_OR_NONE, description="'' where the study has a single Frame of Reference"
    )
    series_instance_uid: str = Field("", pattern=_UID_OR_NONE)

    def location(self) -> Location:
        """Return the position as a location of the domain, whose origin is a request."""
        return Location(
            self.position_mm,
            REQUEST,
            frame_of_reference_uid=UID(self.frame_of_reference_uid),
            series_instance_uid=UID(self.series_instance_uid),
        )


class ReadQuestion(_Question):
    """A request to read the received instances of the study now."""

    positions: tuple[PointedPosition, ...] = Field((), max_length=_MAX_POSITIONS)


class Health(BaseModel):
    """The state and version of the node."""

    status: str = Field(description="`healthy`, or what is wrong")
    version: str
    models_loaded: tuple[str, ...] = Field(
        description="handlers that the node reads with; each loads its networks at its first study"
    )
    device: str
    self_test: Literal["off", "not run", "passed", "failed"] = Field(
        description="the last self-tests of the routes of [self_test]; a failed one changes no status"
    )
    timestamp: datetime


class PartState(BaseModel):
    """The state of a part of the node, and the reason if the part is not ready."""

    status: Literal["ready", "not ready"]
    reason: str


class Ready(BaseModel):
    """Whether the node can take a study now."""

    status: Literal["ready", "not ready"]
    parts: dict[str, PartState]
    attention: str = Field(description="receivers that ended, models with too few readers; it changes no status")


def application(dependencies: Dependencies, pages: FastAPI | None = None) -> FastAPI:
    """Return the HTTP application, with people's pages if there are any.

    Its own page at /docs uses no script and no other server.
    """
    app = FastAPI(
        title="ainode",
        version=__version__,
        summary="A DICOM AI node",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the address of a redirect would hold the Host that the caller sends
    )
    app.add_middleware(
        Guard,
        tokens=dependencies.tokens,
        complaints=dependencies.complaints,
        logins=Logins(dependencies.record),
        settings=dependencies.settings,
    )
    app.add_middleware(DefaultHeaders)
    app.add_exception_handler(RequestValidationError, _refusal)
    app.add_exception_handler(DatabaseUnavailable, _unavailable)
    app.add_exception_handler(OSError, _disk_failed)
    app.add_exception_handler(Exception, _failed)

    _add_states(app, dependencies)
    if dependencies.metrics:
        add_metrics(app, dependencies.metrics, _caller)
    if pages:
        app.mount("/console", pages)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        if pages:
            return RedirectResponse("/console/")
        raise HTTPException(404, "nothing is at this address; see /health, /ready and /docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_page(app), headers={"Content-Security-Policy": _DOCS_POLICY})

    app.include_router(Studies(dependencies).router(), tags=["study"], dependencies=[Depends(_caller)])
    Upload(dependencies.doorway, dependencies.complaints).add_routes(app, _caller)
    _add_trials(app, dependencies)
    if dependencies.reports:
        fhir = FhirReports(dependencies.reports, dependencies.record)
        app.include_router(fhir.router(), tags=["fhir"], dependencies=[Depends(_caller)])
    return app


def _add_trials(app: FastAPI, dependencies: Dependencies) -> None:
    """Add the requests that read files and keep nothing."""
    router = APIRouter(tags=["files"], dependencies=[Depends(_caller)])
    requests = TrialRequests(dependencies.settings, dependencies.uploads, dependencies.trials)
    requests.add_routes(app, router)
    app.include_router(router)


def _add_states(app: FastAPI, dependencies: Dependencies) -> None:
    """Add the two questions that need no token, and that are answered while every thread of a request waits."""
    limit = CapacityLimiter(_READY_AT_ONCE)
    models = dependencies.settings.handlers

    @app.get("/health", tags=["node"])
    async def health(response: Response) -> Health:
        """Return 200 if the node receives studies and takes them up, else 503 and the reason; needs no token."""
        fault = dependencies.liveness.fault()
        response.status_code = 503 if fault else 200
        return Health(
            status=fault or "healthy",
            version=__version__,
            models_loaded=models,
            device=dependencies.settings.reader.device,
            self_test=golden.state(dependencies.settings),
            timestamp=datetime.now(UTC),
        )

    @app.get("/ready", tags=["node"])
    async def ready(response: Response) -> Ready:
        """Return 200 if database, intake, receiver and disk are ready, else 503; needs no token."""
        if limit.statistics().tasks_waiting >= _READY_WAITING:
            raise HTTPException(503, "too many callers wait for the answer")
        faults, attention = await to_thread.run_sync(dependencies.readiness.state, limiter=limit)
        response.status_code = 503 if any(faults.values()) else 200
        parts = {name: PartState(status=_word(fault), reason=fault) for name, fault in faults.items()}
        return Ready(status=_word("".join(faults.values())), parts=parts, attention=attention)


def _refusal(_: Request, error: Exception) -> JSONResponse:
    """Return status 422 and what is wrong where, without the value: a NaN could not be encoded as JSON."""
    problems = error.errors() if isinstance(error, RequestValidationError) else ()
    detail = [{key: problem[key] for key in ("type", "loc", "msg")} for problem in problems]
    return JSONResponse({"detail": detail}, 422)


def _unavailable(_: Request, error: Exception) -> JSONResponse:
    """Return status 503 while the database does not answer."""
    return JSONResponse({"detail": f"the node cannot ask its {error}; try again"}, 503, {"Retry-After": "10"})


def _disk_failed(_: Request, error: Exception) -> JSONResponse:
    """Return status 507 while the disk is full.

    Raises: `error`, if the error is another.
    """
    if not is_full(error):
        raise error
    return JSONResponse({"detail": DISK_FULL}, 507)


def _failed(_: Request, __: Exception) -> JSONResponse:
    """Return status 500 in words; no middleware adds its headers any more."""
    return JSONResponse({"detail": "the request failed; the log of the node says where"}, 500, dict(PROTECTION))


def _word(fault: str) -> Literal["ready", "not ready"]:
    return "not ready" if fault else "ready"


def _caller(request: Request, _: Annotated[object, Depends(_BEARER)]) -> str:
    """Return the name of the caller, whose token `Guard` has verified; the bearer is for the OpenAPI description."""
    name: str = request.state.caller
    return name


class Studies:
    """The requests about one study."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._node = dependencies

    def router(self) -> APIRouter:
        """Return the routes of the requests."""
        router = APIRouter(prefix="/studies/{study}")
        router.add_api_route("/announce", self.announce, methods=["POST"], status_code=202)
        router.add_api_route("/read", self.read_now, methods=["POST"], status_code=202)
        router.add_api_route("", self.state)
        router.add_api_route("/explanation", self.explanation)
        return router

    def announce(self, study: StudyUID, question: AnnounceQuestion) -> StudyStatus:
        """Announce a complete study; the node pulls the study if the [[peer]] has `orthanc` or `dicomweb`."""
        return self._save_announcement(study, question, expected=question.instances)

    def read_now(self, study: StudyUID, question: ReadQuestion) -> StudyStatus:
        """Read the received instances of a study now, after a pull if a peer is named.

        No finished job runs again, but its results come back: its destinations are asked which documents they still
        have, and get what they miss.
        """
        if not self._node.catalog.content(UID(study)) and not self._pulls_from(question.peer):
            raise HTTPException(
                404,
                f"study {study}: the node has no instance of the study; name a `peer` with `orthanc` or `dicomweb`, "
                "or send the study",
            )
        locations = tuple(position.location() for position in question.positions)
        deliver_study(self._node.settings, self._node.ledger, UID(study))
        return self._save_announcement(study, question, read_now=True, locations=locations)

    def state(self, study: StudyUID) -> StudyStatus:
        """Return the state of a study with its reason, and the study's jobs, documents and deliveries."""
        node = self._node
        status = study_status(UID(study), node.catalog, node.ledger, node.announcements)
        if status is None:
            raise HTTPException(404, f"study {study}: the node never received the study, and nobody announced it")
        return status

    def explanation(self, study: StudyUID) -> list[dict[str, object]]:
        """Return for each route the series that match, or the attribute and value that do not match."""
        explanation: list[dict[str, object]] | None = self._node.catalog.explanation(UID(study))
        if explanation is None:
            raise HTTPException(404, f"study {study}: the node has not routed the study yet")
        return explanation

    def _save_announcement(
        self,
        study: str,
        question: _Question,
        *,
        expected: int | None = None,
        read_now: bool = False,
        locations: tuple[Location, ...] = (),
    ) -> StudyStatus:
        """Commit an announcement, tell the node about the announcement, and return the study's state."""
        now = datetime.now(UTC)
        announcement = Announcement(
            study_instance_uid=UID(study),
            announced_at=now,
            due_at=now,
            peer=question.peer,
            expected=expected,
            read_now=read_now,
            locations=locations,
            state=Fetching.WAITING if self._pulls_from(question.peer) else Fetching.HERE,
            orthanc_studies=(question.orthanc_study,) if question.orthanc_study else (),
        )
        self._node.announcements.announce(announcement)
        self._node.on_announced(announcement)
        return self.state(study)

    def _pulls_from(self, peer: str) -> bool:
        """Return whether the node pulls studies from this peer."""
        if not peer:
            return False
        peers = {configured.name: configured for configured in self._node.settings.peers}
        if peer not in peers:
            names = ", ".join(peers) or "none"
            raise HTTPException(422, f"node.toml has no [[peer]] named {peer!r} (names: {names})")
        return is_pulled(peers[peer])


def _page(app: FastAPI) -> str:
    """Return the OpenAPI description of the application as plain HTML."""
    rows = [
        f"<dt><code>{method.upper()} {escape(path)}</code><dd>{escape(operation.get('description', ''))}"
        + "".join(f"<pre>{escape(sample['source'])}</pre>" for sample in operation.get("x-codeSamples", ()))
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>ainode</title>'
        f"<style>{_DOCS_STYLE}</style><h1>ainode</h1>"
        "<p>Every request except <code>/health</code> and <code>/ready</code> needs "
        "<code>Authorization: Bearer TOKEN</code>; "
        "<code>ainode token add NAME</code> creates a token. Bodies and answers in full: "
        f'<a href="openapi.json">openapi.json</a>.<dl>{"".join(rows)}</dl></html>'
    )
