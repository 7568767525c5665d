"""Whether air, fat and muscle of a CT lie where Hounsfield units put them: a wrong rescale moves all of them.

Two gauges, each by itself: the gas around the body and in its airways, and the two peaks of fat and muscle. An
intercept moves both; a slope moves the one that is far from the stored zero. What a scan does not show is not judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

WHAT_TO_DO = "Rescale Intercept or Rescale Slope does not fit the pixels; send the series as the scanner made it"
# A cell is the mean of a block of pixels: less noise, and a cell within padding is of one value.
_SIDE, _LEAST_STEP = 128, 2
# Units: Hounsfield units. Padding lies far below all gas, and outside of padding is the scanned field's edge.
_PADDING, _GAS, _EDGE_CELLS = -1500.0, -600.0, 2
# Of 216 single slices and 14 whole scans of real chests the air around the body measures -1007 to -947; where the edge
# of the field shows lung instead, its quartiles lie 49 and more apart.
_AIR, _LOWEST_AIR, _HIGHEST_AIR = -1000.0, -1060.0, -940.0
_LEAST_EDGE_GAS, _MOST_AIR_SPREAD, _LEAST_EDGE_CELLS = 0.2, 40.0, 20
_MOST_LOW, _MOST_LOW_OF_GAS, _LEAST_AIRWAY = 0.005, 0.2, 0.0003
# Fat; muscle and blood without contrast: as wide as kernels and kilovoltage spread them.
_TISSUE, _FAT, _MUSCLE = (-500, 600), (-140, -60), (-5, 80)
_MUSCLE_PEAK, _FAT_PEAK = (20.0, 75.0), (-125.0, -75.0)
_BIN, _REACH, _STEP, _LEAST_TISSUE_CELLS = 5, 250, 10, 200
# A scan in Hounsfield units has its best place within 30 of 0, or gains at most 14 % elsewhere; moved by 100 or more,
# in either direction, it gains 29 % and more at its place. Where the air lies right, a few slices of bone gain 37 %.
_LEAST_SHIFT, _LEAST_GAIN, _LEAST_GAIN_BESIDE_AIR = 60, 1.2, 1.4
# Who has hardly any fat, as an infant has, has muscle alone at its place, and blood with contrast beyond.
_LEAST_GAIN_AT_A_KNOWN_PLACE = 2.0


@dataclass(frozen=True, slots=True)
class Tissue:
    """How fat and muscle lie.

    Units: HU; `gain` is the share of the tissue at the peaks when these are moved by `shift`, as a part of the share
    where fat and muscle belong.
    """

    shift: int
    gain: float
    peak: float
    """the most frequent value"""

    def is_moved(self, least_gain: float) -> bool:
        """Return whether fat and muscle lie elsewhere."""
        return abs(self.shift) >= _LEAST_SHIFT and self.gain >= least_gain

    @property
    def is_at_a_known_place(self) -> bool:
        """Return whether the most frequent value is that of muscle or of fat."""
        return any(low <= self.peak <= high for low, high in (_MUSCLE_PEAK, _FAT_PEAK))

    def __str__(self) -> str:
        """Return where fat and muscle lie, for a refusal."""
        fat, muscle = (round((low + high) / 2 / _STEP) * _STEP + self.shift for low, high in (_FAT, _MUSCLE))
        return f"fat and muscle lie near {fat} and {muscle}, expected near -100 and 40"


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of a scan that are no padding, and those of them at the edge of the scanned field.

    Units: HU.
    """

    all: Values
    edge: Values

    @property
    def outer_air(self) -> float | None:
        """Return the value of the air around the body; None where the field's edge shows none."""
        gas = self.edge[self.edge < _GAS]
        if len(gas) < max(_LEAST_EDGE_CELLS, _LEAST_EDGE_GAS * len(self.edge)):
            return None
        low, middle, high = (float(value) for value in np.percentile(gas, (25, 50, 75)))
        return middle if high - low < _MOST_AIR_SPREAD else None

    def share_below(self, limit: float) -> float:
        """Return the share of the cells below a value."""
        return float((self.all < limit).mean()) if len(self.all) else 0.0

    @property
    def low_share_of_gas(self) -> float:
        """Return the share of the gas that is thinner than air can be."""
        return self.share_below(_LOWEST_AIR) / max(self.share_below(_GAS), 1e-9)


def levels_reason(slices: Sequence[Values]) -> str:
    """Return in words which of air, fat and muscle lie elsewhere than in Hounsfield units; '' if none is seen to.

    Shapes: slices of (rows, columns), at full resolution or sampled.
    """
    cells = _cells_of(slices)
    tissue, air = tissue_of(cells.all), cells.outer_air
    is_moved = tissue is not None and tissue.is_moved(_LEAST_GAIN)
    if cells.low_share_of_gas > _MOST_LOW_OF_GAS or (is_moved and cells.share_below(_LOWEST_AIR) > _MOST_LOW):
        low = cells.all[cells.all < _LOWEST_AIR]
        return _text(f"gas measures {np.median(low):.0f}, air is {_AIR:.0f} and nothing is thinner", tissue, is_moved)
    if air is not None and air > _HIGHEST_AIR:
        return _text(f"the air around the body measures {air:.0f}, expected is {_AIR:.0f}", tissue, is_moved)
    is_air_seen = air is not None or cells.share_below(_HIGHEST_AIR) > _LEAST_AIRWAY
    if tissue is None or not is_moved:
        return ""
    least_gain = _LEAST_GAIN_AT_A_KNOWN_PLACE if tissue.is_at_a_known_place else _LEAST_GAIN_BESIDE_AIR
    if is_air_seen and not tissue.is_moved(least_gain):
        return ""
    seen = f"air is seen near {_AIR:.0f}" if is_air_seen else f"no gas as thin as air, {_AIR:.0f}, is seen"
    return _text(seen, tissue, is_moved)


def tissue_of(cells: Values) -> Tissue | None:
    """Return how fat and muscle lie among the cells of a scan; None where too little is tissue."""
    tissue = cells[(cells > _TISSUE[0]) & (cells < _TISSUE[1])]
    if len(tissue) < _LEAST_TISSUE_CELLS:
        return None
    edges = np.arange(_TISSUE[0], _TISSUE[1] + _BIN, _BIN)
    counts = np.histogram(tissue, edges)[0].astype(np.float64)
    below = np.concatenate([[0.0], np.cumsum(counts)])

    def count_at(shift: int) -> float:
        """Return how many cells lie at the places of fat and muscle, both moved."""
        limits = (np.add((*_FAT, *_MUSCLE), shift) - _TISSUE[0]) // _BIN
        fat_low, fat_high, muscle_low, muscle_high = np.clip(limits, 0, len(counts))
        return float(below[fat_high] - below[fat_low] + below[muscle_high] - below[muscle_low])

    shifts = range(-_REACH, _REACH + 1, _STEP)
    best = max(shifts, key=count_at)
    peak = int(np.convolve(counts, np.ones(7), "same").argmax())
    return Tissue(best, count_at(best) / max(count_at(0), 1.0), float(edges[peak]) + _BIN / 2)


def _text(seen: str, tissue: Tissue | None, is_moved: bool) -> str:  # noqa: FBT001 - a fact, not a switch
    return "; ".join([seen, *([str(tissue)] if is_moved else []), WHAT_TO_DO])


def _cells_of(slices: Sequence[Values]) -> _Cells:
    cells, edges = zip(*map(_cells_of_slice, slices), strict=True)
    return _Cells(np.concatenate(cells), np.concatenate(edges))


def _cells_of_slice(values: Values) -> tuple[Values, Values]:
    """Return the cells of a slice that are no padding, and those of them at the edge of the scanned field."""
    step = max(_LEAST_STEP, min(values.shape) // _SIDE)
    rows, columns = values.shape[0] // step, values.shape[1] // step
    blocks = values[: rows * step, : columns * step].reshape(rows, step, columns, step)
    lowest, highest = blocks.min(axis=(1, 3)), blocks.max(axis=(1, 3))
    is_scanned = (lowest > _PADDING) & (highest > lowest)
    cells = blocks.mean(axis=(1, 3))
    return cells[is_scanned], cells[is_scanned & _near(~is_scanned)]


def _near(mask: Mask) -> Mask:
    """Return the cells near a cell of a mask, or near the border."""
    reach, (rows, columns) = _EDGE_CELLS, mask.shape
    padded = np.pad(mask, reach, constant_values=True)
    shifts = range(2 * reach + 1)
    in_rows = np.logical_or.reduce([padded[shift : shift + rows] for shift in shifts])
    return np.asarray(np.logical_or.reduce([in_rows[:, shift : shift + columns] for shift in shifts]), np.bool_)
