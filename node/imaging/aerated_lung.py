"""Aerated lung on axial CT slices: its share of the body on each slice, and the slices that hold the lungs.

A share hangs on its slice alone. So the lungs of a chest are the same slices, whatever was scanned below the chest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

LEAST_SHARE = 0.06
"""Of the body on a slice of the chest. Eight real chests and phantoms of chests have 6 to 58 % between the domes of the
diaphragm and the apices; phantoms of abdomens, whose gas is as thin as lung, have at most 3.1 %."""
# The tips of the lungs: such slices count where they adjoin slices of the lungs, for this far.
_TIP_SHARE, _TIP_MM = 0.02, 30.0
# Consolidations and fluid may fill the lungs on slices between aerated slices.
_BRIDGE_MM = 40.0
# Lungs that a scan cuts are wide so far from its end; gas of the bowel there is not.
_CUT_MM = 15.0
# Units: Hounsfield units. Gas of the bowel and of the airways lies below aerated lung; padding lies below all gas.
_LUNG, _TISSUE, _AIR, _PADDING = (-950.0, -500.0), -300.0, -940.0, -1100.0
# A pixel that is looked at is the mean of a block, about 3 mm a side: less noise, and fewer pixels.
_SIDE = 128
_CHUNK = 16


def lung_shares(slices: Values) -> NDArray[np.float64]:
    """Return the share of the body on each slice that is aerated lung, 0 to 1; air around the body never counts.

    Shapes: (n, rows, columns) in, (n,) out.
    Units: Hounsfield units.
    """
    chunks = [_shares(_blocks(slices[start : start + _CHUNK])) for start in range(0, len(slices), _CHUNK)]
    return np.concatenate(chunks) if chunks else np.zeros(0)


def lung_slices(shares: NDArray[np.float64], spacing_mm: float) -> range:
    """Return the slices that hold the lungs with their tips, by number; an empty range without lungs."""
    lungs = wide_lung_slices(shares, spacing_mm)
    if not lungs:
        return lungs
    reach = int(_TIP_MM / spacing_mm)
    below = _tip_length(shares[max(lungs.start - reach, 0) : lungs.start][::-1])
    above = _tip_length(shares[lungs.stop : lungs.stop + reach])
    return range(lungs.start - below, lungs.stop + above)


def wide_lung_slices(shares: NDArray[np.float64], spacing_mm: float) -> range:
    """Return the slices from the first to the last on which the lungs are wide; an empty range without lungs.

    Of several runs that lie far apart, the run with the most lung counts: gas of the bowel far below is no lung.
    """
    runs = _bridged_runs(np.flatnonzero(shares >= LEAST_SHARE), 1 + int(_BRIDGE_MM / spacing_mm))
    return max(runs, key=lambda run: float(shares[run.start : run.stop].sum()), default=range(0))


def cut_lungs(shares: NDArray[np.float64], spacing_mm: float) -> str:
    """Return in words at which ends of a scan, from the feet to the head, the lungs are cut; '' if at neither.

    Five whole chests have at most 3.1 % on their first and last slices; a chest whose bases were left out has 30 %.
    """
    reach = 1 + int(_CUT_MM / spacing_mm)
    ends = {"lowest": shares[:reach], "highest": shares[-reach:]}
    cut = [end for end, values in ends.items() if (values >= LEAST_SHARE).all()]
    slices = f"{' and the '.join(cut)} {'slices' if len(cut) > 1 else 'slice'}"
    return f"the lungs reach the {slices} of the scan, which does not hold the whole lungs" if cut else ""


def _bridged_runs(numbers: NDArray[np.intp], most_step: int) -> list[range]:
    """Return the runs of sorted numbers, of which neighbors are at most `most_step` apart."""
    if not len(numbers):
        return []
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > most_step) + 1)
    return [range(int(run[0]), int(run[-1]) + 1) for run in runs]


def _tip_length(shares: NDArray[np.float64]) -> int:
    """Return the number of slices, from the first on, that hold a tip of a lung."""
    too_small = np.flatnonzero(shares < _TIP_SHARE)
    return int(too_small[0]) if len(too_small) else len(shares)


def _blocks(slices: Values) -> Values:
    """Return the means of square blocks of pixels; the short side has about `_SIDE` blocks."""
    count, rows, columns = slices.shape
    step = max(1, min(rows, columns) // _SIDE)
    rows, columns = rows // step, columns // step
    whole = slices[:, : rows * step, : columns * step]
    return np.asarray(whole.reshape(count, rows, step, columns, step).mean(axis=(2, 4)), np.float32)


def _shares(blocks: Values) -> NDArray[np.float64]:
    padding = blocks < _PADDING
    outside = _flooded(padding | _outer_air(blocks, padding), blocks < _TISSUE)
    body = ~outside
    lung = body & (blocks > _LUNG[0]) & (blocks < _LUNG[1])
    return np.asarray(lung.sum(axis=(1, 2)) / np.maximum(body.sum(axis=(1, 2)), 1), np.float64)


def _outer_air(blocks: Values, padding: Mask) -> Mask:
    """Return the air at the edge of the scanned field. A lung that the field cuts through lies at the edge, too."""
    around_padding = np.logical_or.reduce(_neighborhood(padding))
    edge = np.asarray(around_padding, np.bool_)
    edge[:, [0, -1], :] = True
    edge[:, :, [0, -1]] = True
    smooth = np.mean(_neighborhood(np.maximum(blocks, np.float32(_PADDING))), axis=0)
    return np.asarray(edge & (smooth < _AIR), np.bool_)


def _neighborhood(slices: NDArray[Any]) -> NDArray[Any]:
    """Return the slices shifted within their planes by a pixel in each direction, and as they are.

    Shapes: (n, rows, columns) in, (9, n, rows, columns) out.
    """
    _, rows, columns = slices.shape
    padded = np.pad(slices, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifts = ((down, right) for down in range(3) for right in range(3))
    return np.stack([padded[:, down : down + rows, right : right + columns] for down, right in shifts])


def _flooded(seeds: Mask, passable: Mask) -> Mask:
    """Return the pixels that a way over passable pixels of their slice joins with a seed."""
    # The slices come last, so that each step of a sweep is an operation on rows that lie together in memory.
    flood = np.ascontiguousarray(np.moveaxis(seeds, 0, -1))
    free = np.ascontiguousarray(np.moveaxis(passable, 0, -1))
    count = -1
    while count != (count := int(flood.sum())):
        for axis in (0, 1):
            _sweep(flood.swapaxes(0, axis), free.swapaxes(0, axis), range(1, flood.shape[axis]), -1)
            _sweep(flood.swapaxes(0, axis), free.swapaxes(0, axis), range(flood.shape[axis] - 2, -1, -1), 1)
    return np.moveaxis(flood, -1, 0)


def _sweep(flood: Mask, free: Mask, numbers: Sequence[int], neighbor: int) -> None:
    """Let the flood run in one direction, in place."""
    for number in numbers:
        flood[number] |= flood[number + neighbor] & free[number]
