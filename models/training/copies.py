"""Byte-identical files of a data set: a copy stands for no second class, and is never both learned from and judged on.

A picture that was saved anew is no copy here: its bytes differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ainode.models.training.parts import refuse_files


def groups_with_copies(
    paths: Sequence[Path], labels: Sequence[int], groups: Sequence[str], parts: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the groups, of which those that share a file are one: it has the first of their names.

    `parts` are those of a set that has its own. An absent file is no copy: it is refused where it is read.

    Shapes: (n,) each, and the result.
    Raises: ModelError with both names if a file stands for two labels, or lies in two parts.
    """
    copies = _copies(paths)
    refuse_files(
        [
            f"{paths[number]} and {paths[twins[0]]} are the same file, of two classes"
            for twins in copies
            for number in twins
            if labels[number] != labels[twins[0]]
        ]
    )
    refuse_files(
        [
            f"{paths[number]} and {paths[twins[0]]} are the same file, in {parts[number]} and in {parts[twins[0]]}"
            for twins in copies
            for number in twins
            if parts and parts[number] != parts[twins[0]]
        ]
    )
    joined = list(groups)
    for twins in copies:
        names = {joined[number] for number in twins}
        joined = [min(names) if name in names else name for name in joined]
    return tuple(joined)


def _copies(paths: Sequence[Path]) -> list[list[int]]:
    """Return the numbers of the files of each kind that is there more than once."""
    # Files of one size alone can be copies: few files of a set of scans have to be read.
    sizes = {number: str(path.stat().st_size) for number, path in enumerate(paths) if path.is_file()}
    return [
        twins for numbers in _alike(sizes) for twins in _alike({number: _sha256(paths[number]) for number in numbers})
    ]


def _alike(words: Mapping[int, str]) -> list[list[int]]:
    """Return the numbers that share a word, where several do."""
    numbers_of_word: dict[str, list[int]] = {}
    for number, word in words.items():
        numbers_of_word.setdefault(word, []).append(number)
    return [numbers for numbers in numbers_of_word.values() if len(numbers) > 1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
