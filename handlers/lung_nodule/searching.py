"""The nodules that nobody pointed at: candidates of the node's own search in the current CT."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import dist

from ainode.handlers import NOT_RULED_OUT
from ainode.handlers.lung_nodule.places import Outliner, TracedNodule, following_grid
from ainode.handlers.lung_nodule.selecting import WANTED
from ainode.handlers.lung_nodule.tracing import Tracing, trace
from ainode.models.following import Omission
from ainode.models.nodule_detection.model import Candidate, NoduleDetector
from ainode.models.nodule_reading.reading import NoduleReader
from ainode.models.nodule_reading.search import MarkedNodule, SearchedChest, outlined
from ainode.models.nodule_reading.weights import DETECTION
from ainode.node.domain import OWN_SEARCH, SEARCH, Location, OutOfScope, Position, Selection, counted
from ainode.node.imaging.aerated_lung import cut_lungs, lung_shares
from ainode.node.imaging.ct_series import ct_stack
from ainode.node.imaging.geometry import Stack, volume
from ainode.node.reading.weights import WeightStore

_SAME_MM = 5.0
"""a candidate as near as this to a nodule that was carried from a prior is that nodule; so is one in its outline"""


@dataclass(frozen=True, slots=True)
class Search:
    """What a search marked, and what is said of the search."""

    marks: tuple[MarkedNodule, ...]
    threshold: float
    further: int
    without_outline: tuple[Omission, ...]
    ct: Stack
    cut: str = ""
    """what the scan does not hold of the lungs, in words"""

    @property
    def text(self) -> str:
        """Return how many marks there are, and why some are no candidates."""
        counts = {reason.reason: 0 for reason in self.without_outline}
        for reason in self.without_outline:
            counts[reason.reason] += 1
        parts = [f"{len(self.marks)} marked above {self.threshold:.2f}", f"{self.further} more not reported"]
        parts += [f"{counted(count, 'mark')} left out: {reason}" for reason, count in counts.items()]
        parts += [self.cut] if self.cut else []
        return "; ".join(parts) + f"; {NOT_RULED_OUT}"

    def locations(self, nodules: Sequence[TracedNodule | OutOfScope]) -> dict[Location, Candidate]:
        """Return the place of each mark that is none of the nodules, with the mark."""
        frame, series = self.ct.frame_of_reference_uid, self.ct.instances[0].ref.series_instance_uid
        seen = [nodule for nodule in nodules if isinstance(nodule, TracedNodule)]
        return {
            Location(mark.position_mm, SEARCH, frame, series_instance_uid=series): mark.mark
            for mark in self.marks
            if not any(_is_same(mark.position_mm, nodule) for nodule in seen)
        }


def _is_same(position_mm: Position, nodule: TracedNodule) -> bool:
    reach_mm = max(_SAME_MM, nodule.outlined.size.maximum_mm / 2)
    return dist(position_mm, nodule.current.center_mm) <= reach_mm


def searched(selection: Selection, detector: NoduleDetector, reader: NoduleReader) -> Search | OutOfScope:
    """Return the marks in the best CT of the current study, or why the CT is not searched.

    Raises: BrokenSeries if a slice cannot be decoded.
    """
    current = [
        series
        for series in selection.series
        if series.instances[0].ref.study_instance_uid == selection.study_instance_uid
    ]
    ct = ct_stack(current, WANTED)
    if isinstance(ct, OutOfScope):
        return ct
    scanned = volume(ct)
    scan = following_grid(scanned)
    detection = detector.predict(scan)
    if isinstance(detection, Omission):
        return OutOfScope(f"not searched for nodules: {detection.reason}", detection.code)
    answer: SearchedChest = outlined(detection, reader, scan, selection.wanted_candidates)
    cut = cut_lungs(lung_shares(scanned.values), scanned.spacing_mm[0])
    return Search(answer.nodules, detection.threshold, answer.further, answer.without_outline, ct, cut)


def traced_search(search: Search, selection: Selection, carried: Tracing, outline: Outliner) -> Tracing:
    """Return the nodules that were carried from a prior, then the candidates, each followed in the priors."""
    locations = tuple(search.locations(carried.nodules))
    if not locations:
        return carried
    own = Selection(selection.study_instance_uid, selection.series, locations)
    candidates = trace(own, outline)
    return Tracing((*carried.nodules, *candidates.nodules), carried.register_s + candidates.register_s)


def is_candidate(nodule: TracedNodule) -> bool:
    """Return whether nobody pointed at a nodule: a search marked it, now or in the prior that it was carried from."""
    return nodule.newest_marked[1].location.source in {SEARCH, OWN_SEARCH}


def no_candidate(search: Search, refusals: Mapping[str, OutOfScope]) -> OutOfScope:
    """Return the answer of a search without candidates, which is no negative answer."""
    others = "".join(f"; {name}: {refusal.reason}" for name, refusal in refusals.items())
    return OutOfScope(f"no candidate marked: {search.text}{others}; this is no negative answer", "no-candidate")


def is_evaluated(store: WeightStore) -> bool:
    """Return whether `ainode evaluate --external --record` measured a route with these weights of the search here."""
    digest = store.entry(DETECTION).sha256
    for path in (store.site / "external" / "lung_nodule").glob("external-*.json"):
        values = json.loads(path.read_text("utf-8"))
        if values.get("detect") and values.get("weights", {}).get(DETECTION) == digest:
            return True
    return False
