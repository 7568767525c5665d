"""The lung of a whole chest CT: candidates that the node's own search marks, each with a probability of malignancy.

The network of slices learned the scanner of its training pictures, so it judges no chest: nodules are searched instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ainode.handlers import (
    LONG_AXIS,
    LUNG,
    MM,
    NOT_RULED_OUT,
    PROBABILITY_OF_CANCER,
    SHORT_AXIS,
    SIDES,
    loaded,
    percent,
    saliency,
    side_of_body,
    voxels_under,
)
from ainode.models.errors import UnusablePicture
from ainode.models.nodule_reading.weights import DETECTION, MALIGNANCY, OUTLINE, TRAITS
from ainode.node.domain import (
    Capture,
    Code,
    Finding,
    Instance,
    InstanceRef,
    Measurement,
    OutOfScope,
    Position,
    Region,
    Selection,
    Window,
    probability_text,
    refs,
)
from ainode.node.imaging.geometry import Stack, Volume, stack, volume
from ainode.node.imaging.slice_order import slice_number
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.following import Omission
    from ainode.models.lung_nodule.model import Prediction
    from ainode.models.nodule_reading.search import MarkedNodule, NoduleSearch, SearchedChest

WEIGHTS = (DETECTION, OUTLINE, MALIGNANCY, TRAITS)
UNSEARCHED = (
    "this route does not search a chest CT for nodules, and judges no whole chest slice by slice: those weights "
    "called 12 of 12 real chest CT malignant, two healthy ones included. The administrator of the node can switch the "
    "search on: `detect = true` in the route (routes.toml), then `ainode reload`"
)
CAUTION = "candidates of a search learned from implanted nodules"
"""a short sentence that every report with candidates carries"""

_NODULE = Code("27925004", "SCT", "Nodule")
_SURENESS = Code("nodule-probability", "99AINODE", "Probability that the mark is a nodule")
_LUNG_WINDOW = Window(-600.0, 1500.0)
_MARGIN_MM = 3.0
_CAPTURES = 3


@dataclass(frozen=True)
class Candidate:
    """A nodule that the search marked, and how likely it is malignant."""

    number: int
    """in the order of the search, as the route of nodules numbers the candidates of the same CT, from 1"""
    nodule: "MarkedNodule"
    prediction: "Prediction"
    side: str
    """`left` or `right` of the patient, '' near the middle and where it is not known"""

    @property
    def position_mm(self) -> Position:
        """Return the middle of the outline, LPS."""
        return self.nodule.position_mm

    @property
    def text(self) -> str:
        """Return the size in whole mm and the side."""
        size = self.nodule.outline.size
        side = f", {self.side} lung" if self.side else ""
        return f"{size.long_axis_mm:.0f} x {size.short_axis_mm:.0f} mm{side}"


class Candidates:
    """The candidates of one chest in the node's words, in the order of the search: the surest nodule first."""

    def __init__(self, slices: Stack, scan: Volume, candidates: Sequence[Candidate], search: str) -> None:
        self.slices, self._scan, self._search = slices, scan, search
        self.candidates = tuple(candidates)

    @property
    def score(self) -> float:
        """Return the largest probability of malignancy."""
        return max(candidate.prediction.probability for candidate in self.candidates)

    @property
    def evidence(self) -> tuple[InstanceRef, ...]:
        """Return the slices that were searched."""
        return refs(self.slices.instances)

    @property
    def key_images(self) -> tuple[InstanceRef, ...]:
        """Return the slice through the middle of each candidate."""
        return tuple(dict.fromkeys(self._image(candidate) for candidate in self.candidates))

    def findings(self) -> tuple[Finding, ...]:
        """Return a finding for each candidate, without a verdict: whether it is a nodule is not certain."""
        return tuple(map(self._finding, self.candidates))

    def captures(self) -> tuple[Capture, ...]:
        """Return a picture of each of the likeliest candidates, with what speaks for malignancy."""
        likeliest = sorted(self.candidates, key=lambda candidate: -candidate.prediction.probability)
        return tuple(map(self._capture, likeliest[:_CAPTURES]))

    def scores(self) -> Mapping[str, float]:
        """Return both probabilities of each candidate by name."""
        values: dict[str, float] = {}
        for candidate in self.candidates:
            values[f"lung candidate {candidate.number} malignant"] = candidate.prediction.probability
            values[f"lung candidate {candidate.number} nodule"] = candidate.nodule.mark.probability
        return values

    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Return what decided the answer, for the report."""
        return (("lung searched", self._search), ("lung largest probability", probability_text(self.score, 4)))

    def _finding(self, candidate: Candidate) -> Finding:
        image, size = (self._image(candidate),), candidate.nodule.outline.size
        probability = candidate.prediction.probability
        return Finding(
            tracking_identifier=f"candidate {candidate.number}",
            concept=_NODULE,
            site=LUNG,
            measurements=(
                percent(PROBABILITY_OF_CANCER, probability, image),
                percent(_SURENESS, candidate.nodule.mark.probability, image),
                Measurement(LONG_AXIS, round(size.long_axis_mm), MM, image),
                Measurement(SHORT_AXIS, round(size.short_axis_mm), MM, image),
            ),
            evidence=image,
            region=self._region(candidate),
            label=f"candidate {candidate.number}: {candidate.text}",
            laterality=SIDES.get(candidate.side),
            is_candidate=True,
        )

    def _capture(self, candidate: Candidate) -> Capture:
        finding, depth = self._finding(candidate), self._pixel(candidate)[0]
        shown = candidate.prediction.maps[-1]
        voxels = voxels_under(self.slices, depth, self._scan)
        x, y, z = candidate.position_mm
        number_of_slice = slice_number(self.slices, depth)
        return Capture(
            image=self._image(candidate),
            title=f"CT tumor, lung, candidate {candidate.number} of {len(self.candidates)}",
            captions=(
                f"Probability of malignancy {probability_text(candidate.prediction.probability)}, if this is a nodule",
                f"Probability of a nodule {probability_text(candidate.nodule.mark.probability)}; {candidate.text}",
                f"Slice {number_of_slice} of {len(self.slices.instances)}; x {x:.0f}, y {y:.0f}, z {z:.0f} mm",
                f"Marked by the node's search; nobody pointed at it; {NOT_RULED_OUT}",
            ),
            saliency=saliency(shown.values_at(voxels)) if shown else None,
            findings=(finding,),
            window=_LUNG_WINDOW,
        )

    def _pixel(self, candidate: Candidate) -> tuple[int, float, float]:
        """Return slice, row and column of the middle of a candidate."""
        depth, row, column = self.slices.pixel(candidate.position_mm)
        return min(max(round(depth), 0), len(self.slices.instances) - 1), row, column

    def _image(self, candidate: Candidate) -> InstanceRef:
        return self.slices.instances[self._pixel(candidate)[0]].ref

    def _region(self, candidate: Candidate) -> Region:
        _, row, column = self._pixel(candidate)
        reach_mm = candidate.nodule.outline.size.long_axis_mm / 2 + _MARGIN_MM
        _, row_mm, column_mm = self.slices.spacing_mm
        return Region.box(
            self._image(candidate),
            left=max(0.0, column + 0.5 - reach_mm / column_mm),
            top=max(0.0, row + 0.5 - reach_mm / row_mm),
            right=min(float(self.slices.columns), column + 0.5 + reach_mm / column_mm),
            bottom=min(float(self.slices.rows), row + 0.5 + reach_mm / row_mm),
        )


class LungSearch:
    """Searches a chest for nodules and judges each; loads its networks at the first chest."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment

    def read(self, instances: tuple[Instance, ...], selection: Selection) -> Candidates | OutOfScope:
        """Return the candidates of a chest, or that none was marked, which is no negative answer.

        Raises: BrokenSeries if a slice cannot be decoded.
        """
        from ainode.models.following import Grid, Omission  # noqa: PLC0415 - brings scipy along

        slices = stack(instances)
        if isinstance(slices, OutOfScope):
            return slices
        scan = volume(slices)
        grid = Grid(scan.values, scan.origin_mm, scan.spacing_mm, scan.axes)
        answer = self._loaded_search.search(grid, selection.wanted_candidates)
        if isinstance(answer, Omission):
            return OutOfScope(f"lung: not searched for nodules: {answer.reason}", answer.code, refs(instances))
        candidates = []
        for number, nodule in enumerate(answer.nodules, start=1):
            try:
                prediction = self._loaded_search.reader.prediction(nodule.outline, grid)
                side = side_of_body(scan, nodule.position_mm)
                candidates.append(Candidate(number, nodule, prediction, side))
            except UnusablePicture:
                # A slice of one value has nothing to judge, and is no nodule.
                continue
        if not candidates:
            return OutOfScope(f"lung: no candidate marked; {_searched_text(answer)}", "no-candidate", refs(instances))
        return Candidates(slices, scan, candidates, _searched_text(answer))

    def prepare(self) -> object:
        """Return the loaded networks."""
        return self._loaded_search

    @cached_property
    def _loaded_search(self) -> "NoduleSearch":
        from ainode.models.nodule_reading.search import NoduleSearch  # noqa: PLC0415

        paths = {name: self._environment.weights.verified(name) for name in WEIGHTS}
        return loaded(NoduleSearch.load, paths, name=DETECTION, environment=self._environment)


def _searched_text(answer: "SearchedChest") -> str:
    """Return how many nodules were marked, and why other marks are none."""
    reasons = dict.fromkeys(omission.reason for omission in answer.without_outline)
    left_out = [f"{_count(answer.without_outline, reason)} left out: {reason}" for reason in reasons]
    counts = [f"{len(answer.nodules)} marked", f"{answer.further} more not reported", *left_out]
    return "; ".join([*counts, NOT_RULED_OUT])


def _count(omissions: Sequence["Omission"], reason: str) -> int:
    return sum(omission.reason == reason for omission in omissions)
