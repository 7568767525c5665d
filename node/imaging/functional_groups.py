"""The header of one frame of a multi-frame image: what its functional groups say, where a single-frame image says it.

Source: PS3.3 C.7.6.16 (Multi-frame Functional Groups).
"""

from copy import copy
from typing import Final

from pydicom import Dataset

_SHARED: Final = "SharedFunctionalGroupsSequence"
_PER_FRAME: Final = "PerFrameFunctionalGroupsSequence"
_MACROS: Final = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
)


def frame_header(header: Dataset, index: int) -> Dataset:
    """Return a header with geometry, rescale and window of the frame; the header itself if it has no such groups.

    Raises: one of BROKEN_FILE if the groups are damaged.
    """
    sequences = (header.get(_SHARED) or [], 0), (header.get(_PER_FRAME) or [], index)
    groups = [sequence[number] for sequence, number in sequences if number < len(sequence)]
    items = [group[macro].value[0] for group in groups for macro in _MACROS if group.get(macro)]
    if not items:
        return header
    merged = copy(header)
    for item in items:
        merged.update(item)
    return merged


def frame_count(header: Dataset) -> int:
    """Return the number of frames that a header states, 1 if it states none.

    Raises: ValueError or TypeError if the header states no number.
    """
    return max(int(header.get("NumberOfFrames") or 1), 1)
