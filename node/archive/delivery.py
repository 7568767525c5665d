"""The transports that store documents in an archive and confirm them, and the one that sends messages to a listener.

DIMSE, DICOMweb and the REST of Orthanc; MLLP and FHIR.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ainode.node.archive import fhir, mllp, orthanc, qido, query, store, stow
from ainode.node.archive.dimse import Link
from ainode.node.archive.fhir import FhirLink
from ainode.node.archive.mllp import MessageLink
from ainode.node.archive.store import Outgoing, SendOutcome
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID, InstanceRef
from ainode.node.settings import Peer


@dataclass(frozen=True, slots=True)
class Transport:
    """The two functions that deliver to one peer; the functions of all transports return and raise the same."""

    send: Callable[[Sequence[Outgoing]], tuple[SendOutcome, ...]]
    confirm_by_query: Callable[[Sequence[InstanceRef]], frozenset[UID]]


def reach_listener(peer: Peer) -> None:
    """Find out whether a listener is there; nothing is sent.

    Raises: ArchiveError; ConfigError if the environment lacks what node.toml names.
    """
    if peer.deliver == "fhir":
        fhir.capabilities(FhirLink(peer))
    else:
        mllp.connect(MessageLink(peer))


def transport(
    peer: Peer, local_ae_title: str, timeout_s: float = 60.0, may_leave: Callable[[], None] = store.always
) -> Transport:
    """Return the transport that `deliver` of the [[peer]] names.

    Every delivery passes `may_leave`, which is called right before a document leaves and raises what keeps it back.
    """
    web = WebLink(peer, timeout_s)
    match peer.deliver:
        case "dicomweb":
            return Transport(partial(stow.send, web, may_leave=may_leave), partial(qido.confirm_by_query, web))
        case "orthanc":
            return Transport(partial(orthanc.send, web, may_leave=may_leave), partial(orthanc.confirm_by_query, web))
        case "hl7":
            listener = MessageLink(peer)
            return Transport(
                partial(mllp.send, listener, may_leave=may_leave), partial(mllp.confirm_by_query, listener)
            )
        case "fhir":
            server = FhirLink(peer)
            return Transport(partial(fhir.send, server, may_leave=may_leave), partial(fhir.confirm_by_query, server))
        case "dimse":
            link = Link(peer, local_ae_title, timeout_s)
            return Transport(partial(store.send, link, may_leave=may_leave), partial(query.confirm_by_query, link))
