"""A nodule in one CT: the slices around it, decoded, and its size there; and its places through the dates."""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from ainode.models.following import Followed, Grid, LeftOut, Measured, measured
from ainode.models.lung_nodule.patches import Scan
from ainode.node.domain import UID, Instance, InstanceRef, Location, OutOfScope, refs
from ainode.node.errors import BrokenSeries
from ainode.node.geometry import Stack, Volume, stack, volume

# Half of what the measurement looks at, 33 mm; the network's cube needs 25 mm.
_REACH_MM = 34.0


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
    """how it came here from where it is pointed at; None where that is here"""

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

    @property
    def tracking_uid(self) -> UID:
        """Return what the nodule is called across studies, '' where nobody named it."""
        return next((uid for one in reversed(self.places) if (uid := one.location.tracking_uid)), UID(""))


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


def decoded_at(whole: Stack, location: Location) -> Place:
    """Return the place of a nodule that is pointed at: only the slices around it are decoded.

    Raises: BrokenSeries if one cannot be.
    """
    low, high, _ = _window(whole, location)
    return _place(whole, location, volume(_part(whole, low, high)))


def cut_out(whole: Stack, location: Location, decoded: Volume, *, carried: Followed) -> Place:
    """Return the place of a nodule that was carried into a decoded CT, without the rest of the CT."""
    low, high, before = _window(whole, location)
    values = decoded.values[before : before + high - low].copy()  # so that the rest is dropped
    near = replace(decoded, values=values, origin_mm=decoded.position((before, 0, 0)))
    return _place(whole, location, near, carried=carried)


def grid(decoded: Volume) -> Grid:
    """Return a CT as what follows nodules takes it."""
    return Grid(decoded.values, decoded.origin_mm, decoded.spacing_mm, decoded.axes)


def _place(whole: Stack, location: Location, decoded: Volume, *, carried: Followed | None = None) -> Place:
    low, high, before = _window(whole, location)
    scan = Scan(decoded.values, decoded.spacing_mm, decoded.index(location.position_mm), before)
    size = carried.size if carried else measured(grid(decoded), location.position_mm)
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
