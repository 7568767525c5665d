"""The table `[node]` of node.toml."""

from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from ainode.node.settings.frozen import Certified
from ainode.node.settings.values import (
    AETitle,
    Bind,
    Bytes,
    BytesPerMinute,
    Days,
    PerMinute,
    Port,
    Seconds,
    StationName,
)


class NodeTable(Certified):
    """`[node]`: name, address and limits of the node; with a certificate of the node, every caller must speak TLS."""

    ae_title: AETitle = "AINODE"
    bind: Bind = "127.0.0.1"
    port: Port = 11112
    data: Path = Path("~/.local/share/ainode")
    retention_days: Days = 7
    job_retention_days: Days = 90
    allow: tuple[str, ...] = ("*@127.0.0.0/8",)
    receivers: Annotated[int, Field(ge=1, le=16)] = 1
    """processes that receive at the one address, each with the limits below for itself"""
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
    name: StationName = "ainode"
    stop_limit_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """associations in use and deliveries under way go on for so long after SIGTERM"""
    log_format: Literal["text", "json"] = "text"
    """a line of words and key=value, or a JSON object for a collector of logs"""
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

    @property
    def places(self) -> int:
        """Return how many associations may be open in all receivers."""
        return self.receivers * self.max_associations

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
