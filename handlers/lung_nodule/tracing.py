"""Every nodule of the current study at each of its dates: carried there from the one at which it is pointed at.

That is the current date or, where nobody points at it there, the newest prior in which somebody does. One CT is decoded
at a time; of the one that is pointed into are kept the slices around each nodule and a coarse copy of the whole.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import dist

from ainode.handlers.lung_nodule.places import Place, Traced, cut_out, days_between, decoded_at, grid, since
from ainode.handlers.lung_nodule.selecting import WANTED, stack_at
from ainode.models.following import Followed, Grid, LeftOut, found_again, register
from ainode.node.ct_series import ct_stack
from ainode.node.domain import REQUEST, UID, Instance, Location, OutOfScope, Position, Selection, Series
from ainode.node.errors import BrokenSeries
from ainode.node.geometry import Stack, Volume, volume

# The finest resolution that registration uses: a copy of it registers as the whole scan does.
_REGISTERED_MM = 2.0
# A mark is somewhere in its nodule, of at most 30 mm, and was put there by hand.
_SAME_MM = 15.0


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
    pointed_into, pairs = _pointed_into(studies, selection.locations)
    carriage = _Carriage([decoded_at(*one) for one in pairs], [one for one in selection.locations if _is_framed(one)])
    now, *earlier = (
        carriage.nodules if uid == pointed_into else carriage.places(series) for uid, series in studies.items()
    )
    first = studies[selection.study_instance_uid][0].instances[0]
    return Tracing(
        tuple(
            Traced(here, tuple(date[n] for date in earlier))
            if isinstance(here, Place)
            else _not_here(here, carriage.nodules[n], first)
            for n, here in enumerate(now)
        ),
        carriage.seconds,
    )


def _not_here(why: LeftOut, then: Place, now: Instance) -> OutOfScope:
    ago = since(days_between(then.slices.instances[0], now))
    what = f"the nodule that {then.location.source} points at in the CT {ago} is not found in this one"
    return OutOfScope(f"{what}: {why.reason}", why.code)


_Held = list[tuple[Stack, Location]]


def _pointed_into(studies: Mapping[UID, Sequence[Series]], locations: Sequence[Location]) -> tuple[UID, _Held]:
    """Return the newest study that locations lie in, and the CT that holds each; in a prior they name its frame."""
    for number, (uid, series) in enumerate(studies.items()):
        if held := _held(series, [one for one in locations if number == 0 or _is_framed(one)]):
            return uid, held
    raise ValueError("a selection has a position in one of its CTs")


def _held(series: Sequence[Series], locations: Iterable[Location]) -> _Held:
    return [(found, one) for one in locations if isinstance(found := stack_at(series, one), Stack)]


def _is_framed(location: Location) -> bool:
    return bool(location.frame_of_reference_uid)


@dataclass(slots=True)
class _Carriage:
    """What brings nodules from the date at which they are pointed at to the others, one date after the other."""

    nodules: Sequence[Place]
    locations: Sequence[Location]
    """what is pointed at, at any date"""
    seconds: float = 0.0
    _coarse: dict[UID, Grid] = field(default_factory=dict)
    """copies of the CTs that are pointed into"""

    def places(self, series: Sequence[Series]) -> list[Place | LeftOut]:
        """Return each nodule's place at another date: where it is pointed at too, else carried there."""
        held = _held(series, self.locations)
        answers = [self._said(nodule, held) for nodule in self.nodules]
        unsaid = [nodule for nodule, answer in zip(self.nodules, answers, strict=True) if answer is None]
        carried = iter(self._carried(unsaid, series, held))
        return [next(carried) if answer is None else answer for answer in answers]

    def _said(self, nodule: Place, held: _Held) -> Place | LeftOut | None:
        """Return the place at which somebody says this very nodule is, None if nobody does.

        That is by its tracking UID, or by a request that points once into each date.
        """
        uid = nodule.location.tracking_uid
        same = [pair for pair in held if pair[1].tracking_uid == uid != ""]
        asked = [pair for pair in held if pair[1].source == nodule.location.source == REQUEST]
        same = same or (asked if len(asked) == len(self.nodules) == 1 else [])
        return _unless_broken(*same[0]) if same else None

    def _carried(self, nodules: Sequence[Place], series: Sequence[Series], held: _Held) -> Sequence[Place | LeftOut]:
        """Return each nodule's place at another date, carried there by registration, or why it has none."""
        if not nodules:
            return []
        found = ct_stack(series, WANTED)
        if isinstance(found, OutOfScope):
            return [LeftOut(found.code, found.reason)] * len(nodules)
        try:
            for one in nodules:
                if _uid(one) not in self._coarse:
                    self._coarse[_uid(one)] = grid(volume(one.whole)).reduced(_REGISTERED_MM)
            decoded = volume(found)
        except BrokenSeries as error:
            return [LeftOut("broken", str(error))] * len(nodules)
        started = time.monotonic()
        carried = list(self._followed(nodules, grid(decoded)))
        self.seconds += time.monotonic() - started
        return [
            _marked(where, held) or _again(nodule, what, found, decoded)
            for nodule, (where, what) in zip(nodules, carried, strict=True)
        ]

    def _followed(self, nodules: Sequence[Place], there: Grid) -> Iterator[tuple[Position | None, Followed | LeftOut]]:
        """Yield where each nodule must be, if the scans could be registered, and what was found there."""
        # Once per CT that is pointed into, however many nodules it has.
        transforms = {uid: register(self._coarse[uid], there) for uid in dict.fromkeys(map(_uid, nodules))}
        for one in nodules:
            transform, here = transforms[_uid(one)], one.location.position_mm
            if isinstance(transform, LeftOut):
                yield None, transform
            else:
                found = found_again(grid(one.decoded), there, here, transform)
                yield (found.position_mm if isinstance(found, Followed) else transform(here)), found


def _marked(where: Position | None, held: _Held) -> Place | LeftOut | None:
    """Return the mark nearest to where a nodule must be, None if it is another nodule's."""
    if where is None or not held:
        return None
    nearest = min(held, key=lambda pair: dist(pair[1].position_mm, where))
    return _unless_broken(*nearest) if dist(nearest[1].position_mm, where) <= _SAME_MM else None


def _again(nodule: Place, found: Followed | LeftOut, whole: Stack, decoded: Volume) -> Place | LeftOut:
    """Return a nodule's place in the CT in which it was found again."""
    if isinstance(found, LeftOut):
        return found
    if not whole.holds(found.position_mm):
        return LeftOut("outside", "the nodule's place is outside of the scan")
    uid = nodule.location.tracking_uid
    location = Location(found.position_mm, "registration", whole.frame_of_reference_uid, uid)
    return cut_out(whole, location, decoded, carried=found)


def _unless_broken(whole: Stack, location: Location) -> Place | LeftOut:
    try:
        return decoded_at(whole, location)
    except BrokenSeries as error:
        return LeftOut("broken", str(error))


def _uid(place: Place) -> UID:
    return place.whole.instances[0].ref.series_instance_uid
