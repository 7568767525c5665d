"""Every nodule of the current study at each of its dates: carried there from the one at which it is pointed at.

That is the current date or, where nobody points at it there, the newest prior in which somebody does. One CT is decoded
at a time; of the one that is pointed into are kept the slices around each nodule and a coarse copy of the whole.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ainode.handlers.lung_nodule.places import Place, Traced, cut_out, days_between, decoded_at, grid, since
from ainode.handlers.lung_nodule.selecting import WANTED, stack_at
from ainode.models.following import Followed, Grid, LeftOut, found_again, register
from ainode.node.ct_series import ct_stack
from ainode.node.domain import UID, Instance, Location, OutOfScope, Selection, Series
from ainode.node.errors import BrokenSeries
from ainode.node.geometry import Stack, Volume, volume

# The finest resolution that registration uses: a copy of it registers as the whole scan does.
_REGISTERED_MM = 2.0


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
        own = _held(series, self.locations)
        answers = [self._own(nodule, own) for nodule in self.nodules]
        carried = iter(self._carried([n for n, own in zip(self.nodules, answers, strict=True) if own is None], series))
        return [next(carried) if answer is None else answer for answer in answers]

    def _own(self, nodule: Place, own: _Held) -> Place | LeftOut | None:
        """Return the place of the same nodule among those that are pointed at, None if there is none."""
        uid = nodule.location.tracking_uid
        same = [pair for pair in own if pair[1].tracking_uid == uid != ""]
        same = same or (own if len(own) == len(self.nodules) == 1 else [])
        return _unless_broken(*same[0]) if same else None

    def _carried(self, nodules: Sequence[Place], series: Sequence[Series]) -> Sequence[Place | LeftOut]:
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
        carried = self._followed(nodules, grid(decoded))
        self.seconds += time.monotonic() - started
        return [_again(*pair, found, decoded) for pair in zip(nodules, carried, strict=True)]

    def _followed(self, nodules: Sequence[Place], there: Grid) -> list[Followed | LeftOut]:
        # Once per CT that is pointed into, however many nodules it has.
        transforms = {uid: register(self._coarse[uid], there) for uid in dict.fromkeys(map(_uid, nodules))}
        return [
            transform
            if isinstance(transform := transforms[_uid(one)], LeftOut)
            else found_again(grid(one.decoded), there, one.location.position_mm, transform)
            for one in nodules
        ]


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
