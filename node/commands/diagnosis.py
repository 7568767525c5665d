"""From what an archive was seen to do to what node.toml should say of it; pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ainode.node.domain import UID
from ainode.node.settings import Peer

YES, NO, OPEN = "yes", "no", "open"
"""OPEN: it cannot be seen from here."""
WEB, REST = "STOW-RS: ", "Orthanc REST: "
"""before what is tried in several ways"""
# How each way of delivery is known to work, and its query.
_DELIVERIES = {"dimse": ("", "C-FIND"), "dicomweb": (WEB, "QIDO-RS"), "orthanc": (REST, "Orthanc lookup")}
_RETRIEVALS = {"get": "C-GET", "move": "C-MOVE", "dicomweb": "WADO-RS"}
_REPORTS = {"3d": "store Comprehensive 3D SR", "comprehensive": "store Comprehensive SR"}
# More viewers show label maps, more archives take fractional ones.
_SEGMENTATIONS = {"labelmap": "store Label Map Segmentation", "fractional": "store Segmentation"}
_PRESENTATION_STATE = "store Grayscale Softcopy Presentation State"
_WITHOUT: Mapping[str, str | bool] = {"segmentation": "none", "presentation_state": False}
"""what to set where the archive takes none"""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was tried."""

    what: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was tried with a peer, and which studies could not be removed."""

    peer: Peer
    lines: tuple[Line, ...]
    remaining: tuple[UID, ...] = ()

    def outcome(self, what: str) -> str:
        """Return the outcome of one thing, '' if it was not tried."""
        return next((line.outcome for line in self.lines if line.what == what), "")

    def works(self, what: str) -> bool:
        """Whether it was tried and worked."""
        return self.outcome(what) == YES


def advice(seen: Examination) -> Mapping[str, str | bool]:
    """Return keys of the [[peer]] and the values that what was seen speaks for; what works as configured stays.

    Optional documents are named where the archive takes them; whether its viewers show them cannot be seen from here.
    """
    deliveries = {way: seen.works(f"{prefix}store Secondary Capture Image") for way, (prefix, _) in _DELIVERIES.items()}
    deliver = _first(seen.peer.deliver, deliveries)
    advised: dict[str, str | bool] = {"deliver": deliver}
    if deliver:
        prefix, query = _DELIVERIES[deliver]
        advised["sr"] = _first("3d", {kind: seen.works(prefix + what) for kind, what in _REPORTS.items()})
        advised["presentation_state"] = seen.works(prefix + _PRESENTATION_STATE)
        types = {kind: seen.works(prefix + what) for kind, what in _SEGMENTATIONS.items()}
        advised["segmentation"] = _first(seen.peer.segmentation, types)
        proofs = {"commitment": seen.works("storage commitment"), "query": seen.works(query), "none": True}
        advised["confirm"] = _first("commitment", proofs)
    advised["retrieve"] = _first(seen.peer.retrieve, {way: seen.works(what) for way, what in _RETRIEVALS.items()})
    return {key: value for key, value in advised.items() if value}


def _first(preferred: str, works: Mapping[str, bool]) -> str:
    return next((name for name in (preferred, *works) if works.get(name)), "")


def wrong(seen: Examination) -> tuple[str, ...]:
    """Return what is configured and does not work, in a sentence each."""
    return tuple(_wrong(seen, advice(seen)))


def _wrong(seen: Examination, advised: Mapping[str, str | bool]) -> Iterator[str]:
    peer = seen.peer
    prefix, query = _DELIVERIES[peer.deliver]
    segmentations = {kind: prefix + what for kind, what in _SEGMENTATIONS.items()}
    needed: Sequence[tuple[str, str | bool, str]] = (
        ("deliver", peer.deliver, f"{prefix}store Secondary Capture Image"),
        ("sr", peer.sr, prefix + _REPORTS[peer.sr]),
        ("presentation_state", True, prefix + _PRESENTATION_STATE if peer.presentation_state else ""),
        ("segmentation", peer.segmentation, {"none": "", **segmentations}[peer.segmentation]),
        ("confirm", peer.confirm, {"commitment": "storage commitment", "query": query, "none": ""}[peer.confirm]),
    )
    for key, value, what in needed:
        if what and seen.outcome(what) in {NO, ""}:
            other = advised.get(key, _WITHOUT.get(key))
            remedy = "and nothing else does: see the table" if other is None else f"set {key} = {json.dumps(other)}"
            yield f"{key} = {json.dumps(value)} does not work there; {remedy}"
