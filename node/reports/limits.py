"""What a reader is told about a model beside its answer: what the model is not for, and what was seen to go wrong."""

from collections.abc import Iterator, Sequence

from ainode.node.domain import Algorithm

_FOOTNOTE_CHARACTERS = 150
"""two lines of a capture of 512 pixels"""


def limits(algorithm: Algorithm) -> Iterator[tuple[str, str]]:
    """Yield name and text of each kind of limit that the algorithm states."""
    for name, items in _kinds(algorithm):
        yield name, "; ".join(items)


def footnotes(algorithm: Algorithm) -> Iterator[str]:
    """Yield the limits as lines below a picture, each cut behind a whole limit; the report has the rest."""
    for name, items in _kinds(algorithm):
        fitting = _fitting(items)
        left_out = len(items) - len(fitting)
        yield f"{name}: {'; '.join(fitting)}" + (f"; {left_out} more in the report" if left_out else "")


def _kinds(algorithm: Algorithm) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, items in (("Not for", algorithm.not_for), ("Known limits", algorithm.known_limits)):
        if items:
            yield name, items


def _fitting(items: Sequence[str]) -> Sequence[str]:
    """Return the first items that fit a footnote, at least one."""
    count = 1
    while count < len(items) and len("; ".join(items[: count + 1])) <= _FOOTNOTE_CHARACTERS:
        count += 1
    return items[:count]
