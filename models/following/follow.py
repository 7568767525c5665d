"""A nodule of one scan in a scan of another date: its place there and its size."""

from __future__ import annotations

from dataclasses import dataclass

from ainode.models.following.grid import Grid, Omission, Position
from ainode.models.following.local import NodulePlace, nodule_place
from ainode.models.following.nodule import NoduleSize, nodule_size
from ainode.models.following.registration import RigidTransform, register


@dataclass(frozen=True, slots=True)
class FollowedNodule:
    """A nodule of the fixed scan in the moving scan; its size, or the reason why the nodule has no size."""

    transform: RigidTransform
    place: NodulePlace
    size: NoduleSize | Omission

    @property
    def position_mm(self) -> Position:
        """Return the nodule's position in the moving scan, LPS mm: the middle of a measured nodule, else its place."""
        return self.size.position_mm if isinstance(self.size, NoduleSize) else self.place.position_mm


def followed_nodule(fixed: Grid, moving: Grid, position_mm: Position) -> FollowedNodule | Omission:
    """Register the scans; return the nodule at a position of `fixed` in `moving`, or why that date has no nodule."""
    transform = register(fixed, moving)
    return (
        transform
        if isinstance(transform, Omission)
        else nodule_through_transform(fixed, moving, position_mm, transform)
    )


def nodule_through_transform(
    fixed: Grid, moving: Grid, position_mm: Position, transform: RigidTransform
) -> FollowedNodule | Omission:
    """Return the nodule at a position of `fixed` in `moving`, by the transform from an earlier registration."""
    place = nodule_place(fixed, moving, position_mm, transform)
    if isinstance(place, Omission):
        return place
    return FollowedNodule(transform, place, nodule_size(moving, place.position_mm))
