"""`[[peer]]` of node.toml: another DICOM application entity."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from ainode.node.settings.fhir import OAuth2Table, ResourcesTable
from ainode.node.settings.frozen import Frozen, refuse_half_pair
from ainode.node.settings.listeners import Hl7Table
from ainode.node.settings.values import NAME, AETitleText, BytesPerMinute, Host, Identity, PerMinute, Url
from ainode.node.settings.worklists import WorklistTable

# What a listener has beside its name: the other keys are of DICOM, or of the other kind of listener.
_OF_EVERY_LISTENER = frozenset({"name", "deliver", "ca_file", "crl_files", "tls_certificate", "tls_key"})
_OF_LISTENERS = {
    "hl7": _OF_EVERY_LISTENER | {"host", "port", "tls", "hl7"},
    "fhir": _OF_EVERY_LISTENER | {"fhir", "resources", "oauth2", "token_env", "user_env", "password_env"},
}
_OF_LISTENERS_ALONE = ("hl7", "fhir", "resources", "oauth2")
_OF_OTHER_LISTENERS = frozenset({*_OF_LISTENERS_ALONE, "host", "port", "tls"})
_OTHER_LANGUAGES = {"hl7": ("DICOM or FHIR", "an HL7 listener"), "fhir": ("DICOM or HL7", "a FHIR server")}


class Peer(Frozen):
    """`[[peer]]`: another DICOM application entity, as a source, an archive or both; or a listener for messages."""

    name: Annotated[str, StringConstraints(pattern=NAME)]
    ae_title: AETitleText = ""
    host: Host = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    sr: Literal["3d", "comprehensive"] = "3d"
    presentation_state: bool = False
    """whether the peer also gets the regions, as Grayscale Softcopy Presentation States"""
    segmentation: Literal["none", "fractional", "labelmap"] = "none"
    """whether the peer also gets the saliency, as Segmentations, and of which type"""
    pdf: bool = False
    """whether the peer also gets the page of report.pdf, as an Encapsulated PDF: for viewers that show no SR"""
    confirm: Literal["commitment", "query", "none"] = "query"
    deliver: Literal["dimse", "dicomweb", "orthanc", "hl7", "fhir"] = "dimse"
    retrieve: Literal["get", "move", "dicomweb"] = "get"
    """how the node searches and fetches earlier studies: C-FIND with C-GET or C-MOVE, or QIDO-RS with WADO-RS"""
    dicomweb: Url = ""
    orthanc: Url = ""
    """the REST address of a peer that is an Orthanc: the node pulls announced studies from the address"""
    user_env: str = ""
    password_env: str = ""
    token_env: str = ""
    """names of the environment variables with the credentials for the web services: a file holds no secret"""
    tls: bool = False
    """whether the DIMSE port of the peer speaks TLS; an address of a web service starts with https if so"""
    ca_file: str = ""
    """PEM file of the authorities that the node trusts for the peer; with '', the authorities of the system"""
    crl_files: tuple[str, ...] = ()
    """PEM files with the revocation lists of these authorities; without a list in force the node does not call"""
    tls_certificate: str = ""
    tls_key: str = ""
    """PEM files of the node, for a peer that requires a certificate"""
    calling_certificates: tuple[Identity, ...] = ()
    """certificates of the peer when the peer calls: SHA-256 fingerprints, DNS names, IP addresses or Common Names"""
    max_associations: Annotated[int, Field(ge=0, le=1000)] = 0
    max_instances_per_minute: PerMinute = 0
    max_bytes_per_minute: BytesPerMinute = 0
    """limits of the peer when the peer calls; 0 is the limit that `[node]` has for each caller"""
    hl7: Hl7Table | None = None
    """`[peer.hl7]`: how messages for an HL7 listener are written; None is the defaults"""
    fhir: Url = ""
    """the base address of a FHIR R4 server"""
    resources: ResourcesTable | None = None
    """`[peer.resources]`: how resources for a FHIR server are written; None is the defaults"""
    oauth2: OAuth2Table | None = None
    """`[peer.oauth2]`: where the node gets its tokens for a FHIR server; None: it has other credentials, or none"""
    worklist: WorklistTable | None = None
    """`[peer.worklist]`: which workitems of the peer's worklist the node performs; None is none"""

    @model_validator(mode="after")
    def _refuse_listener_with_dicom(self) -> Self:
        """Refuse a listener without an address or with keys of an archive, and an archive with keys of a listener."""
        if not self.is_listener:
            foreign = [key for key in _OF_LISTENERS_ALONE if getattr(self, key)]
            if foreign:
                table = foreign[0] if foreign[0] == "fhir" else f"[peer.{foreign[0]}]"
                value = "hl7" if foreign[0] == "hl7" else "fhir"
                raise ValueError(
                    f'peer {self.name!r}: {table} is for a listener; give deliver = "{value}", or remove it'
                )
            return self
        if self.deliver == "hl7" and not (self.host and self.port):
            raise ValueError(f"peer {self.name!r}: give host and port of the HL7 listener")
        if self.deliver == "fhir" and not self.fhir:
            raise ValueError(f"peer {self.name!r}: give `fhir`, the base address of the FHIR server")
        fields, own_keys = type(self).model_fields, _OF_LISTENERS[self.deliver]
        foreign = [key for key in fields if key not in own_keys and getattr(self, key) != fields[key].default]
        if foreign:
            languages, kind = _OTHER_LANGUAGES[self.deliver]
            language = languages if set(foreign) & _OF_OTHER_LISTENERS else "DICOM"
            raise ValueError(
                f"peer {self.name!r}: {', '.join(foreign)} is of {language}, which {kind} does not speak; remove "
                "it, or give the archive a [[peer]] of its own"
            )
        return self

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        """Refuse a peer with half an address or none that the node needs, two credentials, or half a key pair."""
        refuse_half_pair(self.tls_certificate, self.tls_key, f"peer {self.name!r}: ")
        is_nameless = bool(self.host) and not (self.ae_title or self.is_listener)
        if bool(self.host) != bool(self.port) or is_nameless:
            message = f"peer {self.name!r}: has half an address; give ae_title, host and port, or the ae_title alone"
            raise ValueError(message)
        if "dicomweb" in (self.deliver, self.retrieve) and not self.dicomweb:
            message = f"peer {self.name!r}: deliver or retrieve is by DICOMweb; give `dicomweb`, its address"
            raise ValueError(message)
        if self.deliver == "orthanc" and not self.orthanc:
            message = f"peer {self.name!r}: deliver is by Orthanc's REST interface; give `orthanc`, its address"
            raise ValueError(message)
        by_web = self.deliver == "orthanc" or self.deliver == self.retrieve == "dicomweb"
        web_alone = by_web and self.confirm != "commitment"
        if not (web_alone or self.speaks_dimse or self.only_calls or self.is_listener):
            message = (
                f"peer {self.name!r}: give ae_title, host and port; or deliver and retrieve by DICOMweb alone, or "
                'deliver = "orthanc"'
            )
            raise ValueError(message)
        if sum(map(bool, (self.token_env, self.user_env, self.oauth2))) > 1:
            message = (
                f"peer {self.name!r}: has two credentials; give token_env, or user_env and password_env, not both, and "
                "neither beside [peer.oauth2]"
            )
            raise ValueError(message)
        if bool(self.user_env) != bool(self.password_env):
            message = f"peer {self.name!r}: half of a credential is missing; give user_env and password_env, or neither"
            raise ValueError(message)
        if self.calling_certificates and not self.ae_title:
            message = f"peer {self.name!r}: calling_certificates are bound to no AE title; give ae_title"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _refuse_worklist_without_address(self) -> Self:
        if self.worklist and not self.dicomweb:
            message = f"peer {self.name!r}: [peer.worklist] is read by DICOMweb; give `dicomweb`, its address"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _refuse_files_without_tls(self) -> Self:
        is_secured = self.tls or "https" in (self.dicomweb[:5], self.orthanc[:5], self.fhir[:5])
        if (self.ca_file or self.crl_files or self.tls_certificate) and not is_secured:
            remedy = "give tls = true, or an https address"
            message = f"peer {self.name!r}: ca_file, crl_files and tls_certificate have no effect without TLS; {remedy}"
            raise ValueError(message)
        return self

    @property
    def is_listener(self) -> bool:
        """Return whether the peer takes messages, of HL7 or of FHIR, and no DICOM objects."""
        return self.deliver in _OF_LISTENERS

    @property
    def listener(self) -> Hl7Table:
        """Return how HL7 messages for the peer are written, and how long the node waits for the answer."""
        return self.hl7 or Hl7Table()

    @property
    def server(self) -> ResourcesTable:
        """Return how FHIR resources for the peer are written, and how long the node waits for the answer."""
        return self.resources or ResourcesTable()

    @property
    def speaks_dimse(self) -> bool:
        """Return whether the peer has an AE title, a host and a port, so that the node can call the peer by DIMSE."""
        return bool(self.ae_title and self.host and self.port)

    @property
    def place(self) -> str:
        """Return where the node calls the peer, for a person: AE title, host and port, or the host of an address."""
        if self.speaks_dimse:
            return f"{self.ae_title}@{self.host}:{self.port}"
        if self.host:
            return f"{self.host}:{self.port}"
        address = self.dicomweb or self.orthanc or self.fhir
        return urlsplit(address).netloc if address else f"{self.ae_title}, only calls"

    @property
    def only_calls(self) -> bool:
        """Return whether the peer calls the node and has no address, so that the node cannot call the peer."""
        return bool(self.ae_title) and not (self.host or self.dicomweb or self.orthanc)
