"""The tables `[web]` and `[console]` of node.toml: what machines and people ask for over HTTP."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from ainode.node.settings.assessment_codes import CodesTable
from ainode.node.settings.frozen import Certified, Frozen
from ainode.node.settings.values import HEADER, Bind, Bytes, Host, Network, Port, Seconds, ViewerUrl


class WebTable(Certified):
    """`[web]`: announcements, STOW-RS and state over HTTP, with a certificate over HTTPS; off by default."""

    enabled: bool = False
    bind: Bind = "127.0.0.1"
    port: Port = 8080
    max_upload_bytes: Annotated[Bytes, Field(ge=1024**2)] = 2 * 1024**3
    max_upload_files: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    """of one upload to try or to explain; a ZIP archive may hold as many files, and unpack to four times the bytes"""
    open_upload: bool = False
    """whether POST /upload takes a radiograph without a token, from this machine alone"""
    fhir: bool = False
    """whether every caller with a token may read the answers, with Patient IDs, at /fhir"""
    hosts: tuple[Host, ...] = ()
    """further names by which browsers, and programs at /fhir, call the node, such as that of a proxy"""

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
