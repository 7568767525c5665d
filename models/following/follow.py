"""A nodule of one scan in a scan of another date, by an earlier registration."""

from __future__ import annotations

from dataclasses import dataclass

from ainode.models.following.grid import Grid, Omission, Position
from ainode.models.following.local import NodulePlace, nodule_place
from ainode.models.following.registration import RigidTransform


@dataclass(frozen=True, slots=True)
class FollowedNodule:
    """The place of a nodule of the fixed scan in the moving scan, and the transform that led there."""

    transform: RigidTransform
    place: NodulePlace


def nodule_through_transform(
    fixed: Grid, moving: Grid, position_mm: Position, transform: RigidTransform
) -> FollowedNodule | Omission:
    """Return the nodule at a position of `fixed` in `moving`, by the transform from an earlier registration."""
    place = nodule_place(fixed, moving, position_mm, transform)
    return place if isinstance(place, Omission) else FollowedNodule(transform, place)
