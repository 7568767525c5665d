"""What node.toml should say about an archive, concluded from the trials of `ainode doctor`; pure functions."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ainode.node.domain import UID
from ainode.node.settings import Peer

YES, NO, OPEN = "yes", "no", "open"
"""outcomes of a trial; OPEN: the peer reports success, and the doctor cannot see the outcome"""
WEB_PREFIX, REST_PREFIX = "STOW-RS: ", "Orthanc REST: "
"""begin the name of a trial that DIMSE, STOW-RS and Orthanc's REST interface share"""
SEARCH, SUBSCRIPTION = "UPS-RS search", "UPS-RS event channel"
"""trials of a worklist"""
# For each value of `deliver`: the prefix of its store trials, and the trial of its query.
_DELIVERIES = {
    "dimse": ("", "C-FIND"),
    "dicomweb": (WEB_PREFIX, "QIDO-RS"),
    "orthanc": (REST_PREFIX, "Orthanc lookup"),
}
_RETRIEVALS = {"get": "C-GET", "move": "C-MOVE", "dicomweb": "WADO-RS"}
_REPORTS = {"3d": "store Comprehensive 3D SR", "comprehensive": "store Comprehensive SR"}
# The preferred type comes first: more viewers show label maps, although more archives accept fractional segmentations.
_SEGMENTATIONS = {"labelmap": "store Label Map Segmentation", "fractional": "store Segmentation"}
_COMMITMENT = "storage commitment"
_CAPTURE = "store Secondary Capture Image"
_PRESENTATION_STATE = "store Grayscale Softcopy Presentation State"
_PDF = "store Encapsulated PDF"
_OFF: Mapping[str, str | bool] = {"segmentation": "none", "presentation_state": False, "pdf": False}
"""the values that switch an optional document off"""


@dataclass(frozen=True, slots=True)
class Trial:
    """One operation that the doctor tried with a peer."""

    name: str
    outcome: str
    detail: str = ""
    is_answered: bool = True
    """whether the peer answered at all; where it did not, nothing is known of what it takes"""


@dataclass(frozen=True, slots=True)
class Examination:
    """The trials with a peer, and the test studies that could not be removed from the peer."""

    peer: Peer
    trials: tuple[Trial, ...]
    remaining_studies: tuple[UID, ...] = ()
    is_archive_of_priors: bool = False
    """whether a route fetches earlier studies from the peer"""

    def outcome(self, name: str) -> str:
        """Return the outcome of a trial, '' if the doctor did not try the operation."""
        return next((trial.outcome for trial in self.trials if trial.name == name), "")

    def works(self, name: str) -> bool:
        """Return whether the doctor tried the operation and the operation worked."""
        return self.outcome(name) == YES


def advice(examination: Examination) -> Mapping[str, str | bool]:
    """Return keys of [[peer]] with the values that the trials speak for; a configured value that works stays.

    Optional documents are advised where the archive accepts them; a PDF, which says what the report says, where it is
    wanted already. No trial shows whether a viewer displays them. No
    trial with a listener speaks for one value or another.
    """
    peer, works = examination.peer, examination.works
    if peer.is_listener:
        return {}
    deliveries = {deliver: works(prefix + _CAPTURE) for deliver, (prefix, _) in _DELIVERIES.items()}
    deliver = _first_working(peer.deliver, deliveries)
    values: dict[str, str | bool] = {"deliver": deliver}
    if deliver:
        prefix, query = _DELIVERIES[deliver]
        values["sr"] = _first_working("3d", {sr: works(prefix + trial) for sr, trial in _REPORTS.items()})
        values["presentation_state"] = works(prefix + _PRESENTATION_STATE)
        values["pdf"] = peer.pdf and works(prefix + _PDF)
        segmentations = {segmentation: works(prefix + trial) for segmentation, trial in _SEGMENTATIONS.items()}
        values["segmentation"] = _first_working(peer.segmentation, segmentations)
        proofs = {"commitment": works(_COMMITMENT), "query": works(query), "none": True}
        values["confirm"] = _first_working("commitment", proofs)
    retrievals = {retrieve: works(trial) for retrieve, trial in _RETRIEVALS.items()}
    values["retrieve"] = _first_working(peer.retrieve, retrievals)
    return {key: value for key, value in values.items() if value}


def _first_working(preferred: str, works: Mapping[str, bool]) -> str:
    """Return `preferred` if it works, else the first value that works, '' if none does."""
    return next((value for value in (preferred, *works) if works.get(value)), "")


def problems(examination: Examination) -> tuple[str, ...]:
    """Return a sentence for each configured value that does not work; of a peer that did not answer, only this."""
    advised_values = advice(examination)
    whom = "listener" if examination.peer.is_listener else "archive"
    if silence := next((trial for trial in examination.trials if not trial.is_answered), None):
        remedy = "start it, look at its address, port and firewall, then try again"
        return (f"the {whom} did not answer: {silence.detail}; nothing is known of what it takes: {remedy}",)
    if examination.peer.is_listener:
        failed = (trial for trial in examination.trials if trial.outcome == NO)
        return tuple(f"the {trial.name} was not taken: {trial.detail}" for trial in failed)
    if {trial.name for trial in examination.trials} <= {SEARCH, SUBSCRIPTION}:  # it has a worklist, and no images
        return tuple(_problems_of_worklist(examination))
    return (*_problems_of_archive(examination, advised_values), *_problems_of_worklist(examination))


def _problems_of_worklist(examination: Examination) -> Iterator[str]:
    for trial in examination.trials:
        if trial.outcome == NO and trial.name in {SEARCH, SUBSCRIPTION}:
            key = "[peer.worklist]" if trial.name == SEARCH else "subscribe = true of [peer.worklist]"
            yield f"{key} does not work there: {trial.detail}"


def _problems_of_archive(examination: Examination, advised_values: Mapping[str, str | bool]) -> tuple[str, ...]:
    return tuple(
        f"{key} = {json.dumps(value)} {_statement(examination.outcome(trial))}; {_remedy(key, advised_values)}"
        for key, value, trial in _needs(examination)
        if trial and not examination.works(trial) and (trial, examination.outcome(trial)) != (_COMMITMENT, OPEN)
    )


def _statement(outcome: str) -> str:
    return "was not seen to work there" if outcome == OPEN else "does not work there"


def _remedy(key: str, advised_values: Mapping[str, str | bool]) -> str:
    value = advised_values.get(key, _OFF.get(key))
    return "no other value works: see the table" if value is None else f"set {key} = {json.dumps(value)}"


def _needs(examination: Examination) -> tuple[tuple[str, str | bool, str], ...]:
    """Return each configured key and value with the trial that must work, '' where no trial must."""
    peer = examination.peer
    prefix, query = _DELIVERIES[peer.deliver]
    segmentations = {"none": "", **{segmentation: prefix + trial for segmentation, trial in _SEGMENTATIONS.items()}}
    proofs = {"commitment": _COMMITMENT, "query": query, "none": ""}
    return (
        ("deliver", peer.deliver, prefix + _CAPTURE),
        ("sr", peer.sr, prefix + _REPORTS[peer.sr]),
        ("presentation_state", True, prefix + _PRESENTATION_STATE if peer.presentation_state else ""),
        ("pdf", True, prefix + _PDF if peer.pdf else ""),
        ("segmentation", peer.segmentation, segmentations[peer.segmentation]),
        ("confirm", peer.confirm, proofs[peer.confirm]),
        ("retrieve", peer.retrieve, _RETRIEVALS[peer.retrieve] if examination.is_archive_of_priors else ""),
    )
