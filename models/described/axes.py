"""The axes of a network's answer, held against the description: nothing is turned, cut or dropped until it fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import ModelError

Values = NDArray[np.float32]

_ROWS_IN_BATCH = 3


def rows_of(answer: Values, width: int, name: str) -> Values:
    """Return a table of an answer, whose batch holds one image.

    Shapes: (n, width) or (1, n, width) in, (n, width) out.
    Raises: ModelError if the answer has another shape.
    """
    rows: Values = answer[0] if answer.ndim == _ROWS_IN_BATCH and len(answer) == 1 else answer
    if rows.ndim != _ROWS_IN_BATCH - 1 or rows.shape[1] != width:
        raise ModelError(f"the {name} have the shape {answer.shape}; (n, {width}) or (1, n, {width}) is read")
    return rows


def is_list(answer: Values, count: int) -> bool:
    """Return whether an answer is so many numbers along one axis; further axes have the length 1."""
    return answer.size == count and sum(size != 1 for size in answer.shape) <= 1


def list_of(answer: Values, count: int, name: str) -> Values:
    """Return the numbers of an answer along its one axis, (count,).

    Raises: ModelError if there are others, or numbers along several axes.
    """
    if not is_list(answer, count):
        raise ModelError(f"the {name} have the shape {answer.shape}; ({count},) is read, one for each box")
    return answer.reshape(count)


def pairs_of(answer: Values, count: int) -> Values:
    """Return the pairs of an answer, (count, 2).

    Shapes: (1, count, 2), (count, 2), (1, 2 count) or (2 count,) in.
    Raises: ModelError if the answer has another shape.
    """
    if answer.shape not in {(1, count, 2), (count, 2), (1, 2 * count), (2 * count,)}:
        raise ModelError(
            f"the places of {count} landmarks have the shape {answer.shape}; (1, {count}, 2) or "
            f"(1, {2 * count}) is read"
        )
    return answer.reshape(count, 2)


def refuse_other_grid(grid: Sequence[int], target: Sequence[int], stride: int = 1) -> None:
    """Return if each cell of an answer's grid covers `stride` x `stride` pixels, and the cells the whole input.

    Nothing in a smaller answer says whether it is coarser or cut, so that the description says the stride.
    Raises: ModelError.
    """
    if tuple(cells * stride for cells in grid) == tuple(target):
        return
    share = f" and stride = {stride}" if stride > 1 else ""
    raise ModelError(
        f"the network answers on {sizes_text(grid)} cells; the input has {sizes_text(target)}{share}: its rows, "
        "columns or channels are in another order than `layout` says, its border is cut off, or a cell covers another "
        "number of pixels; `stride` below [output] says how many each way"
    )


def sizes_text(sizes: Sequence[int]) -> str:
    """Return the sizes along the axes of an array in words."""
    return " x ".join(map(str, sizes))
