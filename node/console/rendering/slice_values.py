"""The values of a frame for the viewer: a head in JSON and the values, compressed together.

The content is the length of the head in four bytes, the head, and the values row by row: 16-bit numbers of which each
times `step` plus `base` is a modality value, or red, green and blue in bytes. All numbers begin with their lowest byte.
"""

import gzip
import json
import struct
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ainode.node.imaging.free_text import as_code
from ainode.node.imaging.pixels import Frame, frame

_STEPS: Final = 2**16 - 1
_WHOLE: Final = 1e-3
_ALIGNMENT: Final = 4
# A level above it takes longer than the network of a hospital saves.
_LEVEL: Final = 1


def slice_values(path: Path, number: int, longest_side: int) -> bytes:
    """Return the content of a frame, reduced by a whole factor to a longest side.

    Raises: BrokenSeries if the frame cannot be decoded.
    """
    shown = frame(path, number)
    factor = -(-max(shown.values.shape[:2]) // longest_side)
    values = _reduced(shown.values, factor)
    head: dict[str, object] = {"rows": values.shape[0], "columns": values.shape[1], "factor": factor}
    if shown.window is None:
        return _packed({**head, "kind": "color"}, values)
    stored, step, base = in_16_bits(values, shown.header)
    return _packed({**head, "kind": "gray", "step": step, "base": base, **_appearance(shown)}, stored)


def _appearance(shown: Frame) -> dict[str, object]:
    """Return what a viewer needs beside gray values: window, unit, and whether the lowest value is white."""
    header = shown.header
    unit = as_code(header.RescaleType) if header.get("RescaleType") else ""
    is_ct = header.get("Modality") == "CT"
    return {
        "window": shown.window,
        "unit": "HU" if is_ct and unit in {"", "US"} else "" if unit == "US" else unit,  # US: unspecified
        "inverted": header.get("PhotometricInterpretation") == "MONOCHROME1",
    }


def _reduced(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return the means of squares of `factor` by `factor` pixels; the last square repeats the edge of the image."""
    if factor <= 1:
        return values
    rows, columns, *colors = values.shape
    padding = [(0, -rows % factor), (0, -columns % factor), *((0, 0) for _ in colors)]
    squares = np.pad(values, padding, "edge").reshape(
        -(-rows // factor), factor, -(-columns // factor), factor, *colors
    )
    means = squares.mean(axis=(1, 3), dtype=np.float32)
    return np.asarray(np.rint(means), np.uint8) if colors else means


def in_16_bits(values: NDArray[np.float32], header: Dataset) -> tuple[NDArray[np.uint16], float, float]:
    """Return values as whole numbers of a step above a base; exact where 16 bits hold the stored values."""
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    base, highest = float(finite.min()), float(finite.max())
    slope = abs(float(header.get("RescaleSlope") or 1))
    for step in (1.0, slope):
        if step > 0 and (highest - base) / step <= _STEPS:
            counts = (finite.astype(np.float64) - base) / step
            if np.abs(counts - np.rint(counts)).max() < _WHOLE:
                return np.rint(counts).astype("<u2"), step, base
    step = max((highest - base) / _STEPS, 1e-12)
    return np.rint((finite.astype(np.float64) - base) / step).astype("<u2"), step, base


def _packed(head: dict[str, object], values: NDArray[Any]) -> bytes:
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return gzip.compress(struct.pack("<I", len(text)) + text + values.tobytes(), _LEVEL, mtime=0)
