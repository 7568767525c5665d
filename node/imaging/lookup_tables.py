"""Values after a lookup table (LUT) of an image: Modality LUT, VOI LUT and the palette of colors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

_PALETTE = ("Red", "Green", "Blue")
_FULL = 2**16
_SIGN = 2**15


def mapped(values: NDArray[Any], item: Dataset, header: Dataset) -> NDArray[np.float32]:
    """Return the entry for each value; a value outside of the table has the first or last entry.

    `values` are whole numbers.
    Raises: AttributeError, IndexError, LookupError, TypeError or ValueError if the item is no usable table.
    Source: PS3.3 C.11.1.1.
    """
    entries = _entries(item.LUTDescriptor, item.LUTData, header)
    return entries.astype(np.float32)[_indices(item.LUTDescriptor, values, len(entries))]


def palette_colors(values: NDArray[Any], header: Dataset) -> tuple[NDArray[Any], int]:
    """Return the colors of palette indices, and the number of bits of a color.

    Devices write 8 bits into the descriptor and words into the data, or 16 bits and colors of 8.
    Shapes: values (rows, columns); colors (rows, columns, 3).
    Raises: as `mapped` does.
    Source: PS3.3 C.7.6.3.1.5, C.7.6.3.1.6.
    """
    descriptors = [header[f"{color}PaletteColorLookupTableDescriptor"].value for color in _PALETTE]
    tables = [
        _entries(descriptor, header[f"{color}PaletteColorLookupTableData"].value, header)
        for color, descriptor in zip(_PALETTE, descriptors, strict=True)
    ]
    colors = np.stack(
        [
            table[_indices(descriptor, values, len(table))]
            for table, descriptor in zip(tables, descriptors, strict=True)
        ],
        axis=-1,
    )
    brightest, bits = max(int(table.max()) for table in tables), int(descriptors[0][2])
    return colors, next(width for width in (8, bits, 16) if brightest < 2**width)


def white_value(item: Dataset, header: Dataset) -> float:
    """Return the entry that is white: the largest of the bits that the descriptor names, or the largest entry.

    Raises: as `mapped` does.
    """
    white = 2 ** int(item.LUTDescriptor[2]) - 1
    if white < 1:
        raise ValueError("the entries of the LUT have no bits")
    return float(max(white, _entries(item.LUTDescriptor, item.LUTData, header).max()))


def _entries(descriptor: Sequence[int], data: object, header: Dataset) -> NDArray[Any]:
    """Return the entries of a table: words, or bytes of which two lie in a word, the first in its lower half.

    The length of the data decides, since devices write 8 bits into the descriptor and words into the data.
    """
    count = int(descriptor[0]) % _FULL or _FULL
    if isinstance(data, bytes):
        order = ">" if header.original_encoding[1] is False else "<"
        words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
    else:
        words = np.atleast_1d(np.asarray(data)).astype("<u2")
    if len(words) >= count:
        return words[:count]
    packed = words.astype("<u2").view("<u1")
    if len(packed) < count or not len(packed):
        raise ValueError(f"the LUT has {len(packed)} bytes for {count} entries")
    return packed[:count]


def _indices(descriptor: Sequence[int], values: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return which of the entries each value has."""
    return np.asarray(np.clip(values.astype(np.int64) - _first_value(descriptor, values), 0, count - 1))


def _first_value(descriptor: Sequence[int], values: NDArray[Any]) -> int:
    """Return the value of the first entry; files state a negative value as unsigned, and a large value as signed."""
    first = int(descriptor[1])
    if first >= _SIGN and values.min() < 0:
        return first - _FULL
    if first < 0 and values.min() >= 0 and values.max() >= _SIGN:
        return first + _FULL
    return first
