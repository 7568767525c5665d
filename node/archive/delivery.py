"""The transports that store documents in an archive and confirm them, and the one that sends messages to a listener.

DIMSE, DICOMweb and the REST of Orthanc; MLLP.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ainode.node.archive import mllp, orthanc, qido, query, store, stow
from ainode.node.archive.dimse import Link
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


def transport(peer: Peer, local_ae_title: str, timeout_s: float = 60.0) -> Transport:
    """Return the transport that `deliver` of the [[peer]] names."""
    web = WebLink(peer, timeout_s)
    match peer.deliver:
        case "dicomweb":
            return Transport(partial(stow.send, web), partial(qido.confirm_by_query, web))
        case "orthanc":
            return Transport(partial(orthanc.send, web), partial(orthanc.confirm_by_query, web))
        case "hl7":
            listener = MessageLink(peer)
            return Transport(partial(mllp.send, listener), partial(mllp.confirm_by_query, listener))
        case "dimse":
            link = Link(peer, local_ae_title, timeout_s)
            return Transport(partial(store.send, link), partial(query.confirm_by_query, link))
