"""The tables of node.toml, and the settings of a node: frozen, valid once constructed."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ainode.node.errors import ConfigError
from ainode.node.routes import Route

# PS3.5 6.2: 16 characters at most, no backslash or control characters.
AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
Port = Annotated[int, Field(ge=1, le=65535)]
# No user or password in it: they come from the environment.
Url = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^(https?://[^/?#@\s]+(/[^?#@\s]*)?)?$")]


class Frozen(BaseModel):
    """A table of a configuration file: frozen, and closed against unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Certified(Frozen):
    """A table that may name our certificate and its key, both in PEM, or neither."""

    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key):
            message = "give tls_certificate and tls_key, or neither"
            raise ValueError(message)
        return self


class NodeTable(_Certified):
    """`[node]`: who we are, where we listen, what we accept; with a certificate callers must speak TLS."""

    ae_title: AETitle = "AINODE"
    bind: str = "127.0.0.1"
    port: Port = 11112
    data: Path = Path("~/.local/share/ainode")
    retention_days: Annotated[int, Field(ge=0)] = 7
    allow: tuple[str, ...] = ("*@127.0.0.0/8",)
    max_associations: Annotated[int, Field(ge=1)] = 32
    max_pdu_bytes: Annotated[int, Field(ge=4096)] = 131_072
    max_object_bytes: Annotated[int, Field(ge=1)] = 4 * 1024**3
    min_free_bytes: Annotated[int, Field(ge=0)] = 2 * 1024**3
    network_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    name: str = "ainode"
    tls_client_ca: Path | None = None
    """then callers must show a certificate that one of these signed"""

    @model_validator(mode="after")
    def _trusting_behind_tls(self) -> Self:
        if self.tls_client_ca and not self.tls_certificate:
            message = "tls_client_ca needs tls_certificate and tls_key"
            raise ValueError(message)
        return self


class CompletenessTable(Frozen):
    """`[completeness]`: how long a study may stay silent before it counts as complete."""

    min_silence_s: Annotated[float, Field(ge=0)] = 2.0
    max_silence_s: Annotated[float, Field(gt=0)] = 60.0
    default_silence_s: Annotated[float, Field(gt=0)] = 10.0
    """for a sender without history"""
    limit_s: Annotated[float, Field(gt=0)] = 900.0
    """an association that stays open longer than this no longer holds a study back"""
    ask_sender: bool = True

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_silence_s > self.max_silence_s:
            message = "min_silence_s is longer than max_silence_s"
            raise ValueError(message)
        return self


class ReaderTable(Frozen):
    """`[reader]`: the process that holds a model."""

    time_limit_s: Annotated[float, Field(gt=0)] = 600.0
    memory_limit_bytes: Annotated[int, Field(gt=0)] = 12 * 1024**3
    idle_s: Annotated[float, Field(gt=0)] = 900.0
    """an unused reader gives its memory back after this long"""
    precision: Literal["f32", "bf16"] = "f32"
    device: Literal["cpu", "cuda", "auto"] = "auto"


class DatabaseTable(Frozen):
    """`[database]`: SQLite beside the data by default, PostgreSQL for several machines."""

    url: str = ""


class DeliveryTable(Frozen):
    """`[delivery]`: how hard to try."""

    attempts: Annotated[int, Field(ge=1)] = 12
    first_wait_s: Annotated[float, Field(gt=0)] = 2.0
    longest_wait_s: Annotated[float, Field(gt=0)] = 600.0
    commitment_wait_s: Annotated[float, Field(gt=0)] = 30.0


class WebTable(_Certified):
    """`[web]`: announcements, STOW-RS and state over HTTP, with a certificate over HTTPS; off until it is asked for."""

    enabled: bool = False
    bind: str = "127.0.0.1"
    port: Port = 8080


class Peer(Frozen):
    """`[[peer]]`: another DICOM application entity, as a source, an archive or both."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]
    ae_title: AETitle | Literal[""] = ""
    host: str = ""
    port: Port | Literal[0] = 0
    sr: Literal["3d", "comprehensive"] = "3d"
    presentation_state: bool = False
    """whether regions go there as Grayscale Softcopy Presentation States, too"""
    segmentation: Literal["none", "fractional", "labelmap"] = "none"
    """whether saliency goes there as Segmentations, too, and of which type"""
    confirm: Literal["commitment", "query", "none"] = "query"
    deliver: Literal["dimse", "dicomweb", "orthanc"] = "dimse"
    retrieve: Literal["get", "move", "dicomweb"] = "get"
    """how earlier studies are found and fetched: C-FIND with C-GET or C-MOVE, or QIDO-RS with WADO-RS"""
    dicomweb: Url = ""
    orthanc: Url = ""
    """its REST address, where it is an Orthanc: announced studies are pulled there, `deliver` may name it"""
    user_env: str = ""
    password_env: str = ""
    token_env: str = ""
    """names of environment variables, for `dicomweb` and `orthanc`: no secret stands in a file"""
    tls: bool = False
    """whether its DIMSE port speaks TLS; `dicomweb` and `orthanc` say so themselves"""
    ca_file: str = ""
    """certificates that it is trusted by; '' are the system's"""
    tls_certificate: str = ""
    tls_key: str = ""
    """ours, in PEM, where it asks for one"""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if "dicomweb" in (self.deliver, self.retrieve) and not self.dicomweb:
            message = f"peer {self.name!r}: deliver or retrieve is by DICOMweb; give `dicomweb`, its address"
            raise ValueError(message)
        if self.deliver == "orthanc" and not self.orthanc:
            message = f"peer {self.name!r}: deliver is by Orthanc's REST interface; give `orthanc`, its address"
            raise ValueError(message)
        by_web = self.deliver == "orthanc" or self.deliver == self.retrieve == "dicomweb"
        web_alone = by_web and self.confirm != "commitment"
        if not (web_alone or self.speaks_dimse):
            message = (
                f"peer {self.name!r}: give ae_title, host and port; or deliver and retrieve by DICOMweb alone, or "
                'deliver = "orthanc"'
            )
            raise ValueError(message)
        if self.token_env and self.user_env:
            message = f"peer {self.name!r}: give token_env (bearer), or user_env and password_env (basic), not both"
            raise ValueError(message)
        if bool(self.tls_certificate) != bool(self.tls_key):
            message = f"peer {self.name!r}: give tls_certificate and tls_key, or neither"
            raise ValueError(message)
        return self

    @property
    def speaks_dimse(self) -> bool:
        """Whether we know where and under which name to call it."""
        return bool(self.ae_title and self.host and self.port)


class PriorsTable(Frozen):
    """`[priors]`: where fetched earlier studies lie, and to whom a C-MOVE sends them."""

    retention_days: Annotated[int, Field(ge=1)] = 7
    move_ae_title: AETitle = "AINODE_PRIORS"
    """a second AE title of ours: what arrives there is never taken for a study to read"""
    move_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """open only while a C-MOVE runs"""


class Tables(Frozen):
    """What stands once in node.toml."""

    node: NodeTable = NodeTable()
    completeness: CompletenessTable = CompletenessTable()
    reader: ReaderTable = ReaderTable()
    database: DatabaseTable = DatabaseTable()
    delivery: DeliveryTable = DeliveryTable()
    web: WebTable = WebTable()
    priors: PriorsTable = PriorsTable()


class Settings(Tables):
    """Everything the node was told, passed and never fetched."""

    peers: tuple[Peer, ...] = ()
    routes: tuple[Route, ...] = ()

    def peer(self, name: str) -> Peer:
        """Return the peer of that name.

        Raises: ConfigError if there is none.
        """
        for peer in self.peers:
            if peer.name == name:
                return peer
        names_text = ", ".join(peer.name for peer in self.peers) or "none"
        message = f"no [[peer]] is named {name!r} in node.toml (known: {names_text})"
        raise ConfigError(message)

    def peer_of_title(self, ae_title: str) -> Peer | None:
        """Return the first peer with that AE title, None if no peer has it."""
        return next((peer for peer in self.peers if peer.ae_title == ae_title), None)

    @property
    def data(self) -> Path:
        """Return the folder of everything the node keeps."""
        return self.node.data.expanduser()

    @property
    def database_url(self) -> str:
        """Return the SQLAlchemy address of the catalog."""
        return self.database.url or f"sqlite:///{self.data / 'catalog.sqlite'}"
