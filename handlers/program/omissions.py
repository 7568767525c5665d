"""What a program says, or does not say, and no finding shows: the report names it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ainode.handlers.program.answer import Answer, read_names
from ainode.handlers.program.description import Description, Output
from ainode.handlers.program.findings import Seen, is_cut
from ainode.node.domain import Segmented


@dataclass(frozen=True, slots=True)
class Statements:
    """What was read of an answer."""

    words: Mapping[str, object]
    """of the agreed keys"""
    numbers: Mapping[str, float]
    outlined: Segmented | None


def omissions(
    answer: Answer, statements: Statements, description: Description, seen: Seen
) -> tuple[tuple[str, str], ...]:
    """Return name and words of each kind of thing that the findings lack.

    No word of the program is repeated: names are those of the description.
    """
    output, words = description.output, statements.words
    is_agreed = description.start.layout == "ainode"
    values = {key: words.get(key) for key in ("probabilities", "measurements")} if is_agreed else {}
    unmeasured = [item.name for item in output.quantities.values() if _is_unmeasured(item.key, item.name, statements)]
    kinds = (
        ("not read of a module of mercure", "" if is_agreed else ", ".join(_unread(output))),
        ("left out, values without an entry below [output]", _count(_unnamed(values, output.keys))),
        ("left out, files that nothing names", _count(len(answer.names) - len(read_names(answer, words)))),
        ("without a number", ", ".join(unmeasured)),
        ("nothing marked", ", ".join(_unmarked(statements.outlined))),
        ("cut at the border of the images", _count(sum(is_cut(box, seen.slices) for box in _boxes_mm(words)), "boxes")),
    )
    return tuple((name, text) for name, text in kinds if text)


def _count(number: int, noun: str = "") -> str:
    return f"{number} {noun}".strip() if number else ""


def _unnamed(values: Mapping[str, object], keys: Sequence[str]) -> int:
    """Return how many values, null aside, stand at no key of the description."""
    waiting: list[tuple[str, object]] = [*values.items()]
    count = 0
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{key}.{name}", item) for name, item in value.items()]
        elif value is not None and key not in keys:
            count += 1
    return count


def _is_unmeasured(key: str, name: str, statements: Statements) -> bool:
    """Return whether a described number stands neither at its key nor in a finding."""
    findings = statements.words.get("findings", [])
    measured = (entry.get("measurements", {}) for entry in findings) if isinstance(findings, list) else ()
    return key not in statements.numbers and not any(name in names for names in measured)


def _unread(output: Output) -> list[str]:
    """Return what the description names and only findings and masks say, which a module of mercure has not."""
    classes = [item.name for item in output.classes.values() if not item.key]
    return [*classes, *(segment.label for segment in output.segments.values())]


def _unmarked(outlined: Segmented | None) -> list[str]:
    """Return the segments of a mask that have no pixel."""
    if outlined is None:
        return []
    numbers = enumerate(outlined.segments, start=1)
    return [item.label for number, item in numbers if not any(number in plane.labels for plane in outlined.maps)]


def _boxes_mm(words: Mapping[str, object]) -> list[Sequence[float]]:
    findings = words.get("findings", [])
    return [entry["box_mm"] for entry in findings if "box_mm" in entry] if isinstance(findings, list) else []
