"""The part of a CT that a model was made for, cut out of a longer scan: the lungs, or what lies below the lungs.

Every slice is judged by itself, so a chest alone and the same chest above an abdomen give the same slices.
"""

from dataclasses import dataclass, replace

import numpy as np

from ainode.node.domain import OutOfScope, refs
from ainode.node.imaging.aerated_lung import cut_lungs, lung_shares, lung_slices, wide_lung_slices
from ainode.node.imaging.ct_look import NO_ABDOMEN, NO_LUNG
from ainode.node.imaging.ct_series import CtRequirements, size_misfit
from ainode.node.imaging.geometry import Stack, Volume
from ainode.node.imaging.slice_order import begins_at_end


@dataclass(frozen=True, slots=True)
class CtPart:
    """A part of a CT: its slices, and their values.

    Shapes: the slices in the order of the whole stack, the volume from the feet to the head.
    """

    name: str
    slices: Stack
    volume: Volume
    first: int
    """the number of the first slice in the whole stack, from 0"""
    whole_count: int
    """slices of the whole stack"""
    begins_at_end: bool
    """whether a person counts the whole stack from its last slice"""
    cut: str = ""
    """what the scan does not hold of the part, in words"""

    def __str__(self) -> str:
        """Return the slices that are read, as a person counts the whole stack, for a report."""
        first, last = sorted((self.number(0), self.number(len(self.slices.instances) - 1)))
        text = f"slices {first} to {last} of {self.whole_count}: {self.name}"
        return f"{text}; {self.cut}" if self.cut else text

    def number(self, index: int) -> int:
        """Return the number, from 1, by which a person knows a slice of the part in the whole stack."""
        return self.whole_count - self.first - index if self.begins_at_end else self.first + index + 1


def lungs(slices: Stack, scan: Volume, requirements: CtRequirements) -> CtPart | OutOfScope:
    """Return the lungs, from their lowest to their highest slice, or why they cannot be read."""
    shares = lung_shares(scan.values)
    numbers = lung_slices(shares, scan.spacing_mm[0])
    if not numbers:
        reason = f"no aerated lung on any of {len(slices.instances)} slices; a chest is read"
        return _refusal(slices, reason, NO_LUNG)
    part = _fitting(_part("the lungs", slices, scan, numbers), slices, requirements)
    return replace(part, cut=cut_lungs(shares, scan.spacing_mm[0])) if isinstance(part, CtPart) else part


def below_lungs(slices: Stack, scan: Volume, requirements: CtRequirements) -> CtPart | OutOfScope:
    """Return what lies below the lungs, all of a scan without lungs, or why it cannot be read.

    The pancreas may lie beside the tips of the lungs: slices with a tip are of the abdomen, too.
    """
    numbers = wide_lung_slices(lung_shares(scan.values), scan.spacing_mm[0])
    below = range(numbers.start if numbers else len(scan.values))
    if not below:
        reason = f"lungs on the lowest of {len(slices.instances)} slices; an abdomen is read"
        return _refusal(slices, reason, NO_ABDOMEN)
    return _fitting(_part("the abdomen", slices, scan, below), slices, requirements)


def _fitting(part: CtPart, whole: Stack, requirements: CtRequirements) -> CtPart | OutOfScope:
    """Return the part if it is as large as required, else the refusal."""
    reason, code = size_misfit(part.slices, requirements)
    return _refusal(whole, f"{part}: {reason}", code) if code else part


def _refusal(slices: Stack, reason: str, code: str) -> OutOfScope:
    uid = slices.instances[0].ref.series_instance_uid
    return OutOfScope(f"series {uid}: {reason}", code, refs(slices.instances))


def _rises(slices: Stack) -> bool:
    """Return whether the numbers of an axial stack rise to the head, as those of a volume do."""
    return slices.normal[2] > 0


def _part(name: str, slices: Stack, scan: Volume, numbers: range) -> CtPart:
    """Return a part of a CT by the numbers of its slices in the volume."""
    count = len(slices.instances)
    first = numbers.start if _rises(slices) else count - numbers.stop
    part_slices = replace(
        slices,
        instances=slices.instances[first : first + len(numbers)],
        origin_mm=slices.position(first, 0, 0),
    )
    values = np.asarray(scan.values[numbers.start : numbers.stop])
    volume = replace(scan, values=values, origin_mm=scan.position((numbers.start, 0, 0)))
    return CtPart(name, part_slices, volume, first, count, begins_at_end(slices))
