"""Whether stored values lie as the header says: shape, order of bytes, sign, and colors by pixel or by plane.

Values that are taken for others are rough where those of a picture are smooth. All limits were tried on 233 real files
and 2,606 photographs of skin, of which none is refused, and on their twins with a wrong header.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

# Below that nobody can tell; about so many rows or columns are looked at.
_LEAST_SIDE, _LOOKED_AT = 48, 128
# The other shape, or the other order of bytes, made no real image smoother; a twin becomes 2 to 40 times as smooth.
_SMOOTHER: Final = 0.5
# Of 2,606 photographs one was 0.66 times as rough with its colors in the other order, the next 0.90 times; their twins
# were at most 0.67 times, and 99 % of them 0.59 times and less.
_SMOOTHER_COLORS: Final = 0.6
# The share of neighbors at the two ends of the range was 0.00001 and less. Values at the very ends are saturated or
# padding, and do not count. Bright letters on a dark film are such neighbors, too, but make it little rougher.
_JUMP, _MOST_JUMPS = 0.75, 1e-4
_TWO_BYTES: Final = 2

Values = NDArray[Any]


def order_fault(frame: Values, header: Dataset) -> str:
    """Return what says that uncompressed values lie otherwise than the header says, in words; '' if nothing does.

    Shapes: (rows, columns) or (rows, columns, 3), as stored.
    """
    if min(frame.shape[:2]) < _LEAST_SIDE or frame.dtype.kind == "f":
        return ""
    if frame.ndim > _TWO_BYTES:
        return _planes_fault(frame, header)
    if not str(header.PhotometricInterpretation).startswith("MONOCHROME"):
        return ""
    rows, columns = frame.shape
    if rows != columns and _down(frame.reshape(columns, rows)) < _SMOOTHER * _down(frame):
        return f"Rows is {rows} and Columns {columns}, but its pixels are those of an image of {columns} x {rows}"
    if frame.dtype.itemsize == _TWO_BYTES and _relative(frame.byteswap()) < _SMOOTHER * _relative(frame):
        return "the two bytes of each of its values are swapped"
    return ""


def sign_fault(values: Values, header: Dataset) -> str:
    """Return what says that gray values have another sign than the header says, in words; '' if nothing does."""
    bits, sign = int(header.get("BitsStored") or 0), header.get("PixelRepresentation")
    is_gray = str(header.PhotometricInterpretation).startswith("MONOCHROME")
    if not is_gray or min(values.shape) < _LEAST_SIDE or values.dtype.kind == "f" or bits <= 1:
        return ""
    looked_at = _some_rows(values).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    within = (looked_at > low) & (looked_at < high)
    jumps = np.abs(np.diff(looked_at, axis=1)) > _JUMP * (1 << bits)
    if (jumps & within[:, 1:] & within[:, :-1]).mean() <= _MOST_JUMPS:
        return ""
    # The differences of the other sign: unsigned values moved by half of the range have those of signed ones.
    other = (looked_at + (0 if sign else 1 << (bits - 1))) % (1 << bits)
    if _across(other) >= _SMOOTHER * _across(looked_at):
        return ""
    return (
        f"Pixel Representation is {sign}, but neighbors lie at the two ends of the range, as values of the other sign"
    )


def _planes_fault(frame: Values, header: Dataset) -> str:
    rows, columns, samples = frame.shape
    by_plane = header.get("PlanarConfiguration") == 1
    if by_plane:
        other = frame.transpose(2, 0, 1).reshape(rows, columns, samples)
    else:
        other = frame.reshape(samples, rows, columns).transpose(1, 2, 0)
    # Grays by pixel are smooth across their planes, too, for each value comes three times, but not down.
    if _across(other) >= _SMOOTHER_COLORS * _across(frame) or _down(other) >= _down(frame):
        return ""
    return f"Planar Configuration is {int(by_plane)}, but its colors lie in the other order"


def _some_rows(values: Values) -> Values:
    step = max(1, len(values) // _LOOKED_AT)
    # Colors in the other order show the same third of the image in every third row.
    return values[:: step + (step % 3 == 0)]


def _across(values: Values) -> float:
    """Return the mean difference between neighbors in some rows."""
    return float(np.abs(np.diff(_some_rows(values).astype(np.float32), axis=1)).mean())


def _down(values: Values) -> float:
    """Return the mean difference between neighbors in some columns."""
    return _across(values.swapaxes(0, 1))


def _relative(values: Values) -> float:
    """Return the mean difference between neighbors as a share of how much all values differ."""
    return _across(values) / max(float(_some_rows(values).astype(np.float32).std()), 1e-6)
