"""The HTTP interface: announce a study, ask its state and explanation, have it read now; STOW-RS beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Response
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from ainode.node import __version__
from ainode.node.domain import REQUEST, UID, UID_PATTERN, Location, Position
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.settings import Settings
from ainode.node.web.doorway import Doorway
from ainode.node.web.limits import ShortBodies
from ainode.node.web.puller import is_pulled
from ainode.node.web.state import StudyStatus, study_status
from ainode.node.web.stow import Upload
from ainode.node.web.tokens import Tokens

StudyUID = Annotated[str, Path(pattern=rf"^{UID_PATTERN}$", description="Study Instance UID")]
_UID_OR_NONE: Final = rf"^({UID_PATTERN})?$"
_MOST_INSTANCES: Final = 1_000_000
_MOST_POSITIONS: Final = 100


@dataclass(frozen=True, slots=True)
class Desk:
    """What the interface works with."""

    settings: Settings
    catalog: Catalog
    ledger: Ledger
    announcements: Announcements
    tokens: Tokens
    doorway: Doorway
    on_announced: Callable[[Announcement], None]
    """called after the announcement is committed"""
    is_alive: Callable[[], bool]
    """whether C-STOREs are answered"""


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid")

    peer: str = Field("", description="who has the study, by the name of its [[peer]]; '' where it comes by itself")


class AnnounceQuestion(_Question):
    """A study exists, whole, with this many instances."""

    instances: int = Field(ge=1, le=_MOST_INSTANCES)


class PointedAt(BaseModel):
    """A place in the patient, such as a nodule."""

    model_config = ConfigDict(extra="forbid")

    position_mm: Position = Field(description="x, y, z in LPS of the Frame of Reference")
    frame_of_reference_uid: str = Field("", pattern=_UID_OR_NONE, description="'' where the study has only one")
    series_instance_uid: str = Field("", pattern=_UID_OR_NONE)

    def location(self) -> Location:
        """Return it as the domain's, with who said so."""
        return Location(
            self.position_mm,
            REQUEST,
            frame_of_reference_uid=UID(self.frame_of_reference_uid),
            series_instance_uid=UID(self.series_instance_uid),
        )


class ReadQuestion(_Question):
    """Read what there is, now."""

    positions: tuple[PointedAt, ...] = Field((), max_length=_MOST_POSITIONS)


class Health(BaseModel):
    """Whether the node takes studies."""

    status: str
    version: str


def application(desk: Desk) -> FastAPI:
    """Return the interface; its page at /docs needs no script and no other server."""
    app = FastAPI(title="ainode", version=__version__, summary="A DICOM AI node", docs_url=None, redoc_url=None)
    app.add_middleware(ShortBodies, except_below="/dicom-web/")
    caller = _caller(desk.tokens)

    @app.get("/health", tags=["node"])
    def health(response: Response) -> Health:
        """Say whether the node takes studies; 503 if it does not. Needs no token."""
        alive = desk.is_alive()
        response.status_code = 200 if alive else 503
        return Health(status="ok" if alive else "the receiver ended", version=__version__)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(_page(app))

    app.include_router(Studies(desk).router(), tags=["study"], dependencies=[Depends(caller)])
    Upload(desk.doorway, desk.settings.node.network_timeout_s).add_routes(app, caller)
    return app


def _caller(tokens: Tokens) -> Callable[..., str]:
    """Return the dependency that lets a token's owner in and gives its name."""
    bearer = HTTPBearer(auto_error=False, description="made by `ainode token add NAME`")

    def caller(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
        if not tokens.names():
            raise HTTPException(503, "nobody may call yet: make a token with `ainode token add NAME`")
        owner = tokens.owner(given.credentials) if given else None
        if owner is None:
            how = "send `Authorization: Bearer TOKEN`, made by `ainode token add NAME`"
            raise HTTPException(401, how, {"WWW-Authenticate": "Bearer"})
        return owner

    return caller


class Studies:
    """What can be asked of a study, and for it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def router(self) -> APIRouter:
        """Return the addresses."""
        router = APIRouter(prefix="/studies/{study}")
        router.add_api_route("/announce", self.announce, methods=["POST"], status_code=202)
        router.add_api_route("/read", self.read_now, methods=["POST"], status_code=202)
        router.add_api_route("", self.state)
        router.add_api_route("/explanation", self.explanation)
        return router

    def announce(self, study: StudyUID, said: AnnounceQuestion) -> StudyStatus:
        """Tell that a study is whole: pulled where its [[peer]] has `orthanc` or `dicomweb`, and not waited for."""
        return self._announce(study, said.peer, expected=said.instances)

    def read_now(self, study: StudyUID, said: ReadQuestion) -> StudyStatus:
        """Have a study read with what there is, after a pull if a peer is named; what was read is not read again."""
        if not self._desk.catalog.content(UID(study)) and not self._pulls_from(said.peer):
            raise HTTPException(
                404, f"study {study}: nothing of it is here; name a `peer` with an `orthanc`, or send it"
            )
        return self._announce(
            study, said.peer, read_now=True, locations=tuple(one.location() for one in said.positions)
        )

    def state(self, study: StudyUID) -> StudyStatus:
        """Say what became of a study: its jobs, documents and deliveries, and why."""
        desk = self._desk
        found = study_status(UID(study), desk.catalog, desk.ledger, desk.announcements)
        if found is None:
            raise HTTPException(404, f"study {study}: never received here, and nobody announced it")
        return found

    def explanation(self, study: StudyUID) -> list[dict[str, object]]:
        """Say which routes matched which series, or on which attribute and value they did not."""
        found: list[dict[str, object]] | None = self._desk.catalog.explanation(UID(study))
        if found is None:
            raise HTTPException(404, f"study {study}: not routed, so nothing is to be explained yet")
        return found

    def _announce(
        self,
        study: str,
        peer: str,
        *,
        expected: int | None = None,
        read_now: bool = False,
        locations: tuple[Location, ...] = (),
    ) -> StudyStatus:
        """Commit what was said, tell the node, answer with the study's state."""
        now = datetime.now(UTC)
        announcement = Announcement(
            study_instance_uid=UID(study),
            announced_at=now,
            due_at=now,
            peer=peer,
            expected=expected,
            read_now=read_now,
            locations=locations,
            state=Fetching.WAITING if self._pulls_from(peer) else Fetching.HERE,
        )
        self._desk.announcements.announce(announcement)
        self._desk.on_announced(announcement)
        return self.state(study)

    def _pulls_from(self, peer: str) -> bool:
        """Whether a study of this peer is pulled."""
        if not peer:
            return False
        known = {one.name: one for one in self._desk.settings.peers}
        if peer not in known:
            names = ", ".join(known) or "none"
            raise HTTPException(422, f"no [[peer]] is named {peer!r} in node.toml (known: {names})")
        return is_pulled(known[peer])


def _page(app: FastAPI) -> str:
    """Return the OpenAPI description as plain HTML."""
    rows = [
        f"<dt><code>{method.upper()} {escape(path)}</code><dd>{escape(one.get('description', ''))}"
        for path, methods in app.openapi()["paths"].items()
        for method, one in methods.items()
    ]
    return (
        '<!doctype html><html lang="en"><title>ainode</title><h1>ainode</h1>'
        "<p>Every question but <code>/health</code> needs <code>Authorization: Bearer TOKEN</code>, "
        "made by <code>ainode token add NAME</code>. Bodies and answers in full: "
        f'<a href="openapi.json">openapi.json</a>.<dl>{"".join(rows)}</dl></html>'
    )
