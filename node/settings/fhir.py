"""`[peer.resources]` and `[peer.oauth2]` of node.toml: how an answer is written for a FHIR server, and who calls it."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from ainode.node.settings.frozen import Frozen
from ainode.node.settings.values import PRINTED, Seconds, System, Url

_Issuer = Annotated[str, StringConstraints(strip_whitespace=True, max_length=64, pattern=PRINTED)]


class ResourcesTable(Frozen):
    """`[peer.resources]`: how patient, order and result are named to a FHIR R4 server."""

    patient: Literal["identifier", "conditional", "create"] = "identifier"
    """whose the resources are: by identifier alone; the one patient whom the server finds by it; or made if missing"""
    patient_systems: Mapping[_Issuer, System] = Field(default_factory=dict)
    """Issuer of Patient ID -> system of the server's identifiers; '' is the images that state no issuer"""
    accession_system: System = ""
    """system of the Accession Numbers, where the images state no universal issuer"""
    report_status: Literal["partial", "preliminary", "final"] = "partial"
    """what a report is called that nobody verified"""
    members: Literal["observations", "components"] = "observations"
    """whether what is said of a finding are observations of their own, as in HL7's guide, or its components: fewer
    entries, for a server that takes few in a transaction"""
    answer_s: Seconds = 30.0
    """how long the node waits for each answer"""

    @model_validator(mode="after")
    def _refuse_nobody(self) -> Self:
        """Refuse to look for patients by a number alone, which two issuers give to two patients."""
        if self.patient != "identifier" and not any(self.patient_systems.values()):
            raise ValueError(
                f"patient = {self.patient!r} needs patient_systems, such as patient_systems = "
                '{ "" = "urn:oid:1.2.3" }: a Patient ID alone may be that of two patients'
            )
        return self


class OAuth2Table(Frozen):
    """`[peer.oauth2]`: the client credentials grant (RFC 6749 4.4), by which the node gets its tokens."""

    token_url: Url
    client_id_env: Annotated[str, StringConstraints(min_length=1)]
    client_secret_env: Annotated[str, StringConstraints(min_length=1)]
    """names of environment variables: a file holds no secret"""
    scope: str = ""
    """such as `system/*.write`; '' asks for none"""
    authentication: Literal["basic", "post"] = "basic"
    """whether id and secret stand in the header or in the body of the request (RFC 6749 2.3.1)"""

    @model_validator(mode="after")
    def _refuse_open_secret(self) -> Self:
        """Refuse an address that the secret would reach in the clear, other than this machine (RFC 6749 3.2)."""
        parts = urlsplit(self.token_url)
        if parts.scheme != "https" and not _is_here(parts.hostname or ""):
            raise ValueError("token_url gets a secret; give an https address")
        return self


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
