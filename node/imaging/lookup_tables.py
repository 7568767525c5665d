"""Values after a lookup table (LUT) of an image: Modality LUT and VOI LUT."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

_FULL = 2**16
_SIGN = 2**15


def mapped(values: NDArray[Any], item: Dataset, header: Dataset) -> NDArray[np.float32]:
    """Return the entry for each value; a value outside of the table has the first or last entry.

    `values` are whole numbers.
    Raises: AttributeError, IndexError, LookupError, TypeError or ValueError if the item is no usable table.
    Source: PS3.3 C.11.1.1.
    """
    entries = _entries(item, header)
    indices = np.clip(values.astype(np.int64) - _first_value(item, values), 0, len(entries) - 1)
    return entries.astype(np.float32)[indices]


def white_value(item: Dataset, header: Dataset) -> float:
    """Return the entry that is white: the largest of the bits that the descriptor names, or the largest entry.

    Raises: as `mapped` does.
    """
    white = 2 ** int(item.LUTDescriptor[2]) - 1
    if white < 1:
        raise ValueError("the entries of the LUT have no bits")
    return float(max(white, _entries(item, header).max()))


def _entries(item: Dataset, header: Dataset) -> NDArray[Any]:
    """Return the entries of a table: words, or bytes of which two lie in a word, the first in its lower half.

    The length of the data decides, since devices write 8 bits into the descriptor and words into the data.
    """
    count = int(item.LUTDescriptor[0]) % _FULL or _FULL
    data = item.LUTData
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


def _first_value(item: Dataset, values: NDArray[Any]) -> int:
    """Return the value of the first entry; files state a negative value as unsigned, and a large value as signed."""
    first = int(item.LUTDescriptor[1])
    if first >= _SIGN and values.min() < 0:
        return first - _FULL
    if first < 0 and values.min() >= 0 and values.max() >= _SIGN:
        return first + _FULL
    return first
