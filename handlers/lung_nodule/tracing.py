"""Every nodule of the current study at each of its dates.

A nodule is marked in the current CT or, where nobody marked it there, in the newest prior with a mark. From that date
registration carries the nodule to the other dates. One CT is decoded at a time; of the CT with the marks, the slices
around each nodule and a coarse copy of the whole CT stay in memory.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import dist, inf

import numpy as np

from ainode.handlers.lung_nodule.places import (
    Outliner,
    Place,
    Spot,
    TracedNodule,
    days_before,
    days_between,
    following_grid,
    places_in,
)
from ainode.handlers.lung_nodule.selecting import WANTED, stack_at
from ainode.handlers.lung_nodule.sizes import refusal_of
from ainode.models.following import FollowedNodule, Grid, Omission, RigidTransform, nodule_through_transform, register
from ainode.models.nodule_outline.model import OutlinedNodule
from ainode.node.domain import NO_UID, REQUEST, UID, Instance, Location, OutOfScope, Position, Selection, Series
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.ct_series import ct_stack
from ainode.node.imaging.geometry import Stack, Volume, volume

# The finest resolution that registration uses: a copy of it registers as the whole scan does.
_REGISTERED_MM = 2.0
# A mark is put by hand: within the followed nodule or up to 2 mm beside it; within 5 mm where the nodule has no size;
# within 15 mm, the radius of the largest nodule, where the nodule was not found again.
_BESIDE_MM, _UNMEASURED_MM, _NOT_FOUND_MM = 2.0, 5.0, 15.0


@dataclass(frozen=True, slots=True)
class Tracing:
    """Every marked nodule, or the reason why it is not read."""

    nodules: tuple[TracedNodule | OutOfScope, ...]
    register_s: float
    """duration of registering and following; 0 where every nodule is marked at every date"""


def trace(selection: Selection, outline: Outliner) -> Tracing:
    """Return every marked nodule at each date; out of scope if the current CT does not show a nodule there.

    Raises: BrokenSeries if the slices around a mark cannot be decoded; a date to which a nodule is carried is left out
    instead.
    """
    studies: dict[UID, list[Series]] = {selection.study_instance_uid: []}
    for series in selection.series:
        studies.setdefault(series.instances[0].ref.study_instance_uid, []).append(series)
    marked_study, spots = _newest_marked_study(studies, selection.locations)
    framed = [location for location in selection.locations if _is_framed(location)]
    carriage = _Carriage(_places(spots, outline), framed, outline)
    places_by_date = [
        carriage.nodules if uid == marked_study else carriage.places(series) for uid, series in studies.items()
    ]
    current, *earlier = places_by_date
    first_image = studies[selection.study_instance_uid][0].instances[0]
    nodules: list[TracedNodule | OutOfScope] = []
    for number, (place, tracking_uid) in enumerate(zip(current, _tracking_uids(places_by_date), strict=True)):
        if isinstance(place, Omission):
            nodules.append(_refusal(place, carriage.nodules[number], first_image))
        elif refusal := refusal_of(place.location, place.outlined):
            nodules.append(OutOfScope(_refusal_text(place, refusal), refusal.code, (place.key_slice,)))
        else:
            nodules.append(TracedNodule(place, tuple(places[number] for places in earlier), tracking_uid))
    return Tracing(tuple(nodules), carriage.seconds)


def _tracking_uids(places_by_date: Sequence[Sequence[Place | Omission]]) -> list[UID]:
    """Return the tracking UID of each nodule at the newest date that has one; no two nodules share a tracking UID."""
    tracking_uids = [NO_UID] * len(places_by_date[0])
    for places in places_by_date:
        for number, place in enumerate(places):
            tracking_uid = place.location.tracking_uid if isinstance(place, Place) else NO_UID
            if not tracking_uids[number] and tracking_uid not in tracking_uids:
                tracking_uids[number] = tracking_uid
    return tracking_uids


def _places(spots: Sequence[Spot], outline: Outliner, volumes: Mapping[UID, Volume] | None = None) -> list[Place]:
    """Return the places of nodules in the CTs of one date.

    Raises: BrokenSeries if the slices around one cannot be decoded.
    """
    numbers: dict[UID, list[int]] = {}
    for number, spot in enumerate(spots):
        numbers.setdefault(_series_uid(spot.ct), []).append(number)
    places: dict[int, Place] = {}
    for uid, numbers_in_ct in numbers.items():
        spots_in_ct = [spots[number] for number in numbers_in_ct]
        places_in_ct = places_in(spots_in_ct[0].ct, spots_in_ct, outline, (volumes or {}).get(uid))
        places |= zip(numbers_in_ct, places_in_ct, strict=True)
    return [places[number] for number in range(len(spots))]


def _refusal(left_out: Omission, marked_place: Place, current_image: Instance) -> OutOfScope:
    day_text = days_before(days_between(marked_place.slices.instances[0], current_image))
    sentence = f"the nodule that {marked_place.location.source} points at in the CT {day_text} is not found in this one"
    return OutOfScope(f"{sentence}: {left_out.reason}", left_out.code)


def _refusal_text(place: Place, refusal: Omission) -> str:
    """Return why nothing is read at a place, with who pointed there."""
    position = ", ".join(f"{value:.1f}" for value in place.location.position_mm)
    return f"at ({position}) mm, by {place.location.source}: {refusal.reason}"


def _newest_marked_study(
    studies: Mapping[UID, Sequence[Series]], locations: Sequence[Location]
) -> tuple[UID, Sequence[Spot]]:
    """Return the newest study whose CTs hold locations, and the spots there.

    Only a location that names its frame of reference can lie in a prior.
    """
    for number, (uid, series) in enumerate(studies.items()):
        if spots := _spots_in(series, [location for location in locations if number == 0 or _is_framed(location)]):
            return uid, spots
    raise ValueError("a selection has a position in one of its CTs")


def _spots_in(series: Sequence[Series], locations: Iterable[Location]) -> list[Spot]:
    return [Spot(ct, location) for location in locations if isinstance(ct := stack_at(series, location), Stack)]


def _is_framed(location: Location) -> bool:
    return bool(location.frame_of_reference_uid)


_Carried = tuple[Position | None, Spot | Omission]
"""The registered position of a nodule, None without a registration; and the spot that was found there."""


@dataclass(slots=True)
class _Carriage:
    """Carries nodules by registration from the date of their marks to the other dates, one date after the other."""

    nodules: Sequence[Place]
    locations: Sequence[Location]
    """the locations of every date"""
    outline: Outliner
    seconds: float = 0.0
    _coarse: dict[UID, Grid] = field(default_factory=dict)
    """coarse copies of the CTs that hold the marks, by series"""

    def places(self, series: Sequence[Series]) -> Sequence[Place | Omission]:
        """Return the place of each nodule at another date: at its own mark there, else carried to that date."""
        marks = _spots_in(series, self.locations)
        own_marks = self._own_marks(marks)
        unmarked = [nodule for nodule, mark in zip(self.nodules, own_marks, strict=True) if mark is None]
        carried, volumes = self._carry(unmarked, series) if unmarked else ([], {})
        # A mark with the tracking UID of one nodule is no mark of another nodule.
        tracking_uids = {nodule.location.tracking_uid for nodule in self.nodules} - {NO_UID}
        free_marks = [mark for mark in marks if mark.location.tracking_uid not in tracking_uids]
        spots = _chosen_spots(own_marks, carried, free_marks)
        try:
            places = iter(_places([spot for spot in spots if isinstance(spot, Spot)], self.outline, volumes))
        except BrokenSeries as error:
            return [Omission("broken", str(error)) if isinstance(spot, Spot) else spot for spot in spots]
        return [next(places) if isinstance(spot, Spot) else spot for spot in spots]

    def _own_marks(self, marks: Sequence[Spot]) -> list[Spot | None]:
        """Return the mark that certainly belongs to each nodule, None for a nodule without such a mark.

        A mark belongs to a nodule if both have one tracking UID, or if a request marks a single nodule at each date.
        No mark belongs to two nodules.
        """
        free_marks, own_marks = list(marks), list[Spot | None]()
        requested = [mark for mark in marks if mark.location.source == REQUEST]
        is_single = len(requested) == len(self.nodules) == 1
        for nodule in self.nodules:
            tracking_uid = nodule.location.tracking_uid
            matching = [mark for mark in free_marks if mark.location.tracking_uid == tracking_uid != NO_UID]
            if not matching and is_single and nodule.location.source == REQUEST:
                matching = requested
            own_marks.append(matching[0] if matching else None)
            free_marks = [mark for mark in free_marks if mark is not own_marks[-1]]
        return own_marks

    def _carry(self, nodules: Sequence[Place], series: Sequence[Series]) -> tuple[list[_Carried], dict[UID, Volume]]:
        """Return each nodule as carried into the best CT of another date, and the volume of that CT by its series."""
        ct = ct_stack(series, WANTED)
        if isinstance(ct, OutOfScope):
            return [(None, Omission(ct.code, ct.reason))] * len(nodules), {}
        try:
            for nodule in nodules:
                uid = _series_uid(nodule.ct)
                if uid not in self._coarse:
                    self._coarse[uid] = following_grid(volume(nodule.ct)).coarser(_REGISTERED_MM)
            ct_volume = volume(ct)
        except BrokenSeries as error:
            return [(None, Omission("broken", str(error)))] * len(nodules), {}
        started = time.monotonic()
        carried = list(self._registered(nodules, ct, following_grid(ct_volume)))
        self.seconds += time.monotonic() - started
        return carried, {_series_uid(ct): ct_volume}

    def _registered(self, nodules: Sequence[Place], ct: Stack, target: Grid) -> Iterator[_Carried]:
        """Yield the registered position of each nodule in a CT, and the spot that was found there."""
        # Each CT that holds marks is registered once, however many nodules it has.
        uids = [_series_uid(nodule.ct) for nodule in nodules]
        transforms = {uid: register(self._coarse[uid], target) for uid in dict.fromkeys(uids)}
        for nodule, uid in zip(nodules, uids, strict=True):
            transform = transforms[uid]
            yield (None, transform) if isinstance(transform, Omission) else self._moved(nodule, transform, ct, target)

    def _moved(self, nodule: Place, transform: RigidTransform, ct: Stack, target: Grid) -> _Carried:
        """Return the position of a nodule in a registered CT, and the spot of its outline there."""
        followed = nodule_through_transform(following_grid(nodule.volume), target, nodule.center_mm, transform)
        if isinstance(followed, Omission):
            return transform(nodule.center_mm), followed
        outlined = self.outline(target, followed.place.position_mm)
        spot = _followed_spot(nodule.location.tracking_uid, followed, outlined, ct)
        return spot.location.position_mm if isinstance(spot, Spot) else transform(nodule.center_mm), spot


def _followed_spot(
    tracking_uid: UID, followed: FollowedNodule, outlined: OutlinedNodule | Omission, ct: Stack
) -> Spot | Omission:
    """Return the spot of a nodule that was followed into a CT: the middle of its outline there."""
    position_mm = followed.place.position_mm if isinstance(outlined, Omission) else outlined.size.position_mm
    if not ct.holds(position_mm):
        return Omission("outside", "the nodule's place is outside of the scan")
    location = Location(position_mm, "registration", ct.frame_of_reference_uid, tracking_uid)
    return Spot(ct, location, followed, outlined=outlined)


def _chosen_spots(
    own_marks: Sequence[Spot | None], carried: Sequence[_Carried], marks: Sequence[Spot]
) -> list[Spot | Omission]:
    """Return the spot of each nodule: its own mark, else a free mark within its reach, else the spot by registration.

    `carried` has one entry for each nodule without a mark of its own, in their order.
    """
    remaining = iter(carried)
    candidates = [(mark.location.position_mm, mark) if mark else next(remaining) for mark in own_marks]
    nearest = _nearest_marks([mark.location.position_mm for mark in marks], [position for position, _ in candidates])
    spots: list[Spot | Omission] = []
    for number, (_, spot) in enumerate(candidates):
        mark, distance_mm = nearest.get(number, (0, inf))
        is_marked = own_marks[number] is None and distance_mm <= _reach_mm(spot)
        spots.append(replace(marks[mark], mark_distance_mm=distance_mm) if is_marked else spot)
    return spots


def _nearest_marks(marks: Sequence[Position], nodules: Sequence[Position | None]) -> dict[int, tuple[int, float]]:
    """Return the number of each nodule's nearest mark and its distance in mm, unless another nodule is nearer."""
    if not marks or not nodules:
        return {}
    distances_mm = np.array([[dist(mark, nodule) if nodule else inf for mark in marks] for nodule in nodules])
    return {
        number: (int(mark), float(distances_mm[number, mark]))
        for number, mark in enumerate(distances_mm.argmin(axis=1))
        if distances_mm[:, mark].argmin() == number
    }


def _reach_mm(spot: Spot | Omission) -> float:
    """Return the largest distance in mm between the registered position of a nodule and a mark of the nodule."""
    if isinstance(spot, Omission) or spot.followed is None:
        return _NOT_FOUND_MM
    outlined = spot.outlined
    return outlined.size.maximum_mm / 2 + _BESIDE_MM if isinstance(outlined, OutlinedNodule) else _UNMEASURED_MM


def _series_uid(ct: Stack) -> UID:
    return ct.instances[0].ref.series_instance_uid
