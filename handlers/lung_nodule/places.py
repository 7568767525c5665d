"""The place of a nodule in one CT, with decoded slices and size; and one nodule through its dates."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import dist

import numpy as np

from ainode.handlers import side_of_body
from ainode.handlers.lung_nodule.sizes import Size, size_of
from ainode.models.following import FollowedNodule, Grid, Omission
from ainode.models.lung_nodule.patches import Scan
from ainode.models.nodule_outline.model import OutlinedNodule
from ainode.models.nodule_reading.reading import scan_around
from ainode.node.domain import UID, Instance, InstanceRef, Location, OutOfScope, Position, refs
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.geometry import Stack, Volume, stack, volume

# The outline begins up to 6 mm beside the mark, and its widest cube reaches 25 mm from there; the network's, 25 mm.
_REACH_MM = 34.0
# Drawn where no outline was found: LIDC-IDRI's nodules are smaller, with few exceptions.
_BOX_MM = 20.0


Outliner = Callable[[Grid, Position], OutlinedNodule | Omission]
"""outlines the nodule at a position of a scan, or says why there is none"""


@dataclass(frozen=True, slots=True)
class Spot:
    """The location of a nodule in a CT, and the way by which the location is known."""

    ct: Stack
    location: Location
    followed: FollowedNodule | None = None
    """the registration that carried the nodule into this CT; None where the nodule is marked in this CT"""
    mark_distance_mm: float | None = None
    """distance from the mark to the registered position; None where the nodule was not registered"""
    outlined: OutlinedNodule | Omission | None = None
    """the outline, where the nodule was outlined already"""


@dataclass(frozen=True, slots=True)
class Place:
    """A nodule in one CT: the decoded slices around the nodule, and its outline.

    `volume.values` is a view: nodules whose slices overlap share the array.
    """

    spot: Spot
    slices: Stack
    volume: Volume
    slices_below: int
    """the number of the whole CT's slices below the volume"""
    outlined: OutlinedNodule | Omission
    owner: str = ""
    """the nodule that has pixels of this outline in the segmentation; '' where all its pixels are this nodule's"""

    @property
    def grid(self) -> Grid:
        """Return the decoded slices as the models take a scan."""
        return following_grid(self.volume)

    @property
    def center_mm(self) -> Position:
        """Return the middle of the outline; without an outline, the location."""
        return self.location.position_mm if isinstance(self.outlined, Omission) else self.outlined.size.position_mm

    @property
    def side(self) -> str:
        """Return `left` or `right` of the patient, '' near the middle and where it is not known."""
        return side_of_body(self.volume, self.center_mm)

    @property
    def distance_mm(self) -> float:
        """Return how far the middle of the outline lies from the location."""
        return dist(self.center_mm, self.location.position_mm)

    @property
    def width_mm(self) -> float:
        """Return the width of the box around the nodule: the long axis of the outline."""
        return _BOX_MM if isinstance(self.outlined, Omission) else self.outlined.size.long_axis_mm

    @property
    def scan(self) -> Scan:
        """Return the decoded slices around the center, as the networks of malignancy take a scan."""
        return scan_around(self.center_mm, self.grid, self.slices_below)

    @property
    def size(self) -> Size | Omission:
        """Return the size of the nodule, and whose size it is; or why it has none."""
        size = size_of(self.location, self.outlined, self.grid)
        if self.owner and isinstance(size, Size) and size.is_outlined:
            return Omission("shared", f"its outline has pixels of {self.owner}, and a pixel is of one nodule")
        return size

    @property
    def location(self) -> Location:
        """Return the location of the nodule."""
        return self.spot.location

    @property
    def ct(self) -> Stack:
        """Return the CT that holds the slices."""
        return self.spot.ct

    @property
    def followed(self) -> FollowedNodule | None:
        """Return the registration that carried the nodule into this CT; None where the nodule is marked in this CT."""
        return self.spot.followed

    @property
    def slice_mm(self) -> float:
        """Return the thickness of the slices in mm, or their distance if the distance is larger."""
        thick = self.slices.instances[0].header.get("SliceThickness")
        return max(self.ct.spacing_mm[0], float(thick) if isinstance(thick, int | float) else 0.0)

    @property
    def refs(self) -> tuple[InstanceRef, ...]:
        """Return the references of the slices."""
        return refs(self.slices.instances)

    @property
    def pixel_position(self) -> tuple[int, float, float]:
        """Return slice, row and column of the center."""
        number, row, column = self.slices.pixel(self.center_mm)
        return round(min(max(number, 0), len(self.slices.instances) - 1)), row, column

    @property
    def key_slice(self) -> InstanceRef:
        """Return the slice through the center."""
        return self.slices.instances[self.pixel_position[0]].ref

    def days_after(self, earlier: "Place") -> float | None:
        """Return the days since the Study Date of an earlier place; None if a Study Date is missing."""
        return days_between(earlier.slices.instances[0], self.slices.instances[0])


@dataclass(frozen=True, slots=True)
class TracedNodule:
    """One nodule at every date."""

    current: Place
    earlier: tuple[Place | Omission, ...]
    """the place at each prior, the newest prior first; `Omission` where the nodule was not found"""
    tracking_uid: UID
    """Tracking UID across studies, empty where no mark has one; no two nodules of a reading share a Tracking UID"""

    @property
    def outlined(self) -> OutlinedNodule:
        """Return the outline in the current study; what has none there is no nodule."""
        if isinstance(self.current.outlined, Omission):
            raise ValueError(self.current.outlined.reason)  # noqa: TRY004 - a caller's slip
        return self.current.outlined

    @property
    def priors(self) -> tuple[tuple[int, Place], ...]:
        """Return the earlier places with their number, 1 being the newest prior."""
        return tuple((number, place) for number, place in enumerate(self.earlier, start=1) if isinstance(place, Place))

    @property
    def left_out(self) -> tuple[tuple[int, Omission], ...]:
        """Return the reason for each prior without a place, with the number of the prior."""
        return tuple(
            (number, reason) for number, reason in enumerate(self.earlier, start=1) if isinstance(reason, Omission)
        )

    @property
    def places(self) -> tuple[Place, ...]:
        """Return the places, the oldest first, the current place last."""
        return (*(place for _, place in reversed(self.priors)), self.current)

    @property
    def newest_marked(self) -> tuple[int, Place]:
        """Return the number and the place of the newest mark; number 0 is the current study, 1 the newest prior."""
        return next((number, place) for number, place in ((0, self.current), *self.priors) if place.followed is None)


def days_between(earlier: Instance, later: Instance) -> float | None:
    """Return the days between two Study Dates; None if a Study Date is missing or no date."""
    try:
        later_date, earlier_date = (
            datetime.strptime(instance.text("StudyDate"), "%Y%m%d")  # noqa: DTZ007 - no time zone
            for instance in (later, earlier)
        )
    except ValueError:
        return None
    return float((later_date - earlier_date).days)


def days_before(days: float | None) -> str:
    """Return the words for a number of days before the current study."""
    return "on a day that is not known" if days is None else f"{days:.0f} day{'' if days == 1 else 's'} before"


def places_in(ct: Stack, spots: Sequence[Spot], outline: Outliner, ct_volume: Volume | None = None) -> list[Place]:
    """Return the places of nodules in one CT; decode and keep only the slices around the nodules, each slice once.

    Where `ct_volume`, the decoded CT, is at hand, the slices are cropped from it and copied, so that the rest is freed.
    Raises: BrokenSeries if a slice cannot be decoded.
    """
    windows = [_window(ct, spot.location) for spot in spots]
    slabs = {slab: _slab(ct, slab, ct_volume) for slab in _merged(windows)}
    places = []
    for spot, window in zip(spots, windows, strict=True):
        slab, slab_volume = next((slab, slab_volume) for slab, slab_volume in slabs.items() if _is_within(window, slab))
        cropped = _cropped(slab_volume, _slices_below(ct, window, slab), window)
        places.append(_place(spot, window, cropped, outline))
    return places


def following_grid(ct_volume: Volume) -> Grid:
    """Return a decoded CT as `models.following` takes it."""
    return Grid(ct_volume.values, ct_volume.origin_mm, ct_volume.spacing_mm, ct_volume.axes)


_Window = tuple[int, int]
"""Number of the first slice, and of the slice after the last."""


def _place(spot: Spot, window: _Window, window_volume: Volume, outline: Outliner) -> Place:
    slices_below = _slices_below(spot.ct, window, (0, len(spot.ct.instances)))
    outlined = spot.outlined or outline(following_grid(window_volume), spot.location.position_mm)
    return Place(spot, _substack(spot.ct, window), window_volume, slices_below, outlined)


def _window(ct: Stack, location: Location) -> _Window:
    """Return the window of slices around a location."""
    slice_count, slice_distance_mm = len(ct.instances), ct.spacing_mm[0]
    middle, reach_slices = round(ct.pixel(location.position_mm)[0]), int(np.ceil(_REACH_MM / slice_distance_mm)) + 1
    return max(0, middle - reach_slices), min(slice_count, middle + reach_slices + 1)


def _merged(windows: Iterable[_Window]) -> list[_Window]:
    """Return the windows, with overlapping windows merged into one."""
    merged: list[_Window] = []
    for low, high in sorted(windows):
        if merged and low <= merged[-1][1]:
            low, high = merged[-1][0], max(high, merged.pop()[1])  # noqa: PLW2901 - it grows
        merged.append((low, high))
    return merged


def _is_within(window: _Window, slab: _Window) -> bool:
    return slab[0] <= window[0] and window[1] <= slab[1]


def _slices_below(ct: Stack, window: _Window, slab: _Window) -> int:
    """Return the number of slices of a slab below a window: volumes run to the head, stacks to either end."""
    return window[0] - slab[0] if ct.normal[2] > 0 else slab[1] - window[1]


def _slab(ct: Stack, window: _Window, ct_volume: Volume | None) -> Volume:
    if ct_volume is None:
        return volume(_substack(ct, window))
    part = _cropped(ct_volume, _slices_below(ct, window, (0, len(ct.instances))), window)
    return replace(part, values=part.values.copy())  # so that the rest is dropped


def _cropped(ct_volume: Volume, first: int, window: _Window) -> Volume:
    """Return the slices of a volume from `first` on, as many as the window has."""
    end = first + window[1] - window[0]
    return replace(ct_volume, values=ct_volume.values[first:end], origin_mm=ct_volume.position((first, 0, 0)))


def _substack(ct: Stack, window: _Window) -> Stack:
    low, high = window
    substack = stack(ct.instances[low:high])
    if isinstance(substack, OutOfScope):
        raise BrokenSeries(f"the slices around the position are no stack: {substack.reason}")
    return substack
