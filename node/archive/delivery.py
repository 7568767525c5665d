"""One seam, three ways to bring documents into an archive and to see them there: DIMSE, DICOMweb, Orthanc's REST."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ainode.node.archive import dicomweb, orthanc, query, store
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, Sent
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID, InstanceRef
from ainode.node.settings import Peer


@dataclass(frozen=True, slots=True)
class Way:
    """How one peer is delivered to; what each raises and returns is the same for all."""

    send: Callable[[Sequence[Outgoing]], tuple[Sent, ...]]
    confirm_by_query: Callable[[Sequence[InstanceRef]], frozenset[UID]]


def way(peer: Peer, local_ae_title: str, timeout_s: float = 60.0) -> Way:
    """Return the way that `deliver` of the [[peer]] names."""
    web = WebLink(peer, timeout_s)
    match peer.deliver:
        case "dicomweb":
            return Way(partial(dicomweb.send, web), partial(dicomweb.confirm_by_query, web))
        case "orthanc":
            return Way(partial(orthanc.send, web), partial(orthanc.confirm_by_query, web))
        case "dimse":
            link = Link(peer, local_ae_title, timeout_s)
            return Way(partial(store.send, link), partial(query.confirm_by_query, link))
