"""A look at a few slices of a CT before the CT is read: are its units right, and which part do the slices show.

The header does not decide: the body part in it is wrong in one study of seven.
Source: Gueld et al., SPIE 4685 (2002), of Body Part Examined in a hospital's routine.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ainode.node.domain import OutOfScope, Selection, refs
from ainode.node.imaging.aerated_lung import LEAST_SHARE, lung_shares
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.imaging.hounsfield import range_reason, tissue_reason
from ainode.node.imaging.hounsfield_levels import levels_reason
from ainode.node.imaging.pixel_size import WRONG_SIZE, width_reason
from ainode.node.imaging.pixels import modality_values
from ainode.node.imaging.slice_order import slice_number

PIXELS = "body part by pixels"
"""The name of the condition in an explanation."""
NO_LUNG, NO_ABDOMEN = CODES = "no-lung", "no-abdomen"
"""The codes of refusals of the part that the pixels show."""
_SLICES = 16
# Pixels a side that the units are judged by: enough for shares of a thousandth.
_SIDE = 128
# A scan that ends before this, below the lungs, is of a chest: the pancreas lies lower.
_ABDOMEN_MM = 60.0


@dataclass(frozen=True, slots=True)
class CtLook:
    """What a few slices of a stack show.

    Units: `below_mm` is the longest that the stack can be below the lungs.
    """

    scan: Stack
    count: int
    """slices that were looked at"""
    lungs: tuple[int, int] | None
    """the lowest and the highest number in the stack, from 1, of the slices with aerated lung, of those looked at"""
    below_mm: float
    unit_reason: str
    """why the values cannot be Hounsfield units; '' if they can be"""
    size_reason: str = ""
    """why the pixels cannot be as large as the header says; '' if they can be"""

    @property
    def shows_abdomen(self) -> bool:
        """Return whether the stack goes on below the lungs; without lungs nothing tells an abdomen from a leg."""
        return self.lungs is not None and self.below_mm >= _ABDOMEN_MM

    @property
    def unit_refusal(self) -> OutOfScope | None:
        """Return the refusal of values that cannot be Hounsfield units, or of pixels that cannot have their size."""
        if self.unit_reason:
            return self._refusal(self.unit_reason, "Hounsfield units are read", "not-hounsfield")
        return self._refusal(self.size_reason, "sizes are read in mm", WRONG_SIZE)

    @property
    def chest_refusal(self) -> OutOfScope | None:
        """Return the refusal of a stack without lungs, whatever its header says; None if lungs were seen."""
        reason = "" if self.lungs else f"{self._header}, but the pixels show {self._lungs}"
        return self._refusal(reason, "a chest is read", NO_LUNG)

    @property
    def abdomen_refusal(self) -> OutOfScope | None:
        """Return the refusal of a chest, whatever its header says; None of an abdomen, and where nothing tells.

        Without lungs the header tells; a header that names no part tells nothing, and then neither does a body.
        """
        is_told = bool(body_part(self.scan.instances[0].header).parts)
        if self.shows_abdomen or (self.lungs is None and is_told):
            return None
        below = "" if self.lungs is None else f" and at most {self.below_mm:.0f} mm below"
        return self._refusal(
            f"{self._header}, but the pixels show {self._lungs}{below}", "an abdomen is read", NO_ABDOMEN
        )

    def __str__(self) -> str:
        """Return the body part and what says so, for an explanation."""
        part = "no chest" if self.lungs is None else "chest and abdomen" if self.shows_abdomen else "chest"
        return f"{part}, {self._lungs}"

    @property
    def _lungs(self) -> str:
        if self.lungs is None:
            return f"no aerated lung in any of {self.count} slices"
        first, last = sorted(slice_number(self.scan, number - 1) for number in self.lungs)
        return f"lungs in slices {first} to {last} of {len(self.scan.instances)}"

    @property
    def _header(self) -> str:
        part = body_part(self.scan.instances[0].header)
        return f"the header says {part}" if part.parts else "the header names no body part"

    def _refusal(self, reason: str, requirement: str, code: str) -> OutOfScope | None:
        if not reason:
            return None
        uid = self.scan.instances[0].ref.series_instance_uid
        return OutOfScope(f"series {uid}: {reason}; {requirement}", code, refs(self.scan.instances))


def look_at(scan: Stack) -> CtLook:
    """Return what a few slices of an axial stack show.

    Raises: BrokenSeries if a slice cannot be decoded.
    """
    count = len(scan.instances)
    numbers = np.unique(((np.arange(_SLICES) + 0.5) * count / _SLICES).astype(int))
    slices = [modality_values(scan.instances[number].path) for number in numbers]
    aerated = numbers[np.concatenate([lung_shares(values[np.newaxis]) for values in slices]) >= LEAST_SHARE]
    lungs = (int(aerated[0]) + 1, int(aerated[-1]) + 1) if len(aerated) else None
    below = 0 if lungs is None else lungs[0] - 1 if scan.normal[2] > 0 else count - lungs[1]
    sample = np.concatenate([_sample(values).ravel() for values in slices[:: len(slices) // 8 or 1]])
    unit_reason = range_reason(sample) or levels_reason(slices) or tissue_reason(sample)
    _, row_mm, column_mm = scan.spacing_mm
    size_reason = width_reason(slices, (row_mm, column_mm))
    return CtLook(scan, len(numbers), lungs, below * scan.spacing_mm[0], unit_reason, size_reason)


def looks(selection: Selection) -> Iterator[CtLook]:
    """Yield what each CT of a selection shows; slices that form no stack show nothing.

    Raises: BrokenSeries if a slice cannot be decoded.
    """
    for series in selection.series:
        slices = stack(series.instances) if series.modality == "CT" else None
        if isinstance(slices, Stack):
            yield look_at(slices)


def _sample(values: NDArray[np.float32]) -> NDArray[np.float32]:
    step = max(1, min(values.shape) // _SIDE)
    return values[::step, ::step]
