"""Where a volume lies in the input of a network: turned, at another spacing, cut or filled; and the way back.

The axes of a volume run to the head, the back and the left; those of the input are named by letters. Every axis of the
input is parallel to an axis of the volume, so that a place is turned back axis by axis, to the last voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.described.axes import sizes_text
from ainode.models.errors import ModelError

if TYPE_CHECKING:
    from ainode.models.described.placement import Fit

Values = NDArray[np.float32]

# Axis of the volume and its direction, by the side that an axis of the input runs to.
_SIDES = {"S": (0, 1), "I": (0, -1), "P": (1, 1), "A": (1, -1), "L": (2, 1), "R": (2, -1)}
_HALF_VOXEL = 0.5


@dataclass(frozen=True, slots=True)
class GridPlacement:
    """An input grid in a volume: for each axis of the input, in its order.

    Voxels are counted from the middle of the first one; `starts` and `steps` count along the turned axis.
    """

    order: tuple[int, ...]
    """axes of the volume"""
    flips: tuple[bool, ...]
    starts: tuple[float, ...]
    """where the first voxel of the input lies, in voxels of the volume"""
    steps: tuple[float, ...]
    """from voxel to voxel of the input, in voxels of the volume"""
    source: tuple[int, ...]
    """shape of the volume, in its own order"""
    target: tuple[int, ...]

    @property
    def is_exact(self) -> bool:
        """Return whether the input has the voxels of the volume itself, turned."""
        is_whole = self.target == tuple(self.source[axis] for axis in self.order)
        return is_whole and set(self.steps) == {1.0} and set(self.starts) == {0.0}

    @property
    def seen_share(self) -> float:
        """Return the share of the volume's voxels that lie in the input."""
        share = 1.0
        for axis, start, step, size in zip(self.order, self.starts, self.steps, self.target, strict=True):
            places = (np.arange(self.source[axis]) - start) / step
            share *= float(((places >= -_HALF_VOXEL) & (places < size - _HALF_VOXEL)).mean())
        return share

    def sampled(self, volume: Values) -> Values:
        """Return a volume on the input's grid, its outer voxels going on beyond.

        Along an axis that gets coarser each voxel is the mean over its step, so that nothing lies between two of them;
        else it is linear between voxels.
        """
        values = self._turned(volume)
        if self.is_exact:
            return np.array(values, np.float32)
        shares = [size / count for size, count in zip(self.target, values.shape, strict=True)]
        for axis in np.argsort(shares):  # what shrinks most comes first: fewer values are left to the others
            count = values.shape[axis]
            weights = _weights(self.starts[axis], self.steps[axis], self.target[axis], count)
            values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(values, np.float32)

    def outside(self) -> NDArray[np.bool_]:
        """Return which voxels of the input lie beyond the volume."""
        counts = [self.source[axis] for axis in self.order]
        shares = zip(self.steps, self.starts, self.target, counts, strict=True)
        return ~_within(tuple((step, start, size, count) for step, start, size, count in shares))

    def on_source(self, values: NDArray[np.generic], *, nearest: bool = False) -> Values:
        """Return values of the input's grid on the voxels of the volume; 0 beyond the input.

        Raises: ModelError if the values lie on another grid: nothing says whether it is coarser or cut.
        """
        if values.shape != self.target:
            raise ModelError(
                f"the network answers on a grid of {sizes_text(values.shape)} for an input of "
                f"{sizes_text(self.target)}; an answer with the voxels of the input, in the order of its axes, is read"
            )
        counts = tuple(self.source[axis] for axis in self.order)
        steps = tuple(1 / step for step in self.steps)
        starts = tuple(-start / step for start, step in zip(self.starts, self.steps, strict=True))
        turned = self._resampled(np.asarray(values, np.float32), steps, starts, counts, order=0 if nearest else 1)
        shares = zip(steps, starts, counts, self.target, strict=True)
        turned[~_within(tuple((step, start, size, count) for step, start, size, count in shares))] = 0
        return np.ascontiguousarray(self._flipped(turned).transpose(np.argsort(self.order)))

    def index_on_source(self, index: Sequence[float]) -> tuple[float, float, float]:
        """Return the voxel of the volume, as fractions, where a voxel of the input lies."""
        place = [0.0, 0.0, 0.0]
        for axis, is_flipped, start, step, value in zip(
            self.order, self.flips, self.starts, self.steps, index, strict=True
        ):
            along = start + step * value
            place[axis] = self.source[axis] - 1 - along if is_flipped else along
        return place[0], place[1], place[2]

    def _turned(self, volume: Values) -> Values:
        return self._flipped(volume.transpose(self.order))

    def _flipped(self, values: Values) -> Values:
        return values[tuple(slice(None, None, -1 if is_flipped else 1) for is_flipped in self.flips)]

    def _resampled(
        self, values: Values, steps: tuple[float, ...], starts: tuple[float, ...], shape: tuple[int, ...], *, order: int
    ) -> Values:
        if self.is_exact:
            return np.array(values, np.float32)
        resampled = ndimage.affine_transform(values, steps, starts, shape, np.float32, order, mode="nearest")
        return np.asarray(resampled, np.float32)


def _weights(start: float, step: float, size: int, count: int) -> Values:
    """Return the share that each of `count` voxels has in each of `size` means along an axis, (size, count).

    A mean is over one step, and over a voxel at least: that is linear interpolation between the voxels' middles.
    """
    middles = start + step * np.arange(size)[:, np.newaxis]
    reach = max(step, 1.0) / 2
    edges = np.arange(count + 1) - _HALF_VOXEL
    edges[[0, -1]] = -np.inf, np.inf  # the outer voxels go on
    inside = np.clip(edges, middles - reach, middles + reach)
    return np.asarray(np.diff(inside, axis=1) / (2 * reach), np.float32)


def _within(axes: Sequence[tuple[float, float, int, int]]) -> NDArray[np.bool_]:
    """Return which voxels of one grid lie in another: by step, start, size of the one and count of the other."""
    inside = np.ones((1,) * len(axes), np.bool_)
    for number, (step, start, size, count) in enumerate(axes):
        places = start + step * np.arange(size)
        axis = (places >= -_HALF_VOXEL) & (places < count - _HALF_VOXEL)
        inside = inside & axis.reshape([-1 if other == number else 1 for other in range(len(axes))])
    return inside


def grid_placement(
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    orientation: str,
    *,
    target_mm: Sequence[float] = (),
    size: Sequence[int] = (),
    fit: Fit = "center",
) -> GridPlacement:
    """Return where a volume lies in an input with axes to the sides of `orientation`, such as "SPL".

    "stretch" gives the whole volume the size. "center" takes the spacing `target_mm`, else the volume's own, and then
    fills or cuts to the size around the middle; without a size all of the volume is there.
    Units: `spacing_mm` in the order of the volume's axes, `target_mm` in that of the input's.
    """
    order, flips = zip(*(_SIDES[letter] for letter in orientation), strict=True)
    starts, steps, target = [], [], []
    for number, axis in enumerate(order):
        count, step_mm = shape[axis], spacing_mm[axis]
        if fit == "stretch":
            voxels = size[number]
            step = count / voxels
        else:
            step = target_mm[number] / step_mm if target_mm else 1.0
            voxels = size[number] if size else max(1, round(count / step))
        # The middle of the input is the middle of the volume, less half a voxel where own voxels are even and odd.
        start = (count - 1) / 2 - step * (voxels - 1) / 2
        starts.append(float(np.floor(start)) if step == 1 else start)
        steps.append(step)
        target.append(voxels)
    is_flipped = tuple(sign < 0 for sign in flips)
    return GridPlacement(tuple(order), is_flipped, tuple(starts), tuple(steps), tuple(shape), tuple(target))


def enlarged(coarse: Values, shape: Sequence[int]) -> Values:
    """Return a coarse map over a whole grid on the voxels of the grid, linear between the middles of its cells."""
    steps = tuple(count / size for count, size in zip(coarse.shape, shape, strict=True))
    starts = tuple(0.5 * step - 0.5 for step in steps)
    large = ndimage.affine_transform(coarse, steps, starts, tuple(shape), np.float32, 1, mode="nearest")
    return np.asarray(large, np.float32)
