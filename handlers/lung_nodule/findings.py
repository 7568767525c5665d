"""What was read and measured of one nodule, in the node's words: finding, key slice with its box, captions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ainode.handlers import PROBABILITY_OF_CANCER, percent, saliency, voxels_under
from ainode.handlers.lung_nodule.places import Place, Traced, since
from ainode.models.following import Growth, LeftOut, Measured, comparable, growth
from ainode.models.lung_nodule.card import Card
from ainode.models.lung_nodule.model import Prediction
from ainode.node.domain import (
    OWN_REPORT,
    Capture,
    Code,
    Finding,
    InstanceRef,
    Measurement,
    OutOfScope,
    Region,
    Saliency,
    Selection,
)

_NODULE = Code("27925004", "SCT", "Nodule")
_LUNG = Code("39607008", "SCT", "Lung")
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
# Drawn where no outline was found: LIDC-IDRI's nodules are smaller, with few exceptions.
_BOX_MM = 20.0


@dataclass(frozen=True, slots=True)
class Nodule:
    """What the model says of one nodule, and what was measured."""

    name: str
    traced: Traced
    made: Prediction
    alone: Prediction
    """of the current scan alone"""

    @property
    def place(self) -> Place:
        """Return where it is in the current study."""
        return self.traced.current

    @property
    def carried_from(self) -> str:
        """Return where its position comes from if nobody pointed at it in the current study, else ''."""
        number, then = self.traced.pointed_at
        ago = since(self.place.days_after(then))
        return f"{then.location.source} in prior {number}, {ago}" if number else ""

    @property
    def changes(self) -> tuple[tuple[int, Place, Growth | LeftOut], ...]:
        """Return its change since each prior that it was found in, the newest first."""
        return tuple((number, one, _change(one, self.place)) for number, one in self.traced.priors)

    def finding(self) -> Finding:
        """Return the nodule's probability, its growth, its size, and how much each time point counted.

        In this order, for OHIF 3.13 draws the first five numbers of a report beside the box.
        """
        probability = percent(PROBABILITY_OF_CANCER, self.made.probability, (self.place.key,))
        weighed = zip(reversed(self.traced.places), reversed(self.made.attention), strict=True)
        attention = (Measurement(_ATTENTION, round(one, 4), _NO_UNITS, (place.key,)) for place, one in weighed)
        return Finding(
            tracking_identifier=self.name,
            tracking_uid=self.traced.tracking_uid,
            concept=_NODULE,
            site=_LUNG,
            measurements=(probability, *self._growth(), *self._sizes(), *attention),
            evidence=self.place.refs,
            region=self._region(),
            label=f"{self.name} {self.made.probability:.0%}",
        )

    def _sizes(self) -> Iterator[Measurement]:
        """Yield the size of today, to whole mm (MacMahon et al., Radiology 2017)."""
        size, key = self.place.size, (self.place.key,)
        if isinstance(size, Measured):
            yield Measurement(_DIAMETER, round(size.diameter_mm), _MM, key)
            yield Measurement(_LONG_AXIS, round(size.long_axis_mm), _MM, key)
            yield Measurement(_SHORT_AXIS, round(size.short_axis_mm), _MM, key)
            yield Measurement(_VOLUME, round(size.volume_mm3), _MM3, key)

    def _growth(self) -> Iterator[Measurement]:
        for _, earlier, change in self.changes:
            if isinstance(change, Growth):
                between = (self.place.key, earlier.key)
                yield Measurement(_GROWTH, round(change.percent), _PERCENT, between)
                if change.doubling_time_days is not None:
                    yield Measurement(_DOUBLING, round(change.doubling_time_days), _DAYS, between)

    def _region(self) -> Region:
        """Return a box centered at the position that holds the nodule, inside of the image."""
        slices, (_, row, column) = self.place.slices, self.place.at
        _, row_mm, column_mm = slices.spacing_mm
        down, across = self._extent_mm()
        y, x = row + 0.5, column + 0.5
        half_rows = min(down / row_mm / 2, y, slices.rows - y)
        half_columns = min(across / column_mm / 2, x, slices.columns - x)
        return Region.box(
            self.place.key, left=x - half_columns, top=y - half_rows, right=x + half_columns, bottom=y + half_rows
        )

    def _extent_mm(self) -> tuple[float, float]:
        """Return how far the box reaches along rows' and columns' numbers: as measured, else the outline's."""
        slices, size = self.place.slices, self.place.size
        if isinstance(size, Measured):
            _, row, column = self.place.at
            _, middle_row, middle_column = slices.pixel(size.position_mm)
            _, row_mm, column_mm = slices.spacing_mm
            # The box stays at the position, which need not be the middle of what was measured.
            down, across = abs(middle_row - row) * row_mm, abs(middle_column - column) * column_mm
            return size.long_axis_mm + 2 * down, size.long_axis_mm + 2 * across
        down, across = self.alone.size_mm or (_BOX_MM, _BOX_MM)
        # Columns of an upright slice run to the back or, when it was turned by 90 degrees, to a side.
        turned = abs(slices.column_axis[0]) > abs(slices.column_axis[1])
        return (across, down) if turned else (down, across)

    def capture(self, card: Card) -> Capture:
        """Return the key slice with the saliency of the current scan and the box."""
        finding = self.finding()
        return Capture(
            image=self.place.key,
            title=f"Lung {self.name}",
            captions=tuple(self._captions(card)),
            saliency=self._saliency(),
            findings=(finding,),
        )

    def _captions(self, card: Card) -> Iterator[str]:
        verdict = "above" if self.made.probability > card.threshold else "not above"
        yield f"Probability of cancer {self.made.probability:.1%}, {verdict} {card.threshold:.0%}"
        if self.carried_from:
            yield f"Nobody pointed here; position carried from {self.carried_from}"
        attention = ", ".join(f"{one:.2f}" for one in self.made.attention)
        yield f"Time points {len(self.traced.places)}, attention oldest first {attention}"
        yield from (f"Prior {number} left out: {why.reason}" for number, why in self.traced.left_out)
        yield _size_said(self.place.size)
        for number, then, change in self.changes:
            not_grown = f"growth not measured: {change.reason}"
            what = _grown(change, then, self.place) if isinstance(change, Growth) else not_grown
            yield f"Since prior {number}: {what}"
        alone = f"current scan alone {self.alone.probability:.1%} ({self.alone.profile})"
        yield f"Profile {self.made.profile}; {alone}"
        outline = "outline found" if self.alone.size_mm else f"{_BOX_MM:.0f} mm square, no outline"
        box = "as measured" if isinstance(self.place.size, Measured) else outline
        shown = self.alone.picture_mm
        yield f"Box: {box}" + (f"; picture {shown:.0f} mm wide" if shown else "")

    def _saliency(self) -> Saliency | None:
        place, shown = self.place, self.made.maps[-1]
        where = voxels_under(place.slices, place.at[0], place.decoded)
        return saliency(shown.sampled(where)) if shown else None

    def scores(self) -> Mapping[str, float]:
        """Return every number of this nodule by name; time point 1 is the current one."""
        scores = {
            f"{self.name} probability": self.made.probability,
            f"{self.name} probability of the current scan alone": self.alone.probability,
        }
        weighed = zip(reversed(self.traced.places), reversed(self.made.attention), strict=True)
        for number, (place, attention) in enumerate(weighed, start=1):
            scores[f"{self.name} attention of time point {number}"] = attention
            if isinstance(place.size, Measured):
                scores[f"{self.name} volume in mm3 of time point {number}"] = round(place.size.volume_mm3, 1)
        return scores


def each(said: Mapping[str, str]) -> str:
    """Return what is said of each nodule by its name; of the only one, just that."""
    return next(iter(said.values())) if len(said) == 1 else "; ".join(f"{name}: {one}" for name, one in said.items())


def parameters(nodules: Sequence[Nodule], not_read: Mapping[str, OutOfScope]) -> dict[str, str]:
    """Return how the nodules were followed and what was left out, for the report; priors count from the newest."""
    names = ("carried", "not read", "registration", "marks in priors", "growth")
    left_out = ("priors left out", "size left out", "growth left out")
    said: dict[str, list[str]] = {name: [] for name in names + left_out}
    said["not read"] += [f"{name}: {_why(why)}" for name, why in not_read.items()]
    for one in nodules:
        for name, text in (*_places_said(one), *_changes_said(one)):
            said[name].append(f"{one.name}{text}")
    return {name: "; ".join(texts) for name, texts in said.items() if texts}


def _places_said(nodule: Nodule) -> Iterator[tuple[str, str]]:
    """Yield parameter and text of how it is known where the nodule is at each date, and why it has no size there."""
    if nodule.carried_from:
        yield "carried", f" from {nodule.carried_from}, since nobody pointed at it in this study"
    _, pointed_at = nodule.traced.pointed_at
    for where, place in (("", nodule.place), *((f" in prior {n}", place) for n, place in nodule.traced.priors)):
        if place.carried:
            how = place.carried
            fit = f"correlation {how.transform.correlation:.2f}, refined by {how.place.moved_mm:.0f} mm"
            yield "registration", f"{where}: {fit}"
        elif place is not pointed_at:
            yield "marks in priors", f"{where}: {_marked(place)}"
        if isinstance(place.size, LeftOut):
            yield "size left out", f"{where}: {_why(place.size)}"


def _changes_said(nodule: Nodule) -> Iterator[tuple[str, str]]:
    """Yield parameter and text of the change since each prior, or of why there is none."""
    yield from (("priors left out", f" in prior {n}: {_why(why)}") for n, why in nodule.traced.left_out)
    for number, then, change in nodule.changes:
        if isinstance(change, Growth):
            yield "growth", f" since prior {number}: {_grown(change, then, nodule.place)}"
        else:
            yield "growth left out", f" since prior {number}: {_why(change)}"


def key_images(nodules: Sequence[Nodule]) -> tuple[InstanceRef, ...]:
    """Return the slices to open, those of the current study first, then the newest prior's."""
    current = [one.place.key for one in nodules]
    return tuple(dict.fromkeys(current + [place.key for one in nodules for _, place in one.traced.priors]))


def evidence(selection: Selection, nodules: Sequence[Nodule]) -> tuple[InstanceRef, ...]:
    """Return the slices that were read and the objects that point into them, those of the current study first."""
    places = [place for one in nodules for place in reversed(one.traced.places)]
    pointed_into = {place.key.study_instance_uid for place in places if place.carried is None}
    pointing = [one.ref for one in selection.instances if one.text("Modality") != "CT"]
    slices = [ref for place in places for ref in place.refs]
    found = dict.fromkeys([*slices, *(ref for ref in pointing if ref.study_instance_uid in pointed_into)])
    return tuple(sorted(found, key=lambda ref: ref.study_instance_uid != selection.study_instance_uid))


def continued(selection: Selection, nodules: Sequence[Nodule]) -> tuple[InstanceRef, ...]:
    """Return our earlier reports that say where the nodules were."""
    places = [place for one in nodules for place in one.traced.places]
    said_by_us = {one.key.study_instance_uid for one in places if one.location.source == OWN_REPORT}
    reports = (one.ref for one in selection.instances if one.text("Modality") == "SR")
    return tuple(ref for ref in reports if ref.study_instance_uid in said_by_us)


def _change(earlier: Place, now: Place) -> Growth | LeftOut:
    if not (isinstance(earlier.size, Measured) and isinstance(now.size, Measured)):
        return LeftOut("no-size", "the nodule has no size at one of the dates")
    days = now.days_after(earlier)
    if days is None:
        return LeftOut("no-date", "a study has no Study Date")
    return comparable(earlier.slice_mm, now.slice_mm) or growth(earlier.size, now.size, days)


def _size_said(size: Measured | LeftOut) -> str:
    if isinstance(size, LeftOut):
        return f"Not measured: {size.reason}"
    axes = f"{size.long_axis_mm:.0f} x {size.short_axis_mm:.0f} mm"
    return f"Diameter {size.diameter_mm:.0f} mm ({axes}), volume {size.volume_mm3:.0f} mm3"


def _grown(change: Growth, earlier: Place, now: Place) -> str:
    doubling = change.doubling_time_days
    what = change.reason if doubling is None else f"doubling time {doubling:.0f} d"
    slices = f"slices {earlier.slice_mm:.3g} and {now.slice_mm:.3g} mm"
    return f"volume {change.percent:+.0f} % in {change.days:.0f} d, {what}, {slices}"


def _marked(place: Place) -> str:
    away, source = place.spot.marked_mm, place.location.source
    return f"{source}, given for this nodule" if away is None else f"{source}, {away:.1f} mm from its registered place"


def _why(why: LeftOut | OutOfScope) -> str:
    return f"{why.code}, {why.reason}"
