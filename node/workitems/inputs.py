"""Which study a workitem is about, and which [[peer]] has its images; no other address is called. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from ainode.node.archive.workitem import InputItem, Workitem
from ainode.node.domain import UID, is_uid
from ainode.node.settings import Peer

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a workitem: a study, and the name of the peer that has it."""

    study_instance_uid: UID
    source: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Why the node cannot fetch the images of a workitem."""

    reason: str


def images_of(workitem: Workitem, own: Peer, peers: Sequence[Peer]) -> Images | Unreachable:
    """Return the images of a workitem of a worklist, which is that of the peer `own`.

    Of several studies the one is read that the output belongs to; the node fetches earlier studies by its routes.
    """
    studies = tuple(dict.fromkeys(item.study_instance_uid for item in workitem.inputs if item.study_instance_uid))
    study = workitem.study_instance_uid
    if study not in studies:
        if len(studies) > 1:
            return Unreachable("its input is of several studies, and it names none of them as the study of its output")
        study = studies[0] if studies else study
    if not is_uid(study):
        return Unreachable("it names no study: neither its input nor its Study Instance UID (0020,000D)")
    return _source(study, [item for item in workitem.inputs if item.study_instance_uid == study], own, peers)


def _source(study: UID, inputs: Iterable[InputItem], own: Peer, peers: Sequence[Peer]) -> Images | Unreachable:
    inputs = tuple(inputs)
    titles = {title for item in inputs for title in item.ae_titles}
    addresses = [address for item in inputs for address in item.addresses]
    if not (titles or addresses):
        return Images(study, own.name)
    for peer in (own, *peers):
        if not (peer.dicomweb or peer.orthanc):
            continue
        if (peer.ae_title and peer.ae_title in titles) or any(
            _is_below(address, peer.dicomweb) for address in addresses
        ):
            return Images(study, peer.name)
    return Unreachable(
        "its input lies where no [[peer]] with `dicomweb` or `orthanc` is: give the archive a [[peer]], with the AE "
        "title and the address that the worklist states"
    )


def _is_below(address: str, service: str) -> bool:
    """Return whether an address is of a service: the same machine, the same port, a path below its path."""
    if not service:
        return False
    try:
        inner, outer = urlsplit(address), urlsplit(service)
        is_same_machine = _machine(inner) == _machine(outer)
    except ValueError:
        return False
    return is_same_machine and f"{inner.path}/".startswith(f"{outer.path.rstrip('/')}/")


def _machine(address: SplitResult) -> tuple[str, str, int | None]:
    return address.scheme, (address.hostname or "").rstrip("."), address.port or _PORTS.get(address.scheme)
