"""Every nodule of the current study at each of its dates: where a prior's own report points, else carried there.

One prior is decoded at a time; of the current CT are kept the slices around each nodule and a coarse copy of the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from ainode.handlers.lung_nodule.selecting import WANTED, stack_at
from ainode.models.following import Followed, Grid, LeftOut, Measured, RigidTransform, found_again, measured, register
from ainode.models.lung_nodule.patches import Scan
from ainode.node.ct_series import ct_stack
from ainode.node.domain import UID, InstanceRef, Location, OutOfScope, Selection, Series, refs
from ainode.node.errors import BrokenSeries
from ainode.node.geometry import Stack, Volume, stack, volume

# Half of what the measurement looks at, 33 mm; the network's cube needs 25 mm.
_REACH_MM = 34.0
# The finest resolution that registration uses: a copy of it registers as the whole scan does.
_REGISTERED_MM = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """A nodule in one CT: the slices around it, decoded, and its size there."""

    location: Location
    whole: Stack
    slices: Stack
    decoded: Volume
    scan: Scan
    size: Measured | LeftOut
    carried: Followed | None = None
    """how it came here from the current CT; None where somebody pointed at it"""

    @property
    def refs(self) -> tuple[InstanceRef, ...]:
        """Return the slices that were read."""
        return refs(self.slices.instances)

    @property
    def at(self) -> tuple[int, float, float]:
        """Return slice, row and column of the position."""
        number, row, column = self.slices.pixel(self.location.position_mm)
        return round(min(max(number, 0), len(self.slices.instances) - 1)), row, column

    @property
    def key(self) -> InstanceRef:
        """Return the slice that holds the position."""
        return self.slices.instances[self.at[0]].ref

    def days_after(self, earlier: "Place") -> float | None:
        """Return the days between the Study Dates of two places, None where one is no date."""
        try:
            now, then = (
                datetime.strptime(one.slices.instances[0].text("StudyDate"), "%Y%m%d")  # noqa: DTZ007 - no time zone
                for one in (self, earlier)
            )
        except ValueError:
            return None
        return float((now - then).days)


@dataclass(frozen=True, slots=True)
class Traced:
    """One nodule through the dates."""

    current: Place
    earlier: tuple[Place | LeftOut, ...]
    """of each prior, the newest first"""

    @property
    def priors(self) -> tuple[tuple[int, Place], ...]:
        """Return the earlier places with their number, 1 being the newest prior."""
        return tuple((n, one) for n, one in enumerate(self.earlier, start=1) if isinstance(one, Place))

    @property
    def left_out(self) -> tuple[tuple[int, LeftOut], ...]:
        """Return the priors in which it has no place."""
        return tuple((n, one) for n, one in enumerate(self.earlier, start=1) if isinstance(one, LeftOut))

    @property
    def places(self) -> tuple[Place, ...]:
        """Return its places, the oldest first and the current one last."""
        return (*(place for _, place in reversed(self.priors)), self.current)

    @property
    def tracking_uid(self) -> UID:
        """Return what the nodule is called across studies, '' where nobody named it."""
        return next((uid for one in reversed(self.places) if (uid := one.location.tracking_uid)), UID(""))


def traced(selection: Selection) -> tuple[Traced, ...]:
    """Return every nodule of the current study through the dates.

    Raises: BrokenSeries if the slices around a nodule cannot be decoded; a prior that cannot is left out.
    """
    studies: dict[UID, list[Series]] = {}
    for one in selection.series:
        studies.setdefault(one.instances[0].ref.study_instance_uid, []).append(one)
    current = studies.pop(selection.study_instance_uid)
    here = [(found, one) for one in selection.locations if isinstance(found := stack_at(current, one), Stack)]
    nodules = [_pointed_at(*one) for one in here]
    coarse: dict[UID, Grid] = {}
    dates = [_earlier(nodules, series, selection.locations, coarse) for series in studies.values()]
    return tuple(Traced(nodule, tuple(date[n] for date in dates)) for n, nodule in enumerate(nodules))


def _earlier(
    nodules: Sequence[Place], series: Sequence[Series], locations: Sequence[Location], coarse: dict[UID, Grid]
) -> list[Place | LeftOut]:
    """Return each nodule's place in a prior, or why it has none; `coarse` keeps copies of the current CTs."""
    named = [one for one in locations if one.frame_of_reference_uid]
    own = [(found, one) for one in named if isinstance(found := stack_at(series, one), Stack)]
    answers: list[Place | LeftOut | None] = []
    for nodule in nodules:
        uid = nodule.location.tracking_uid
        same = [pair for pair in own if pair[1].tracking_uid == uid != ""]
        same = same or (own if len(own) == len(nodules) == 1 else [])
        answers.append(_unless_broken(*same[0]) if same else None)
    carried = iter(_carried([n for n, own in zip(nodules, answers, strict=True) if own is None], series, coarse))
    return [next(carried) if answer is None else answer for answer in answers]


def _carried(nodules: Sequence[Place], series: Sequence[Series], coarse: dict[UID, Grid]) -> Sequence[Place | LeftOut]:
    """Return each nodule's place in a prior, carried there by registration, or why it has none."""
    if not nodules:
        return []
    found = ct_stack(series, WANTED)
    if isinstance(found, OutOfScope):
        return [LeftOut(found.code, found.reason)] * len(nodules)
    try:
        for one in nodules:
            if _uid(one) not in coarse:
                coarse[_uid(one)] = _grid(volume(one.whole)).reduced(_REGISTERED_MM)
        decoded = volume(found)
    except BrokenSeries as error:
        return [LeftOut("broken", str(error))] * len(nodules)
    # Once per CT of the current study, however many nodules it has.
    transforms = {uid: register(coarse[uid], _grid(decoded)) for uid in dict.fromkeys(map(_uid, nodules))}
    return [_again(one, found, decoded, transforms[_uid(one)]) for one in nodules]


def _again(nodule: Place, prior: Stack, decoded: Volume, transform: RigidTransform | LeftOut) -> Place | LeftOut:
    """Return a nodule's place in a prior, found again near to where the transform puts it."""
    if isinstance(transform, LeftOut):
        return transform
    here = nodule.location
    found = found_again(_grid(nodule.decoded), _grid(decoded), here.position_mm, transform)
    if isinstance(found, LeftOut):
        return found
    if not prior.holds(found.position_mm):
        return LeftOut("outside", "the nodule's place is outside of the earlier scan")
    location = Location(found.position_mm, "registration", prior.frame_of_reference_uid, here.tracking_uid)
    low, high, before = _window(prior, location)
    values = decoded.values[before : before + high - low].copy()  # so that the rest is dropped
    near = replace(decoded, values=values, origin_mm=decoded.position((before, 0, 0)))
    return _place(prior, location, near, carried=found)


def _unless_broken(whole: Stack, location: Location) -> Place | LeftOut:
    try:
        return _pointed_at(whole, location)
    except BrokenSeries as error:
        return LeftOut("broken", str(error))


def _pointed_at(whole: Stack, location: Location) -> Place:
    """Decode the slices around a position."""
    low, high, _ = _window(whole, location)
    return _place(whole, location, volume(_part(whole, low, high)))


def _place(whole: Stack, location: Location, decoded: Volume, *, carried: Followed | None = None) -> Place:
    low, high, before = _window(whole, location)
    scan = Scan(decoded.values, decoded.spacing_mm, decoded.index(location.position_mm), before)
    size = carried.size if carried else measured(_grid(decoded), location.position_mm)
    return Place(location, whole, _part(whole, low, high), decoded, scan, size, carried)


def _window(whole: Stack, location: Location) -> tuple[int, int, int]:
    """Return the first slice around a position, the one after the last, and how many lie below them."""
    count, between = len(whole.instances), whole.spacing_mm[0]
    middle, reach = round(whole.pixel(location.position_mm)[0]), int(np.ceil(_REACH_MM / between)) + 1
    low, high = max(0, middle - reach), min(count, middle + reach + 1)
    return low, high, low if whole.normal[2] > 0 else count - high


def _part(whole: Stack, low: int, high: int) -> Stack:
    near = stack(whole.instances[low:high])
    if isinstance(near, OutOfScope):
        raise BrokenSeries(f"the slices around the position are no stack: {near.reason}")
    return near


def _grid(decoded: Volume) -> Grid:
    return Grid(decoded.values, decoded.origin_mm, decoded.spacing_mm, decoded.axes)


def _uid(place: Place) -> UID:
    return place.whole.instances[0].ref.series_instance_uid
