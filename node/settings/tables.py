"""The tables of node.toml about reading, keeping and delivering: frozen, valid once constructed."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ainode.node.settings.frozen import Frozen, refuse_half_pair
from ainode.node.settings.values import AETitle, Bytes, Days, Host, Port, Seconds


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
    overtaking_minutes: Annotated[float, Field(ge=1, le=43_200)] = 480.0
    """no job waits behind one that was queued so much later, whatever their priorities"""
    prepare: bool = True
    """whether a start converts the networks of live routes that no reading has converted yet"""
    precision: Literal["f32", "bf16", "auto"] = "f32"
    """"auto": for each network the fastest that moves no probability of its reference inputs by more than 0.005"""
    device: Literal["cpu", "cuda", "auto"] = "auto"
    networks: Path | None = None
    """where converted networks are kept, for every node of the machine that names the folder; None is `networks` in the
    data folder"""
    confined_handlers: tuple[str, ...] = ()
    """handlers of a site that run confined like a model that `model.toml` describes: without network and processes"""
    allow_unconfined: bool = False
    """whether models of others run where the system cannot confine them"""


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
