"""One nodule in the node's words: finding, key slice with box, captions, and the parameters of the report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ainode.handlers import MALIGNANT, PROBABILITY_OF_CANCER, percent, saliency, verdict_on, voxels_under
from ainode.handlers.lung_nodule.places import Place, TracedNodule, days_before, side_of_body
from ainode.models.following import Growth, NoduleSize, Omission, growth, thickness_omission
from ainode.models.lung_nodule.card import Card
from ainode.models.lung_nodule.model import Prediction
from ainode.node.domain import (
    OWN_REPORT,
    Capture,
    Code,
    Finding,
    InstanceRef,
    Measurement,
    Outline,
    OutOfScope,
    Region,
    Saliency,
    Selection,
    TimePoint,
    Window,
)

_NODULE = Code("27925004", "SCT", "Nodule")
_LUNG = Code("39607008", "SCT", "Lung")
_SIDES = {"right": Code("24028007", "SCT", "Right"), "left": Code("7771000", "SCT", "Left")}
_ATTENTION = Code("attention-weight", "99AINODE", "Attention weight")
# PS3.16 CID 7470; of growth no code is in PS3.16 that means an adult's nodule.
_DIAMETER = Code("81827009", "SCT", "Diameter")
_LONG_AXIS = Code("103339001", "SCT", "Long axis")
_SHORT_AXIS = Code("103340004", "SCT", "Short axis")
_VOLUME = Code("118565006", "SCT", "Volume")
_GROWTH = Code("volume-growth", "99AINODE", "Volume growth")
_DOUBLING = Code("doubling-time", "99AINODE", "Volume doubling time")
_PERCENT = Code("%", "UCUM", "%")
_NO_UNITS = Code("1", "UCUM", "no units")
_MM = Code("mm", "UCUM", "mm")
_MM3 = Code("mm3", "UCUM", "mm3")
_DAYS = Code("d", "UCUM", "d")
# In HU: a nodule in the lung is judged in it.
_LUNG_WINDOW = Window(-600.0, 1500.0)
# Drawn where no outline was found: LIDC-IDRI's nodules are smaller, with few exceptions.
_BOX_MM = 20.0
_LEAST_CONTOURS = 2
"""as many contours enclose a volume"""


@dataclass(frozen=True, slots=True)
class Nodule:
    """The predictions and the measurements of one nodule."""

    name: str
    trace: TracedNodule
    prediction: Prediction
    current_alone: Prediction
    """prediction from the current scan alone"""

    @property
    def place(self) -> Place:
        """Return the place of the nodule in the current study."""
        return self.trace.current

    @property
    def carried_from(self) -> str:
        """Return the source of a position that was carried from a prior; empty for a mark in the current study."""
        number, marked_place = self.trace.newest_marked
        day_text = days_before(self.place.days_after(marked_place))
        return f"{marked_place.location.source} in prior {number}, {day_text}" if number else ""

    @property
    def changes(self) -> tuple[tuple[int, Place, Growth | Omission], ...]:
        """Return the change since each prior that shows the nodule, the newest prior first."""
        return tuple(
            (number, earlier_place, _change(earlier_place, self.place)) for number, earlier_place in self.trace.priors
        )

    def finding(self, card: Card) -> Finding:
        """Return the finding: verdict, probability, growth, size, and the attention weight of each of several dates.

        The order matters: OHIF 3.13 draws the first five numbers of a report beside the box.
        """
        probability = percent(PROBABILITY_OF_CANCER, self.prediction.probability, (self.place.key_slice,))
        attention = (
            Measurement(_ATTENTION, round(weight, 4), _NO_UNITS, (place.key_slice,))
            for place, weight in self._attention()
        )
        return Finding(
            tracking_identifier=self.name,
            tracking_uid=self.trace.tracking_uid,
            concept=_NODULE,
            site=_LUNG,
            measurements=(probability, *self._growth(), *self._sizes(), *attention),
            evidence=self.place.refs,
            region=self._region(),
            label=f"{self.name}: {self.prediction.probability:.0%}",
            verdict=verdict_on(self.prediction.probability, card.threshold, card.band, about=MALIGNANT),
            laterality=_SIDES.get(side_of_body(self.place.volume, self.place.location.position_mm)),
            outline=self._outline(),
        )

    def _attention(self) -> Sequence[tuple[Place, float]]:
        """Return each place, the current one first, with its attention; nothing where there is a single date."""
        places, attention = self.trace.places[::-1], self.prediction.attention[::-1]
        return list(zip(places, attention, strict=True)) if len(places) > 1 else []

    def _outline(self) -> Outline | None:
        """Return the outline that the sizes were measured on, where it encloses a volume of a known patient space."""
        size, frame = self.place.size, self.place.slices.frame_of_reference_uid
        if isinstance(size, Omission) or len(size.outline) < _LEAST_CONTOURS or not frame:
            return None
        return Outline(frame, self.place.key_slice.series_instance_uid, size.outline)

    def _sizes(self) -> Iterator[Measurement]:
        """Yield the sizes in the current study, rounded to whole mm (MacMahon et al., Radiology 2017)."""
        size, key = self.place.size, (self.place.key_slice,)
        if isinstance(size, NoduleSize):
            yield Measurement(_DIAMETER, round(size.diameter_mm), _MM, key, of_outline=True)
            yield Measurement(_LONG_AXIS, round(size.long_axis_mm), _MM, key, of_outline=True)
            yield Measurement(_SHORT_AXIS, round(size.short_axis_mm), _MM, key, of_outline=True)
            yield Measurement(_VOLUME, round(size.volume_mm3), _MM3, key, of_outline=True)

    def _growth(self) -> Iterator[Measurement]:
        for _, earlier, change in self.changes:
            if isinstance(change, Growth):
                between = (self.place.key_slice, earlier.key_slice)
                yield Measurement(_GROWTH, round(change.percent), _PERCENT, between)
                if change.doubling_time_days is not None:
                    yield Measurement(_DOUBLING, round(change.doubling_time_days), _DAYS, between)

    def _region(self) -> Region:
        """Return a box around the nodule, centered at its position and cut off at the border of the image."""
        slices, (_, row, column) = self.place.slices, self.place.pixel_position
        _, row_mm, column_mm = slices.spacing_mm
        height_mm, width_mm = self._extent_mm()
        y, x = row + 0.5, column + 0.5
        half_rows = min(height_mm / row_mm / 2, y, slices.rows - y)
        half_columns = min(width_mm / column_mm / 2, x, slices.columns - x)
        return Region.box(
            self.place.key_slice, left=x - half_columns, top=y - half_rows, right=x + half_columns, bottom=y + half_rows
        )

    def _extent_mm(self) -> tuple[float, float]:
        """Return height and width of the box in mm: of the measurement, else of the outline, else 20 mm."""
        slices, size = self.place.slices, self.place.size
        if isinstance(size, NoduleSize):
            _, row, column = self.place.pixel_position
            _, middle_row, middle_column = slices.pixel(size.position_mm)
            _, row_mm, column_mm = slices.spacing_mm
            # The box stays at the position, which need not be the middle of what was measured.
            height_mm, width_mm = abs(middle_row - row) * row_mm, abs(middle_column - column) * column_mm
            return size.long_axis_mm + 2 * height_mm, size.long_axis_mm + 2 * width_mm
        height_mm, width_mm = self.current_alone.size_mm or (_BOX_MM, _BOX_MM)
        # Columns of an upright slice run to the back or, when it was turned by 90 degrees, to a side.
        turned = abs(slices.column_axis[0]) > abs(slices.column_axis[1])
        return (width_mm, height_mm) if turned else (height_mm, width_mm)

    def capture(self, card: Card) -> Capture:
        """Return the key slice with the saliency of the current scan and the box."""
        finding = self.finding(card)
        return Capture(
            image=self.place.key_slice,
            title=f"Lung {self.name}",
            captions=tuple(self._captions()),
            saliency=self._saliency(),
            findings=(finding,),
            subject=finding,
            inset=finding,
            window=_LUNG_WINDOW,
        )

    def _captions(self) -> Iterator[str]:
        if self.carried_from:
            yield f"Nobody pointed here; position carried from {self.carried_from}"
        if weights := [f"{weight:.2f}" for _, weight in reversed(self._attention())]:
            yield f"Time points {len(weights)}, attention oldest first {', '.join(weights)}"
        yield from (f"Prior {number} left out: {reason.reason}" for number, reason in self.trace.left_out)
        yield _size_text(self.place.size)
        for number, earlier_place, change in self.changes:
            no_growth_text = f"growth not measured: {change.reason}"
            change_text = (
                _growth_text(change, earlier_place, self.place) if isinstance(change, Growth) else no_growth_text
            )
            yield f"Since prior {number}: {change_text}"
        current_alone = f"current scan alone {self.current_alone.probability:.1%} ({self.current_alone.profile})"
        yield f"Profile {self.prediction.profile}; {current_alone}"
        outline_text = "outline found" if self.current_alone.size_mm else f"{_BOX_MM:.0f} mm square, no outline"
        box_text = "as measured" if isinstance(self.place.size, NoduleSize) else outline_text
        width_mm = self.current_alone.picture_mm
        yield f"Box: {box_text}" + (f"; picture {width_mm:.0f} mm wide" if width_mm else "")

    def _saliency(self) -> Saliency | None:
        place, saliency_map = self.place, self.prediction.maps[-1]
        voxels = voxels_under(place.slices, place.pixel_position[0], place.volume)
        return saliency(saliency_map.values_at(voxels)) if saliency_map else None

    def scores(self) -> Mapping[str, float]:
        """Return every number of the nodule by name; time point 1 is the current study."""
        scores = {
            f"{self.name} probability": self.prediction.probability,
            f"{self.name} probability of the current scan alone": self.current_alone.probability,
        }
        for number, (_, attention) in enumerate(self._attention(), start=1):
            scores[f"{self.name} attention of time point {number}"] = attention
        for number, place in enumerate(reversed(self.trace.places), start=1):
            if isinstance(place.size, NoduleSize):
                scores[f"{self.name} volume in mm3 of time point {number}"] = round(place.size.volume_mm3, 1)
        return scores

    def course(self) -> Iterator[TimePoint]:
        """Yield the nodule at each date, the oldest first: attention, size, and the change until the current study."""
        weights: list[float | None] = [weight for _, weight in self._attention()] or [None]
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
    if isinstance(place.size, NoduleSize):
        values = {"diameter in mm": place.size.diameter_mm, "volume in mm3": place.size.volume_mm3}
    if isinstance(change, Growth):
        values["growth until now in percent"] = change.percent
        if change.doubling_time_days is not None:
            values["doubling time in days"] = change.doubling_time_days
    return {name: round(value, 1) for name, value in values.items()}


def course(nodules: Sequence[Nodule]) -> tuple[TimePoint, ...]:
    """Return each nodule at each of its dates, the oldest first."""
    return tuple(time_point for nodule in nodules for time_point in nodule.course())


def by_nodule(texts: Mapping[str, str]) -> str:
    """Return one text: the text of each nodule after its name, or the bare text of a single nodule."""
    return (
        next(iter(texts.values())) if len(texts) == 1 else "; ".join(f"{name}: {text}" for name, text in texts.items())
    )


def parameters(nodules: Sequence[Nodule], not_read: Mapping[str, OutOfScope]) -> dict[str, str]:
    """Return the report's parameters on following and on omissions; priors are numbered from the newest."""
    names = ("carried", "not read", "registration", "marks in priors", "growth")
    left_out = ("priors left out", "size left out", "growth left out")
    texts: dict[str, list[str]] = {name: [] for name in names + left_out}
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in not_read.items():
        names_by_reason.setdefault(_reason_text(reason), []).append(name)
    texts["not read"] += [f"{', '.join(group)}: {reason}" for reason, group in names_by_reason.items()]
    for nodule in nodules:
        for name, text in (*_place_texts(nodule), *_change_texts(nodule)):
            texts[name].append(f"{nodule.name}{text}")
    return {name: "; ".join(parts) for name, parts in texts.items() if parts}


def _place_texts(nodule: Nodule) -> Iterator[tuple[str, str]]:
    """Yield parameter and text on the way by which the place at each date is known, and on missing sizes."""
    if nodule.carried_from:
        yield "carried", f" from {nodule.carried_from}, since nobody pointed at it in this study"
    _, pointed_at = nodule.trace.newest_marked
    for at_date, place in (
        ("", nodule.place),
        *((f" in prior {number}", place) for number, place in nodule.trace.priors),
    ):
        if place.followed:
            followed = place.followed
            fit = f"correlation {followed.transform.correlation:.2f}, refined by {followed.place.shift_mm:.0f} mm"
            yield "registration", f"{at_date}: {fit}"
        elif place is not pointed_at:
            yield "marks in priors", f"{at_date}: {_mark_text(place)}"
        if isinstance(place.size, Omission):
            yield "size left out", f"{at_date}: {_reason_text(place.size)}"


def _change_texts(nodule: Nodule) -> Iterator[tuple[str, str]]:
    """Yield parameter and text on the change since each prior, or on the reason why there is no change."""
    yield from (
        ("priors left out", f" in prior {number}: {_reason_text(reason)}") for number, reason in nodule.trace.left_out
    )
    for number, earlier_place, change in nodule.changes:
        if isinstance(change, Growth):
            yield "growth", f" since prior {number}: {_growth_text(change, earlier_place, nodule.place)}"
        else:
            yield "growth left out", f" since prior {number}: {_reason_text(change)}"


def key_images(nodules: Sequence[Nodule]) -> tuple[InstanceRef, ...]:
    """Return the key slices: of the current study first, then of the priors, the newest prior first."""
    current = [nodule.place.key_slice for nodule in nodules]
    return tuple(dict.fromkeys(current + [place.key_slice for nodule in nodules for _, place in nodule.trace.priors]))


def evidence(selection: Selection, nodules: Sequence[Nodule]) -> tuple[InstanceRef, ...]:
    """Return the slices that were read and the objects with their marks, of the current study first."""
    places = [place for item in nodules for place in reversed(item.trace.places)]
    pointed_into = {place.key_slice.study_instance_uid for place in places if place.followed is None}
    pointing = [item.ref for item in selection.instances if item.text("Modality") != "CT"]
    slices = [ref for place in places for ref in place.refs]
    references = dict.fromkeys([*slices, *(ref for ref in pointing if ref.study_instance_uid in pointed_into)])
    return tuple(sorted(references, key=lambda ref: ref.study_instance_uid != selection.study_instance_uid))


def continued(selection: Selection, nodules: Sequence[Nodule]) -> tuple[InstanceRef, ...]:
    """Return the earlier reports of this node that located the nodules."""
    places = [place for item in nodules for place in item.trace.places]
    own_report_studies = {item.key_slice.study_instance_uid for item in places if item.location.source == OWN_REPORT}
    reports = (item.ref for item in selection.instances if item.text("Modality") == "SR")
    return tuple(ref for ref in reports if ref.study_instance_uid in own_report_studies)


def _change(earlier: Place, current_place: Place) -> Growth | Omission:
    if not (isinstance(earlier.size, NoduleSize) and isinstance(current_place.size, NoduleSize)):
        return Omission("no-size", "the nodule has no size at one of the dates")
    days = current_place.days_after(earlier)
    if days is None:
        return Omission("no-date", "a study has no Study Date")
    return thickness_omission(earlier.slice_mm, current_place.slice_mm) or growth(
        earlier.size, current_place.size, days
    )


def _size_text(size: NoduleSize | Omission) -> str:
    if isinstance(size, Omission):
        return f"Not measured: {size.reason}"
    axes = f"{size.long_axis_mm:.0f} x {size.short_axis_mm:.0f} mm"
    return f"Diameter {size.diameter_mm:.0f} mm ({axes}), volume {size.volume_mm3:.0f} mm3"


def _growth_text(change: Growth, earlier: Place, current_place: Place) -> str:
    doubling = change.doubling_time_days
    doubling_text = change.reason if doubling is None else f"doubling time {doubling:.0f} d"
    slices = f"slices {earlier.slice_mm:.3g} and {current_place.slice_mm:.3g} mm"
    return f"volume {change.percent:+.0f} % in {change.days:.0f} d, {doubling_text}, {slices}"


def _mark_text(place: Place) -> str:
    distance_mm, source = place.spot.mark_distance_mm, place.location.source
    return (
        f"{source}, given for this nodule"
        if distance_mm is None
        else f"{source}, {distance_mm:.1f} mm from its registered place"
    )


def _reason_text(reason: Omission | OutOfScope) -> str:
    return f"{reason.code}, {reason.reason}"
