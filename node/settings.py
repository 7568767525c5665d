"""Configuration files and environment in, one frozen `Settings` out; an unknown key is an error.

Order, the later wins: the defaults here, `node.toml`, `AINODE_*` variables (`AINODE_NODE__PORT=11113`).
"""

import tomllib
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ainode.node.errors import ConfigError
from ainode.node.routes import Route

# PS3.5 6.2: 16 characters at most, no backslash or control characters.
AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
Port = Annotated[int, Field(ge=1, le=65535)]
# No user or password in it: they come from the environment.
Url = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^(https?://[^/?#@\s]+(/[^?#@\s]*)?)?$")]

# pydantic has other words for a key of a table than for a key of a dataclass.
_WORDS = {"extra_forbidden": "unknown key", "unexpected_keyword_argument": "unknown key"}


class _Frozen(BaseModel):
    """A table of a configuration file: frozen, and closed against unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeTable(_Frozen):
    """`[node]`: who we are, where we listen, what we accept."""

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
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    """both, in PEM: then callers must speak TLS"""
    tls_client_ca: Path | None = None
    """then they must show a certificate that one of these signed"""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            message = "give tls_certificate and tls_key, or neither"
            raise ValueError(message)
        if self.tls_client_ca and not self.tls_certificate:
            message = "tls_client_ca needs tls_certificate and tls_key"
            raise ValueError(message)
        return self


class CompletenessTable(_Frozen):
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


class ReaderTable(_Frozen):
    """`[reader]`: the process that holds a model."""

    time_limit_s: Annotated[float, Field(gt=0)] = 600.0
    memory_limit_bytes: Annotated[int, Field(gt=0)] = 12 * 1024**3
    idle_s: Annotated[float, Field(gt=0)] = 900.0
    """an unused reader gives its memory back after this long"""
    precision: Literal["f32", "bf16"] = "f32"
    device: Literal["cpu", "cuda", "auto"] = "auto"


class DatabaseTable(_Frozen):
    """`[database]`: SQLite beside the data by default, PostgreSQL for several machines."""

    url: str = ""


class DeliveryTable(_Frozen):
    """`[delivery]`: how hard to try."""

    attempts: Annotated[int, Field(ge=1)] = 12
    first_wait_s: Annotated[float, Field(gt=0)] = 2.0
    longest_wait_s: Annotated[float, Field(gt=0)] = 600.0
    commitment_wait_s: Annotated[float, Field(gt=0)] = 30.0


class WebTable(_Frozen):
    """`[web]`: announcements, STOW-RS and state over HTTP; off until it is asked for."""

    enabled: bool = False
    bind: str = "127.0.0.1"
    port: Port = 8080
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    """both, in PEM: then it is https"""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            message = "give tls_certificate and tls_key, or neither"
            raise ValueError(message)
        return self


class Peer(_Frozen):
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


class PriorsTable(_Frozen):
    """`[priors]`: where fetched earlier studies lie, and to whom a C-MOVE sends them."""

    retention_days: Annotated[int, Field(ge=1)] = 7
    move_ae_title: AETitle = "AINODE_PRIORS"
    """a second AE title of ours: what arrives there is never taken for a study to read"""
    move_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """open only while a C-MOVE runs"""


class _NodeFile(BaseSettings):
    """node.toml and the environment over it."""

    model_config = SettingsConfigDict(env_prefix="AINODE_", env_nested_delimiter="__", extra="forbid", frozen=True)

    node: NodeTable = NodeTable()
    completeness: CompletenessTable = CompletenessTable()
    reader: ReaderTable = ReaderTable()
    database: DatabaseTable = DatabaseTable()
    delivery: DeliveryTable = DeliveryTable()
    web: WebTable = WebTable()
    priors: PriorsTable = PriorsTable()
    peer: tuple[Peer, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, which comes in as arguments."""
        return env_settings, init_settings


class _RoutesFile(_Frozen):
    """routes.toml: its tables are the domain's own types, which are held to this configuration."""

    model_config = ConfigDict(
        allow_inf_nan=False,  # a digest is made of them
        alias_generator=lambda field: {"source": "from"}.get(field, field),  # `from` is no name in Python
    )

    route: tuple[Route, ...] = ()


class Settings(_Frozen):
    """Everything the node was told, passed and never fetched."""

    node: NodeTable = NodeTable()
    completeness: CompletenessTable = CompletenessTable()
    reader: ReaderTable = ReaderTable()
    database: DatabaseTable = DatabaseTable()
    delivery: DeliveryTable = DeliveryTable()
    web: WebTable = WebTable()
    priors: PriorsTable = PriorsTable()
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


def _toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); give --config FILE, or leave it out for the defaults"
        raise ConfigError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path}: is not TOML: {error}"
        raise ConfigError(message) from error


def _refusal(source: object, error: ValidationError) -> ConfigError:
    problems = [
        f"{'.'.join(map(str, problem['loc']))}: {_WORDS.get(problem['type'], problem['msg'])}"
        for problem in error.errors()
    ]
    return ConfigError(f"{source}: {'; '.join(problems)}")


def _check_destinations(settings: Settings, path: Path) -> None:
    names = {peer.name for peer in settings.peers}
    for route in settings.routes:
        for unknown in sorted(set(route.destinations) - names):
            message = f"{path}: route {route.name!r} sends to {unknown!r}, which no [[peer]] of node.toml is named"
            raise ConfigError(message)
        if route.priors:
            _check_priors(settings, route.name, settings.peer(route.priors.source))
    for table, entries in (("[[peer]]", settings.peers), ("[[route]]", settings.routes)):
        repeated = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
        if repeated:
            raise ConfigError(f"two {table} are named {repeated[0]!r}; rename one")
    # A delivery's workflow is named by job and destination; these two names belong to other workflows of a job.
    if reserved := names & {"read", "priors"}:
        raise ConfigError(f"no [[peer]] can be named {reserved.pop()!r}; rename it")


def _check_priors(settings: Settings, route: str, peer: Peer) -> None:
    if peer.retrieve != "dicomweb" and not peer.speaks_dimse:
        raise ConfigError(
            f"route {route!r} fetches priors from {peer.name!r} by DIMSE: give its ae_title, host and port in "
            'node.toml, or retrieve = "dicomweb"'
        )
    if peer.retrieve == "move" and not settings.priors.move_port:
        raise ConfigError(
            f"route {route!r} fetches priors from {peer.name!r} by C-MOVE: give [priors] move_port in node.toml, and "
            f"make {settings.priors.move_ae_title} with that port known to {peer.name!r}; or set its retrieve"
        )


def shipped(name: str) -> Path:
    """Return the path of a configuration file that ships with the node."""
    return Path(str(resources.files("ainode.config").joinpath(name)))


def load(config: Path | None = None) -> Settings:
    """Return the settings of `config` (node.toml; routes.toml beside it if there is one) and the environment.

    Raises: ConfigError naming the file, the key and what is wrong with it.
    """
    node_path = config or shipped("node.toml")
    beside = node_path.with_name("routes.toml")
    routes_path = beside if beside.exists() else shipped("routes.toml")
    try:
        file = _NodeFile(**_toml(node_path))  # type: ignore[arg-type]
    except ValidationError as error:
        raise _refusal(f"{node_path} or AINODE_* in the environment", error) from error
    try:
        routes = _RoutesFile.model_validate(_toml(routes_path))
    except ValidationError as error:
        raise _refusal(routes_path, error) from error
    settings = Settings(
        node=file.node,
        completeness=file.completeness,
        reader=file.reader,
        database=file.database,
        delivery=file.delivery,
        web=file.web,
        priors=file.priors,
        peers=file.peer,
        routes=routes.route,
    )
    _check_destinations(settings, routes_path)
    return settings
