"""The same nodule at another date, earlier or later: registered, found again, measured."""

from __future__ import annotations

from dataclasses import dataclass

from ainode.models.following.grid import Grid, LeftOut, Position
from ainode.models.following.local import Refined, refined
from ainode.models.following.nodule import Measured, measured
from ainode.models.following.registration import RigidTransform, register


@dataclass(frozen=True, slots=True)
class Followed:
    """A nodule of the fixed scan in the moving one; its size, or why it has none."""

    transform: RigidTransform
    place: Refined
    size: Measured | LeftOut

    @property
    def position_mm(self) -> Position:
        """Return where the nodule is in the moving scan, LPS mm of that scan; its middle where it was measured."""
        return self.size.position_mm if isinstance(self.size, Measured) else self.place.position_mm


def followed(fixed: Grid, moving: Grid, position_mm: Position) -> Followed | LeftOut:
    """Return the nodule at a position of `fixed` in `moving`, or why that date is left out."""
    transform = register(fixed, moving)
    return transform if isinstance(transform, LeftOut) else found_again(fixed, moving, position_mm, transform)


def found_again(fixed: Grid, moving: Grid, position_mm: Position, transform: RigidTransform) -> Followed | LeftOut:
    """Return one more nodule between two scans that are registered already."""
    place = refined(fixed, moving, position_mm, transform)
    if isinstance(place, LeftOut):
        return place
    return Followed(transform, place, measured(moving, place.position_mm))
