"""One nodule in the node's words: finding, key slice with box, scores, and its course over the dates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ainode.handlers import (
    LONG_AXIS,
    LUNG,
    MALIGNANT,
    MARKED_BY_SEARCH,
    MM,
    PERCENT,
    PROBABILITY_OF_CANCER,
    SHORT_AXIS,
    SIDES,
    VOLUME,
    percent,
    saliency,
    verdict_on,
    voxels_under,
)
from ainode.handlers.lung_nodule.changes import change_between
from ainode.handlers.lung_nodule.outlines import NODULE, outline_of
from ainode.handlers.lung_nodule.places import Place, TracedNodule, days_before
from ainode.handlers.lung_nodule.sizes import Size
from ainode.handlers.lung_nodule.statements import captions
from ainode.models.following import Growth, Omission
from ainode.models.lung_nodule.card import Card
from ainode.models.lung_nodule.model import Prediction
from ainode.models.nodule_reading.density import Density
from ainode.node.domain import (
    Capture,
    Code,
    Finding,
    Measurement,
    Region,
    Saliency,
    TimePoint,
    Verdict,
    Window,
    probability_text,
)

_ATTENTION = Code("attention-weight", "99AINODE", "Attention weight")
# PS3.16 CID 7470; of growth no code is in PS3.16 that means an adult's nodule.
_DIAMETER = Code("81827009", "SCT", "Diameter")
_GROWTH = Code("volume-growth", "99AINODE", "Volume growth")
_DOUBLING = Code("doubling-time", "99AINODE", "Volume doubling time")
_NO_UNITS = Code("1", "UCUM", "no units")
_MM3 = Code("mm3", "UCUM", "mm3")
_DAYS = Code("d", "UCUM", "d")
_SURENESS = Code("mark-probability", "99AINODE", "Probability that the mark is a nodule")
_MARKED_BY_OTHERS = MARKED_BY_SEARCH[0], Code("person-or-system", "99AINODE", "A person or another system")
_DENSITY = Code("111035", "DCM", "Lesion Density")
# Of these PS3.16 has a code for ground glass alone.
_DENSITIES = {
    Density.SOLID: Code("solid", "99AINODE", "Solid"),
    Density.PART_SOLID: Code("part-solid", "99AINODE", "Part-solid"),
    Density.GROUND_GLASS: Code("112120", "DCM", "Ground glass opacity"),
}
# In HU: a nodule in the lung is judged in it.
_LUNG_WINDOW = Window(-600.0, 1500.0)
Changes = tuple[tuple[int, Place, Growth | Omission], ...]
"""number and place of each prior that shows the nodule, the newest first, and the change since then"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whether a person or a search of the node marked a nodule.

    Units: `sureness` 0 to 1, the detector's of a nodule at the place; None where the search marked it at a prior.
    """

    is_candidate: bool = False
    sureness: float | None = None
    is_evaluated: bool = False
    """whether the site has measured the search, so that a verdict may be negative"""

    def verdict(self, probability: float, card: Card) -> Verdict:
        """Return the verdict of malignancy; of a candidate none is negative before the search was measured."""
        band = card.band
        if self.is_candidate and not self.is_evaluated:
            band = (0.0, max(card.threshold, band[1] if band else 0.0))
        return verdict_on(probability, card.threshold, band, about=MALIGNANT)

    @property
    def words(self) -> str:
        """Return the caption of a candidate; empty for what a person marked."""
        sureness = "" if self.sureness is None else f", probability of a nodule {probability_text(self.sureness)}"
        text = f"A candidate of the node's search{sureness}; nobody pointed at it"
        return text if self.is_candidate else ""


@dataclass(frozen=True, slots=True)
class Nodule:
    """The predictions and the measurements of one nodule."""

    name: str
    trace: TracedNodule
    prediction: Prediction
    current_alone: Prediction
    """prediction from the current scan alone"""
    origin: Origin
    density: Density
    """whether the nodule is solid now"""

    @property
    def changes(self) -> Changes:
        """Return the change since each prior that shows the nodule."""
        return tuple((number, place, change_between(place, self.place)) for number, place in self.trace.priors)

    @property
    def place(self) -> Place:
        """Return the place of the nodule in the current study."""
        return self.trace.current

    def beside(self, owners: Mapping[str, str]) -> "Nodule":
        """Return the nodule as it is where a nodule of the same report has pixels of its outline, by its name."""
        current = replace(self.place, owner=owners.get(self.name, ""))
        return replace(self, trace=replace(self.trace, current=current))

    @property
    def carried_from(self) -> str:
        """Return the source of a position that was carried from a prior; empty for a mark in the current study."""
        number, marked_place = self.trace.newest_marked
        day_text = days_before(self.place.days_after(marked_place))
        return f"{marked_place.location.source} in prior {number}, {day_text}" if number else ""

    @property
    def attention(self) -> Sequence[tuple[Place, float]]:
        """Return each place, the current one first, with its attention; nothing where there is a single date."""
        places, attention = self.trace.places[::-1], self.prediction.attention[::-1]
        return list(zip(places, attention, strict=True)) if len(places) > 1 else []

    def finding(self, card: Card) -> Finding:
        """Return the finding: verdict, probability, growth, size, and the attention weight of each of several dates.

        The order matters: OHIF 3.13 draws the first five numbers of a report beside the box.
        """
        probability = percent(PROBABILITY_OF_CANCER, self.prediction.probability, (self.place.key_slice,))
        attention = (
            Measurement(_ATTENTION, round(weight, 4), _NO_UNITS, (place.key_slice,)) for place, weight in self.attention
        )
        return Finding(
            tracking_identifier=self.name,
            tracking_uid=self.trace.tracking_uid,
            concept=NODULE,
            site=LUNG,
            measurements=(probability, *self._growth(), *self._sizes(), *self._sureness(), *attention),
            evidence=self.place.refs,
            region=self._region(),
            label=f"{self.name}: {probability_text(self.prediction.probability)}",
            verdict=self.origin.verdict(self.prediction.probability, card),
            laterality=SIDES.get(self.place.side),
            outline=outline_of(self.place),
            qualities=(
                (_DENSITY, _DENSITIES[self.density]),
                MARKED_BY_SEARCH if self.origin.is_candidate else _MARKED_BY_OTHERS,
            ),
            is_candidate=self.origin.is_candidate,
        )

    def _sizes(self) -> Iterator[Measurement]:
        """Yield the sizes in the current study, rounded to whole mm (MacMahon et al., Radiology 2017)."""
        size = self.place.size
        if isinstance(size, Omission):
            return
        values = (
            (_DIAMETER, size.diameter_mm, MM),
            (LONG_AXIS, size.long_axis_mm, MM),
            (SHORT_AXIS, size.short_axis_mm, MM),
            (VOLUME, size.volume_mm3, _MM3),
        )
        for concept, value, unit in values:
            if value is not None:
                key = (self.place.key_slice,)
                yield Measurement(concept, round(value), unit, key, of_outline=size.is_outlined)

    def _sureness(self) -> Iterator[Measurement]:
        if self.origin.sureness is not None:
            yield percent(_SURENESS, self.origin.sureness, (self.place.key_slice,))

    def _growth(self) -> Iterator[Measurement]:
        for _, earlier, change in self.changes:
            if isinstance(change, Growth):
                between = (self.place.key_slice, earlier.key_slice)
                yield Measurement(_GROWTH, round(change.percent), PERCENT, between)
                if change.doubling_time_days is not None:
                    yield Measurement(_DOUBLING, round(change.doubling_time_days), _DAYS, between)

    def _region(self) -> Region:
        """Return a box as wide as the outline is long, around its middle and cut off at the border of the image."""
        slices, (_, row, column) = self.place.slices, self.place.pixel_position
        _, row_mm, column_mm = slices.spacing_mm
        y, x = row + 0.5, column + 0.5
        half_rows = min(self.place.width_mm / row_mm / 2, y, slices.rows - y)
        half_columns = min(self.place.width_mm / column_mm / 2, x, slices.columns - x)
        return Region.box(
            self.place.key_slice, left=x - half_columns, top=y - half_rows, right=x + half_columns, bottom=y + half_rows
        )

    def capture(self, card: Card) -> Capture:
        """Return the key slice with the saliency of the current scan and the box."""
        finding = self.finding(card)
        return Capture(
            image=self.place.key_slice,
            title=f"Lung {self.name}",
            captions=tuple(captions(self)),
            saliency=self._saliency(),
            findings=(finding,),
            subject=finding,
            inset=finding,
            window=_LUNG_WINDOW,
        )

    def _saliency(self) -> Saliency | None:
        place, saliency_map = self.place, self.prediction.maps[-1]
        voxels = voxels_under(place.slices, place.pixel_position[0], place.volume)
        return saliency(saliency_map.values_at(voxels)) if saliency_map else None

    def scores(self) -> Mapping[str, float]:
        """Return every number of the nodule by name; prior 1 is the newest."""
        scores = {
            f"{self.name} probability": self.prediction.probability,
            f"{self.name} probability of the current scan alone": self.current_alone.probability,
        }
        if self.origin.sureness is not None:
            scores[f"{self.name} probability of a nodule"] = self.origin.sureness
        dates = ["", *(f" in prior {number}" for number, _ in self.trace.priors)]
        for date, (_, attention) in zip(dates, self.attention, strict=False):
            scores[f"{self.name} attention{date}"] = attention
        for date, place in zip(dates, reversed(self.trace.places), strict=True):
            if isinstance(size := place.size, Size) and size.volume_mm3:
                scores[f"{self.name} volume in mm3{date}"] = round(size.volume_mm3, 1)
        return scores

    def course(self) -> Iterator[TimePoint]:
        """Yield the nodule at each date, the oldest first: attention, size, and the change until the current study."""
        weights: list[float | None] = [weight for _, weight in self.attention] or [None]
        changes = {number: change for number, _, change in self.changes}
        numbered = (*reversed(self.trace.priors), (0, self.place))
        for (number, place), weight in zip(numbered, reversed(weights), strict=True):
            values = {} if weight is None else {"attention": weight}
            values |= _course_values(place, changes.get(number))
            study = place.key_slice.study_instance_uid
            yield TimePoint(self.name, study, self.place.days_after(place) if number else 0.0, values)


def _course_values(place: Place, change: Growth | Omission | None) -> dict[str, float]:
    """Return the sizes at a date, and the change until the current study, by name and unit."""
    values = {}
    if isinstance(size := place.size, Size):
        values = {"diameter in mm": size.diameter_mm}
        if size.volume_mm3:
            values["volume in mm3"] = size.volume_mm3
    if isinstance(change, Growth):
        values["growth until now in percent"] = change.percent
        if change.doubling_time_days is not None:
            values["doubling time in days"] = change.doubling_time_days
    return {name: round(value, 1) for name, value in values.items()}


def course(nodules: Sequence[Nodule]) -> tuple[TimePoint, ...]:
    """Return each nodule at each of its dates, the oldest first."""
    return tuple(time_point for nodule in nodules for time_point in nodule.course())
