"""A nodule in one CT: the slices around it, decoded, and its size there; and its places through the dates."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from ainode.models.following import Followed, Grid, LeftOut, Measured, measured
from ainode.models.lung_nodule.patches import Scan
from ainode.node.domain import UID, Instance, InstanceRef, Location, OutOfScope, refs
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.geometry import Stack, Volume, stack, volume

# Half of what the measurement looks at, 33 mm; the network's cube needs 25 mm.
_REACH_MM = 34.0


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a nodule is in a CT, and how that is known."""

    whole: Stack
    location: Location
    carried: Followed | None = None
    """how it came here from where it is pointed at; None where that is here"""
    marked_mm: float | None = None
    """how far who points here is from where registration has it; None where it was not registered"""


@dataclass(frozen=True, slots=True)
class Place:
    """A nodule in one CT: the slices around it, decoded, and its size there.

    The values are a view: nodules whose slices overlap share them.
    """

    spot: Spot
    slices: Stack
    decoded: Volume
    scan: Scan
    size: Measured | LeftOut

    @property
    def location(self) -> Location:
        """Return where it is."""
        return self.spot.location

    @property
    def whole(self) -> Stack:
        """Return the CT that the slices are of."""
        return self.spot.whole

    @property
    def carried(self) -> Followed | None:
        """Return how it came here from where it is pointed at; None where that is here."""
        return self.spot.carried

    @property
    def slice_mm(self) -> float:
        """Return how thick its slices are, or how far apart where that is more."""
        thick = self.slices.instances[0].header.get("SliceThickness")
        return max(self.whole.spacing_mm[0], float(thick) if isinstance(thick, int | float) else 0.0)

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
        return days_between(earlier.slices.instances[0], self.slices.instances[0])


@dataclass(frozen=True, slots=True)
class Traced:
    """One nodule through the dates."""

    current: Place
    earlier: tuple[Place | LeftOut, ...]
    """of each prior, the newest first"""
    tracking_uid: UID
    """what it is called across studies, '' where nobody named it; no two nodules of a reading are called alike"""

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
    def pointed_at(self) -> tuple[int, Place]:
        """Return the newest place that somebody pointed at and its number: 0 is the current one, else the prior's."""
        return next((n, one) for n, one in ((0, self.current), *self.priors) if one.carried is None)


def days_between(earlier: Instance, later: Instance) -> float | None:
    """Return the days between two Study Dates, None where one is no date."""
    try:
        now, then = (
            datetime.strptime(one.text("StudyDate"), "%Y%m%d")  # noqa: DTZ007 - no time zone
            for one in (later, earlier)
        )
    except ValueError:
        return None
    return float((now - then).days)


def since(days: float | None) -> str:
    """Return how long before the current study something was, for a sentence."""
    return "on a day that is not known" if days is None else f"{days:.0f} day{'' if days == 1 else 's'} before"


def placed(whole: Stack, spots: Sequence[Spot], decoded: Volume | None = None) -> list[Place]:
    """Return the places of nodules in one CT; only the slices around them are decoded and kept, each once.

    They are cut out of the CT where it is decoded already; of it nothing else is kept.
    Raises: BrokenSeries if one cannot be decoded.
    """
    windows = [_window(whole, one.location) for one in spots]
    slabs = {slab: _slab(whole, slab, decoded) for slab in _joined(windows)}
    places = []
    for spot, window in zip(spots, windows, strict=True):
        around, values = next((slab, values) for slab, values in slabs.items() if _is_within(window, slab))
        near = _cut(values, _below(whole, window, around), window)
        places.append(_place(spot, window, near))
    return places


def grid(decoded: Volume) -> Grid:
    """Return a CT as what follows nodules takes it."""
    return Grid(decoded.values, decoded.origin_mm, decoded.spacing_mm, decoded.axes)


_Window = tuple[int, int]
"""the first slice, and the one after the last"""


def _place(spot: Spot, window: _Window, decoded: Volume) -> Place:
    whole, here = spot.whole, spot.location.position_mm
    before = _below(whole, window, (0, len(whole.instances)))
    scan = Scan(decoded.values, decoded.spacing_mm, decoded.index(here), before)
    size = spot.carried.size if spot.carried else measured(grid(decoded), here)
    return Place(spot, _part(whole, window), decoded, scan, size)


def _window(whole: Stack, location: Location) -> _Window:
    """Return the slices around a position."""
    count, between = len(whole.instances), whole.spacing_mm[0]
    middle, reach = round(whole.pixel(location.position_mm)[0]), int(np.ceil(_REACH_MM / between)) + 1
    return max(0, middle - reach), min(count, middle + reach + 1)


def _joined(windows: Iterable[_Window]) -> list[_Window]:
    """Return windows of which those that overlap are one."""
    joined: list[_Window] = []
    for low, high in sorted(windows):
        if joined and low <= joined[-1][1]:
            low, high = joined[-1][0], max(high, joined.pop()[1])  # noqa: PLW2901 - it grows
        joined.append((low, high))
    return joined


def _is_within(window: _Window, slab: _Window) -> bool:
    return slab[0] <= window[0] and window[1] <= slab[1]


def _below(whole: Stack, window: _Window, around: _Window) -> int:
    """Return how many of the slices around a window lie below it: volumes run to the head, stacks to either end."""
    return window[0] - around[0] if whole.normal[2] > 0 else around[1] - window[1]


def _slab(whole: Stack, window: _Window, decoded: Volume | None) -> Volume:
    if decoded is None:
        return volume(_part(whole, window))
    part = _cut(decoded, _below(whole, window, (0, len(whole.instances))), window)
    return replace(part, values=part.values.copy())  # so that the rest is dropped


def _cut(decoded: Volume, first: int, window: _Window) -> Volume:
    """Return as many slices as a window has, from the first on."""
    end = first + window[1] - window[0]
    return replace(decoded, values=decoded.values[first:end], origin_mm=decoded.position((first, 0, 0)))


def _part(whole: Stack, window: _Window) -> Stack:
    low, high = window
    near = stack(whole.instances[low:high])
    if isinstance(near, OutOfScope):
        raise BrokenSeries(f"the slices around the position are no stack: {near.reason}")
    return near
