"""From what an archive was seen to do to what node.toml should say of it; pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ainode.node.domain import UID
from ainode.node.settings import Peer

YES, NO, OPEN = "yes", "no", "open"
"""OPEN: it cannot be seen from here."""
WEB = "STOW-RS: "
"""before what is tried both ways"""
# How each way of delivery is known to work, and its query.
_DELIVERIES = {"dimse": ("", "C-FIND"), "dicomweb": (WEB, "QIDO-RS")}
_RETRIEVALS = {"get": "C-GET", "move": "C-MOVE", "dicomweb": "WADO-RS"}
_REPORTS = {"3d": "store Comprehensive 3D SR", "comprehensive": "store Comprehensive SR"}


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


def advice(seen: Examination) -> Mapping[str, str]:
    """Return keys of the [[peer]] and the values that what was seen speaks for; what works as configured stays."""
    deliveries = {way: seen.works(f"{prefix}store Secondary Capture Image") for way, (prefix, _) in _DELIVERIES.items()}
    advised = {"deliver": _first(seen.peer.deliver, deliveries)}
    if advised["deliver"]:
        prefix, query = _DELIVERIES[advised["deliver"]]
        advised["sr"] = _first("3d", {kind: seen.works(prefix + what) for kind, what in _REPORTS.items()})
        proofs = {"commitment": seen.works("storage commitment"), "query": seen.works(query), "none": True}
        advised["confirm"] = _first("commitment", proofs)
    advised["retrieve"] = _first(seen.peer.retrieve, {way: seen.works(what) for way, what in _RETRIEVALS.items()})
    return {key: value for key, value in advised.items() if value}


def _first(preferred: str, works: Mapping[str, bool]) -> str:
    return next((name for name in (preferred, *works) if works.get(name)), "")


def wrong(seen: Examination) -> tuple[str, ...]:
    """Return what is configured and does not work, in a sentence each."""
    return tuple(_wrong(seen, advice(seen)))


def _wrong(seen: Examination, advised: Mapping[str, str]) -> Iterator[str]:
    peer = seen.peer
    prefix, query = _DELIVERIES[peer.deliver]
    needed: Sequence[tuple[str, str, str]] = (
        ("deliver", peer.deliver, f"{prefix}store Secondary Capture Image"),
        ("sr", peer.sr, prefix + _REPORTS[peer.sr]),
        ("confirm", peer.confirm, {"commitment": "storage commitment", "query": query, "none": ""}[peer.confirm]),
    )
    for key, value, what in needed:
        if what and seen.outcome(what) in {NO, ""}:
            remedy = f'set {key} = "{advised[key]}"' if key in advised else "and nothing else does: see the table"
            yield f'{key} = "{value}" does not work there; {remedy}'
