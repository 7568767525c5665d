"""The tables of node.toml, and the settings of a node: frozen, valid once constructed."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from ainode.node.errors import ConfigError
from ainode.node.routes import Route
from ainode.node.settings.assessment_codes import CodesTable
from ainode.node.settings.frozen import Frozen, refuse_half_pair
from ainode.node.settings.peers import Peer
from ainode.node.settings.values import (
    HEADER,
    PRINTED,
    AETitle,
    Bind,
    Bytes,
    BytesPerMinute,
    Days,
    Host,
    Network,
    PerMinute,
    Port,
    Seconds,
    ViewerUrl,
)


class _Certified(Frozen):
    """A table that names the certificate of the node and the key of the certificate, both in PEM, or neither."""

    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _refuse_half_certificate(self) -> Self:
        refuse_half_pair(self.tls_certificate, self.tls_key)
        return self


class NodeTable(_Certified):
    """`[node]`: name, address and limits of the node; with a certificate of the node, every caller must speak TLS."""

    ae_title: AETitle = "AINODE"
    bind: Bind = "127.0.0.1"
    port: Port = 11112
    data: Path = Path("~/.local/share/ainode")
    retention_days: Days = 7
    job_retention_days: Days = 90
    allow: tuple[str, ...] = ("*@127.0.0.0/8",)
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 32
    max_associations_per_caller: Annotated[int, Field(ge=1, le=1000)] = 24
    """of a peer by AE title and address, of any other caller by address"""
    max_instances_per_minute: PerMinute = 0
    max_bytes_per_minute: BytesPerMinute = 0
    """of each caller; the node reads more slowly beyond the rates, and 0 is no limit"""
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=16 * 1024**2)] = 131_072
    # A mebibyte: two images of a CT; what is larger than the limit is refused.
    max_object_bytes: Annotated[Bytes, Field(ge=1024**2)] = 4 * 1024**3
    min_free_bytes: Bytes = 2 * 1024**3
    network_timeout_s: Annotated[Seconds, Field(ge=0.1)] = 60.0
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=PRINTED)] = (
        "ainode"
    )
    group: str = ""
    """members of the group may read the data folder; with '', the user of the node alone may"""
    time_zone: str = ""
    """IANA name of the zone of documents without an offset of their source; '' is the clock of the process"""
    tls_client_ca: Path | None = None
    """a PEM file; every caller must show a certificate that an authority in the file signed"""
    tls_crl: tuple[Path, ...] = ()
    """PEM files with the revocation lists of these authorities; a caller without a list in force is refused"""

    @model_validator(mode="after")
    def _refuse_authority_without_tls(self) -> Self:
        if self.tls_client_ca and not self.tls_certificate:
            message = "tls_client_ca has no effect without TLS; give tls_certificate and tls_key"
            raise ValueError(message)
        if self.tls_crl and not self.tls_client_ca:
            message = "tls_crl has no effect without tls_client_ca; give tls_client_ca, or remove tls_crl"
            raise ValueError(message)
        return self

    @field_validator("data")
    @classmethod
    def _refuse_no_folder(cls, folder: Path) -> Path:
        if not str(folder).strip(" ."):
            message = "is empty; give the path of a folder"
            raise ValueError(message)
        try:
            folder.expanduser()
        except RuntimeError as error:
            message = "begins with the home folder of an unknown user; give the path of a folder"
            raise ValueError(message) from error
        return folder

    @field_validator("time_zone")
    @classmethod
    def _refuse_unknown_zone(cls, name: str) -> str:
        try:
            if name:
                ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            message = f"{name!r} is no time zone of the IANA database; give one such as Europe/Berlin (package tzdata)"
            raise ValueError(message) from error
        return name


class CompletenessTable(Frozen):
    """`[completeness]`: how long the sender of a study must be silent before the study counts as complete."""

    min_silence_s: Annotated[float, Field(ge=0, le=30 * 86_400.0)] = 2.0
    max_silence_s: Seconds = 60.0
    default_silence_s: Seconds = 10.0
    """the silence for a sender without history"""
    limit_s: Seconds = 900.0
    """an association that stays open longer than this no longer holds a study back"""
    ask_sender: bool = True

    @model_validator(mode="after")
    def _refuse_min_above_max(self) -> Self:
        if self.min_silence_s > self.max_silence_s:
            message = "min_silence_s is longer than max_silence_s; exchange them"
            raise ValueError(message)
        return self


class ReaderTable(Frozen):
    """`[reader]`: the processes that hold a model."""

    time_limit_s: Annotated[Seconds, Field(ge=1)] = 600.0
    # A reader that imports a network library takes some 200 MB.
    memory_limit_bytes: Annotated[Bytes, Field(ge=256 * 1024**2)] = 12 * 1024**3
    idle_s: Seconds = 900.0
    """an unused reader gives its memory back after this long"""
    processes: Annotated[int, Field(ge=1, le=16)] = 1
    """of each handler: as many studies it reads at a time, each process within the limits above"""
    prepare: bool = True
    """whether a start converts the networks of live routes that no reading has converted yet"""
    precision: Literal["f32", "bf16", "auto"] = "f32"
    """"auto": for each network the fastest that moves no probability of its reference inputs by more than 0.005"""
    device: Literal["cpu", "cuda", "auto"] = "auto"
    networks: Path | None = None
    """where converted networks are kept, for every node of the machine that names the folder; None is `networks` in the
    data folder"""


class DatabaseTable(Frozen):
    """`[database]`: SQLite beside the data by default, PostgreSQL for several machines."""

    url: str = ""

    @field_validator("url")
    @classmethod
    def _refuse_unknown_address(cls, url: str) -> str:
        """Refuse what SQLAlchemy cannot read; no message repeats the address, which may hold a password."""
        if not url:
            return url
        from sqlalchemy.engine import make_url  # noqa: PLC0415 - without an address no command needs it here
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

        forms = '"postgresql+psycopg://user:password@host/name", "sqlite:////folder/file", or "" for SQLite in `data`'
        try:
            address = make_url(url)
        except (ArgumentError, ValueError) as error:
            message = f"is no address of a database; give {forms}"
            raise ValueError(message) from error
        if address.drivername not in {"postgresql+psycopg", "sqlite"}:
            message = f"{address.drivername!r} is no database that the node can use; give {forms}"
            raise ValueError(message)
        if address.drivername == "sqlite" and (address.host or address.query):
            message = f"has a host, or words after a question mark, which SQLite does not take; give {forms}"
            raise ValueError(message)
        if not address.database or address.database == ":memory:":
            message = f"names no database, or one that ends with the process; give {forms}"
            raise ValueError(message)
        return url


class DeliveryTable(Frozen):
    """`[delivery]`: how often the node tries to deliver a document, and how long the node waits between attempts."""

    attempts: Annotated[int, Field(ge=1, le=1000)] = 12
    first_wait_s: Seconds = 2.0
    longest_wait_s: Seconds = 600.0
    commitment_wait_s: Seconds = 30.0

    @model_validator(mode="after")
    def _refuse_first_above_longest(self) -> Self:
        if self.first_wait_s > self.longest_wait_s:
            message = "first_wait_s is longer than longest_wait_s; exchange them"
            raise ValueError(message)
        return self


class WebTable(_Certified):
    """`[web]`: announcements, STOW-RS and state over HTTP, with a certificate over HTTPS; off by default."""

    enabled: bool = False
    bind: Bind = "127.0.0.1"
    port: Port = 8080
    max_upload_bytes: Annotated[Bytes, Field(ge=1024**2)] = 2 * 1024**3
    max_upload_files: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    """of one upload to try or to explain; a ZIP archive may hold as many files, and unpack to four times the bytes"""
    open_upload: bool = False
    """whether POST /upload takes a radiograph without a token, from this machine alone"""
    hosts: tuple[Host, ...] = ()
    """further names by which browsers call the node, such as that of a proxy"""

    @property
    def address(self) -> str:
        """Return the address that a person on this machine types; all addresses of the machine include `localhost`."""
        is_everywhere = self.bind in {"0.0.0.0", "::"}  # noqa: S104 - compared, and not bound
        host = "localhost" if is_everywhere else f"[{self.bind}]" if ":" in self.bind else self.bind
        return f"{'https' if self.tls_certificate else 'http'}://{host}:{self.port}/"


class ConsoleTable(Frozen):
    """`[console]`: people's pages, which [web] serves under /console/."""

    enabled: bool = True
    """with [web] enabled only"""
    patient: Literal["hidden", "initials", "full"] = "hidden"
    """what the pages show of a patient's name and Patient ID"""
    ohif: ViewerUrl = ""
    stone: ViewerUrl = ""
    weasis: ViewerUrl = ""
    """addresses of viewers of the archive, with {study} in place of the Study Instance UID"""
    addendum: Literal["none", "assessment"] = "none"
    """whether a person's judgement of a result leaves as a document of its own, to where the result went"""
    codes: CodesTable = CodesTable()
    other_weights: tuple[Path, ...] = ()
    """folders of other weights, each with a manifest, that a person may choose to have a study read again with"""
    session_idle_s: Annotated[Seconds, Field(ge=60)] = 3_600.0
    session_s: Annotated[Seconds, Field(ge=60)] = 43_200.0
    """a person logs in again after an hour without a request, and after twelve hours in any case"""
    proxies: tuple[Network, ...] = ()
    """addresses of reverse proxies, whose X-Forwarded-For, X-Forwarded-Proto and `login_header` the node believes"""
    login_header: Annotated[str, StringConstraints(pattern=HEADER)] = ""
    """header in which these proxies name the person who is logged in there"""

    @model_validator(mode="after")
    def _refuse_header_of_strangers(self) -> Self:
        if self.login_header and not self.proxies:
            message = "login_header would let anybody name a person; give proxies, the addresses that may set it"
            raise ValueError(message)
        return self

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return the addresses of the proxies."""
        return tuple(map(ip_network, self.proxies))


class AuditTable(Frozen):
    """`[audit]`: the trail of PS3.15 A.5 in `data`/audit, and the syslog collector that gets a copy over TLS."""

    enabled: bool = True
    patient_id: bool = False
    """whether messages about a study name its patient by Patient ID, as PS3.15 A.5.3 asks"""
    syslog_host: Host = ""
    """a collector of RFC 5425, whose certificate names the host; '' for none"""
    syslog_port: Port = 6514
    ca_file: str = ""
    crl_files: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    """PEM files as those of a [[peer]]"""

    @model_validator(mode="after")
    def _refuse_half_a_collector(self) -> Self:
        refuse_half_pair(self.tls_certificate, self.tls_key)
        if not self.syslog_host and (self.ca_file or self.crl_files or self.tls_certificate):
            message = "ca_file, crl_files and tls_certificate are for a collector; give syslog_host"
            raise ValueError(message)
        return self


class PriorsTable(Frozen):
    """`[priors]`: how long fetched earlier studies stay, and the destination of a C-MOVE."""

    retention_days: Annotated[Days, Field(ge=1)] = 7
    move_ae_title: AETitle = "AINODE_PRIORS"
    """the second AE title of the node: the node does not read the studies that arrive under this AE title"""
    move_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """the port is open only while a C-MOVE runs; a peer with `retrieve = "move"` needs the port"""


class Tables(Frozen):
    """The tables that node.toml holds at most once; `[[peer]]` may be repeated."""

    node: NodeTable = NodeTable()
    completeness: CompletenessTable = CompletenessTable()
    reader: ReaderTable = ReaderTable()
    database: DatabaseTable = DatabaseTable()
    delivery: DeliveryTable = DeliveryTable()
    web: WebTable = WebTable()
    console: ConsoleTable = ConsoleTable()
    priors: PriorsTable = PriorsTable()
    audit: AuditTable = AuditTable()


class Settings(Tables):
    """All settings of a node; a function gets the settings as an argument."""

    peers: tuple[Peer, ...] = ()
    routes: tuple[Route, ...] = ()

    def peer(self, name: str) -> Peer:
        """Return the peer with the name.

        Raises: ConfigError if there is none.
        """
        for peer in self.peers:
            if peer.name == name:
                return peer
        names_text = ", ".join(peer.name for peer in self.peers) or "none"
        message = f"no [[peer]] is named {name!r} in node.toml (known: {names_text})"
        raise ConfigError(message)

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """Return the names of the peers that nobody asks for a proof of a delivery.

        A listener proves a message by its acknowledgment, and cannot be asked.
        """
        return tuple(peer.name for peer in self.peers if peer.confirm == "none" or peer.is_listener)

    @property
    def listeners(self) -> tuple[str, ...]:
        """Return the names of the peers that get messages, and cannot be asked what they have."""
        return tuple(peer.name for peer in self.peers if peer.is_listener)

    def peer_of_title(self, ae_title: str) -> Peer | None:
        """Return the first peer with the AE title that the node can call by DIMSE, None if there is none."""
        return next((peer for peer in self.peers if peer.speaks_dimse and peer.ae_title == ae_title), None)

    @property
    def data(self) -> Path:
        """Return the folder of all files that the node writes, with `~` expanded; the folder may not exist."""
        return self.node.data.expanduser()

    @property
    def networks(self) -> Path:
        """Return the folder of converted networks."""
        return (self.reader.networks or self.data / "networks").expanduser()

    @property
    def trials(self) -> Path:
        """Return the folder of files that are tried; nothing in it outlives the node."""
        return self.data / "trials"

    @property
    def database_url(self) -> str:
        """Return the SQLAlchemy address of the database; by default, a SQLite file in the data folder."""
        return self.database.url or f"sqlite:///{self.data / 'catalog.sqlite'}"
