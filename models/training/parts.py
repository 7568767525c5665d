"""The parts of a data set: which groups a training holds out, and a folder that phantoms may be drawn into."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ainode.models.errors import ModelError

_LEAST = 2
"""groups of a kind: one to hold out, one to learn from"""


def held_out(labels: ArrayLike, groups: ArrayLike, *, share: float, seed: int) -> NDArray[np.bool_]:
    """Return which cases are held out: whole groups, about the same share of the ill and of the healthy groups.

    A group with an ill case is ill. At least one group of each kind is held out, and one is not. Names and seed alone
    decide, not the order of the cases.

    Shapes: labels (n,), above 0 is ill; groups (n,), such as patients or studies; out (n,).
    Raises: ModelError if there are fewer than two groups of a kind.
    """
    names, numbers = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    is_ill = np.bincount(numbers, np.asarray(labels) > 0) > 0
    is_held_out = np.zeros(len(names), bool)
    for word, members in (("ill", np.flatnonzero(is_ill)), ("healthy", np.flatnonzero(~is_ill))):
        if len(members) < _LEAST:
            raise ModelError(
                f"{len(members)} {word} of {len(names)} patients, studies or files, copies of a file counted once; "
                f"at least {_LEAST} {word} ones are needed, so that some can be held out"
            )
        count = min(max(1, round(share * len(members))), len(members) - 1)
        drawn = sorted(members, key=lambda member: hashlib.sha256(f"{seed} {names[member]}".encode()).digest())
        is_held_out[drawn[:count]] = True
    return np.asarray(is_held_out[numbers], np.bool_)


def refuse_strange_folder(data: Path, own_files: Sequence[str], layouts: str) -> None:
    """Refuse a folder that is neither empty nor filled by an earlier call: phantoms are drawn into such a folder alone.

    `own_files` are patterns of the names that an earlier call left; `layouts` says what was looked for.
    Raises: ModelError.
    """
    if not data.is_dir():
        raise ModelError(f"{data}: no such folder; make an empty one for synthetic data, or name one with {layouts}")
    names = sorted(path.name for path in data.iterdir() if not path.name.startswith("."))
    strange = [name for name in names if not any(Path(name).match(pattern) for pattern in own_files)]
    if strange:
        raise ModelError(
            f"{data}: neither empty, for synthetic data, nor a layout that can be read: looked for {layouts}; "
            f"there are {', '.join(strange[:5])}{' and more' if len(strange) > 5 else ''}"  # noqa: PLR2004
        )


def refuse_files(reasons: Sequence[str]) -> None:
    """Raise a ModelError with the reasons against files, ten of them at most; nothing without reasons."""
    if reasons:
        more = f"\nand {len(reasons) - 10} more" if len(reasons) > 10 else ""  # noqa: PLR2004
        raise ModelError("\n".join(reasons[:10]) + more)
