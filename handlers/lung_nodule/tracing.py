"""Every nodule of the current study at each of its dates: carried there from the one at which it is pointed at.

That is the current date or, where nobody points at it there, the newest prior in which somebody does. One CT is decoded
at a time; of the one that is pointed into are kept the slices around each nodule and a coarse copy of the whole.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import dist, inf

import numpy as np

from ainode.handlers.lung_nodule.places import Place, Spot, Traced, days_between, grid, placed, since
from ainode.handlers.lung_nodule.selecting import WANTED, stack_at
from ainode.models.following import Followed, Grid, LeftOut, Measured, found_again, register
from ainode.node.domain import REQUEST, UID, Instance, Location, OutOfScope, Position, Selection, Series
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.ct_series import ct_stack
from ainode.node.imaging.geometry import Stack, Volume, volume

# The finest resolution that registration uses: a copy of it registers as the whole scan does.
_REGISTERED_MM = 2.0
# A mark is put into its nodule by hand: within what was found again, and a little beside it; within the radius of a
# small one where that has no size; anywhere in the largest, of 30 mm, where nothing was found again.
_BESIDE_MM, _UNMEASURED_MM, _NOT_FOUND_MM = 2.0, 5.0, 15.0


@dataclass(frozen=True, slots=True)
class Tracing:
    """Every nodule that was pointed at, or why it is not read; and the seconds that carrying it took."""

    nodules: tuple[Traced | OutOfScope, ...]
    register_s: float
    """of registering and finding again; 0 where nothing had to be carried"""


def traced(selection: Selection) -> Tracing:
    """Return every nodule that was pointed at through the dates, out of scope where the current CT does not show it.

    Raises: BrokenSeries if the slices around a nodule cannot be decoded where it is pointed at; another date that
    cannot is left out.
    """
    studies: dict[UID, list[Series]] = {selection.study_instance_uid: []}
    for one in selection.series:
        studies.setdefault(one.instances[0].ref.study_instance_uid, []).append(one)
    pointed_into, spots = _pointed_into(studies, selection.locations)
    carriage = _Carriage(_all_placed(spots), [one for one in selection.locations if _is_framed(one)])
    now, *earlier = dates = [
        carriage.nodules if uid == pointed_into else carriage.places(series) for uid, series in studies.items()
    ]
    first = studies[selection.study_instance_uid][0].instances[0]
    return Tracing(
        tuple(
            Traced(here, tuple(date[n] for date in earlier), uid)
            if isinstance(here, Place)
            else _not_here(here, carriage.nodules[n], first)
            for n, (here, uid) in enumerate(zip(now, _named(dates), strict=True))
        ),
        carriage.seconds,
    )


def _named(dates: Sequence[Sequence[Place | LeftOut]]) -> list[UID]:
    """Return what each nodule is called at the newest date that has a name for it which no other nodule has."""
    names = [UID("")] * len(dates[0])
    for date in dates:
        for n, place in enumerate(date):
            name = place.location.tracking_uid if isinstance(place, Place) else UID("")
            if not names[n] and name not in names:
                names[n] = name
    return names


def _all_placed(spots: Sequence[Spot], decoded: Mapping[UID, Volume] | None = None) -> list[Place]:
    """Return the places of nodules in the CTs of one date.

    Raises: BrokenSeries if the slices around one cannot be decoded.
    """
    numbers: dict[UID, list[int]] = {}
    for number, spot in enumerate(spots):
        numbers.setdefault(_uid(spot.whole), []).append(number)
    found: dict[int, Place] = {}
    for uid, theirs in numbers.items():
        here = [spots[n] for n in theirs]
        found |= zip(theirs, placed(here[0].whole, here, (decoded or {}).get(uid)), strict=True)
    return [found[n] for n in range(len(spots))]


def _not_here(why: LeftOut, then: Place, now: Instance) -> OutOfScope:
    ago = since(days_between(then.slices.instances[0], now))
    what = f"the nodule that {then.location.source} points at in the CT {ago} is not found in this one"
    return OutOfScope(f"{what}: {why.reason}", why.code)


def _pointed_into(studies: Mapping[UID, Sequence[Series]], locations: Sequence[Location]) -> tuple[UID, Sequence[Spot]]:
    """Return the newest study that locations lie in, and where in its CTs; in a prior they name its frame."""
    for number, (uid, series) in enumerate(studies.items()):
        if held := _held(series, [one for one in locations if number == 0 or _is_framed(one)]):
            return uid, held
    raise ValueError("a selection has a position in one of its CTs")


def _held(series: Sequence[Series], locations: Iterable[Location]) -> list[Spot]:
    return [Spot(found, one) for one in locations if isinstance(found := stack_at(series, one), Stack)]


def _is_framed(location: Location) -> bool:
    return bool(location.frame_of_reference_uid)


_Carried = tuple[Position | None, Spot | LeftOut]
"""where registration has a nodule, None where it has none; and what was found there"""


@dataclass(slots=True)
class _Carriage:
    """What brings nodules from the date at which they are pointed at to the others, one date after the other."""

    nodules: Sequence[Place]
    locations: Sequence[Location]
    """what is pointed at, at any date"""
    seconds: float = 0.0
    _coarse: dict[UID, Grid] = field(default_factory=dict)
    """copies of the CTs that are pointed into"""

    def places(self, series: Sequence[Series]) -> Sequence[Place | LeftOut]:
        """Return each nodule's place at another date: where it is pointed at too, else carried there."""
        marks = _held(series, self.locations)
        said = self._said(marks)
        unsaid = [one for one, mark in zip(self.nodules, said, strict=True) if mark is None]
        carried, decoded = self._carried(unsaid, series) if unsaid else ([], {})
        # What has the name of one nodule is no mark of another.
        names = {one.location.tracking_uid for one in self.nodules} - {""}
        spots = _settled(said, carried, [one for one in marks if one.location.tracking_uid not in names])
        try:
            found = iter(_all_placed([one for one in spots if isinstance(one, Spot)], decoded))
        except BrokenSeries as error:
            return [LeftOut("broken", str(error)) if isinstance(one, Spot) else one for one in spots]
        return [next(found) if isinstance(one, Spot) else one for one in spots]

    def _said(self, marks: Sequence[Spot]) -> list[Spot | None]:
        """Return the mark by which somebody says where this very nodule is, None where nobody does; each mark once.

        That is by its tracking UID, or by a request that points once into each date.
        """
        free, said = list(marks), list[Spot | None]()
        asked = [one for one in marks if one.location.source == REQUEST]
        for one in self.nodules:
            uid, alone = one.location.tracking_uid, len(asked) == len(self.nodules) == 1
            same = [mark for mark in free if mark.location.tracking_uid == uid != ""]
            same = same or (asked if alone and one.location.source == REQUEST else [])
            said.append(same[0] if same else None)
            free = [mark for mark in free if mark is not said[-1]]
        return said

    def _carried(self, nodules: Sequence[Place], series: Sequence[Series]) -> tuple[list[_Carried], dict[UID, Volume]]:
        """Return where each nodule is at another date by registration, and the CT that was decoded for it."""
        whole = ct_stack(series, WANTED)
        if isinstance(whole, OutOfScope):
            return [(None, LeftOut(whole.code, whole.reason))] * len(nodules), {}
        try:
            for one in nodules:
                if _uid(one.whole) not in self._coarse:
                    self._coarse[_uid(one.whole)] = grid(volume(one.whole)).reduced(_REGISTERED_MM)
            decoded = volume(whole)
        except BrokenSeries as error:
            return [(None, LeftOut("broken", str(error)))] * len(nodules), {}
        started = time.monotonic()
        carried = list(self._followed(nodules, whole, grid(decoded)))
        self.seconds += time.monotonic() - started
        return carried, {_uid(whole): decoded}

    def _followed(self, nodules: Sequence[Place], whole: Stack, there: Grid) -> Iterator[_Carried]:
        """Yield where each nodule must be, if the scans could be registered, and what was found there."""
        # Once per CT that is pointed into, however many nodules it has.
        uids = [_uid(one.whole) for one in nodules]
        transforms = {uid: register(self._coarse[uid], there) for uid in dict.fromkeys(uids)}
        for one, uid in zip(nodules, uids, strict=True):
            transform, here = transforms[uid], one.location.position_mm
            if isinstance(transform, LeftOut):
                yield None, transform
            else:
                found = found_again(grid(one.decoded), there, here, transform)
                where = found.position_mm if isinstance(found, Followed) else transform(here)
                yield where, _again(one, found, whole)


def _again(nodule: Place, found: Followed | LeftOut, whole: Stack) -> Spot | LeftOut:
    """Return where a nodule is in the CT in which it was found again."""
    if isinstance(found, LeftOut):
        return found
    if not whole.holds(found.position_mm):
        return LeftOut("outside", "the nodule's place is outside of the scan")
    uid = nodule.location.tracking_uid
    return Spot(whole, Location(found.position_mm, "registration", whole.frame_of_reference_uid, uid), found)


def _settled(said: Sequence[Spot | None], carried: Sequence[_Carried], marks: Sequence[Spot]) -> list[Spot | LeftOut]:
    """Return where each nodule is: where it is said to be, else at the mark that is its own, else where carried."""
    rest = iter(carried)
    known = [(one.location.position_mm, one) if one else next(rest) for one in said]
    own = _nearest([one.location.position_mm for one in marks], [where for where, _ in known])
    spots: list[Spot | LeftOut] = []
    for number, (_, spot) in enumerate(known):
        mark, away_mm = own.get(number, (0, inf))
        is_own = said[number] is None and away_mm <= _reach_mm(spot)
        spots.append(replace(marks[mark], marked_mm=away_mm) if is_own else spot)
    return spots


def _nearest(marks: Sequence[Position], nodules: Sequence[Position | None]) -> dict[int, tuple[int, float]]:
    """Return the number of each nodule's nearest mark and how far it is, where no other nodule is nearer to it."""
    if not marks or not nodules:
        return {}
    away = np.array([[dist(mark, one) if one else inf for mark in marks] for one in nodules])
    nearest = enumerate(away.argmin(axis=1))
    return {n: (int(mark), float(away[n, mark])) for n, mark in nearest if away[:, mark].argmin() == n}


def _reach_mm(spot: Spot | LeftOut) -> float:
    """Return how far from where registration has a nodule a mark of it may be."""
    if isinstance(spot, LeftOut) or spot.carried is None:
        return _NOT_FOUND_MM
    size = spot.carried.size
    return size.maximum_mm / 2 + _BESIDE_MM if isinstance(size, Measured) else _UNMEASURED_MM


def _uid(whole: Stack) -> UID:
    return whole.instances[0].ref.series_instance_uid
