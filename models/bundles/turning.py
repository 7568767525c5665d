"""Turns a volume so that its axes run to the sides that a bundle was made for, and labels back, voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

_SIDES: Final = ("SI", "PA", "LR")
"""of z, y and x of the patient: the side to which the coordinate grows in LPS, and the other"""

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Turn:
    """Which axis of a volume (Z, Y, X) becomes which, and which of the new axes run the other way."""

    order: tuple[int, int, int]
    flips: tuple[int, ...]

    @classmethod
    def to(cls, orientation: str, affine_lps: NDArray[np.float64]) -> Turn:
        """Return the turn by which z, y and x of a volume run to three sides, such as SAR; '' for no turn."""
        if not orientation:
            return cls((0, 1, 2), ())
        # Rows: z, y, x of the array; columns: z, y, x of the patient.
        directions = affine_lps[2::-1, 2::-1].T
        order, flips = [], []
        for new_axis, side in enumerate(orientation):
            component = next(number for number, pair in enumerate(_SIDES) if side in pair)
            axis = _nearest_axes(directions)[component]
            order.append(axis)
            if bool(directions[axis, component] > 0) != (side == _SIDES[component][0]):
                flips.append(new_axis)
        return cls((order[0], order[1], order[2]), tuple(flips))

    def turned(self, values: NDArray[Number]) -> NDArray[Number]:
        """Return a volume turned."""
        return np.flip(values.transpose(self.order), self.flips)

    def back(self, values: NDArray[Number]) -> NDArray[Number]:
        """Return a turned volume as it was."""
        return np.flip(values, self.flips).transpose(np.argsort(self.order))

    def affine(self, affine_lps: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the affine of a volume after the turn; `shape` is the volume's (Z, Y, X) before."""
        steps = affine_lps[:, 2::-1][:, list(self.order)].copy()
        origin = affine_lps[:, 3].copy()
        for axis in self.flips:
            origin += steps[:, axis] * (shape[self.order[axis]] - 1)
            steps[:, axis] *= -1
        turned: NDArray[Any] = np.column_stack([steps[:, ::-1], origin])
        return turned


def _nearest_axes(directions: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the axis of the array nearest to z, y and x of the patient; no axis comes twice."""
    shares = np.abs(directions) / np.linalg.norm(directions, axis=1, keepdims=True)
    axes = [-1, -1, -1]
    for place in np.argsort(-shares, axis=None):
        axis, component = divmod(int(place), 3)
        if axes[component] < 0 and axis not in axes:
            axes[component] = axis
    return tuple(axes)
