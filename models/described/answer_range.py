"""The range in which the answers of a network lie whatever the image is, as far as its last operators tell.

A network whose answers all lie between 0 and 1 has made probabilities of them: no range of plain numbers ends there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ainode.models.errors import CheckpointRefused

Range = tuple[float, float]

_ANY: Final[Range] = (-math.inf, math.inf)
UNIT: Final[Range] = (0.0, 1.0)
# Operators behind each other that are followed: the end of a network is no deeper, and nothing is said beyond.
_DEEPEST: Final = 60
_ROUNDING: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Step:
    """An operator of a network: what it does, and of what."""

    kind: str
    """"within": its answers lie in `limits`; "same": between the least and the highest of its sources; or another"""
    sources: Callable[[], Sequence[Step]] = tuple
    limits: Range = _ANY
    key: Hashable = None
    """the name of what it makes, the same for equal steps; None if nothing else can hang on it"""


def exactly(number: float) -> Step:
    """Return the step that answers with one number."""
    return Step("within", limits=(number, number))


def answer_range(step: Step) -> Range:
    """Return the least and the highest number that a step can answer with; infinite where nothing tells."""
    return _range(step, 0, {})


def _range(step: Step, depth: int, known: dict[Hashable, Range]) -> Range:
    if step.kind == "within":
        return step.limits
    rule = _RULES.get(step.kind)
    if rule is None or depth > _DEEPEST:
        return _ANY
    if step.key is not None and step.key in known:
        return known[step.key]
    bounds = _by_rule(rule, (_range(source, depth + 1, known) for source in step.sources()))
    if step.key is not None:
        known[step.key] = bounds
    return bounds


def _by_rule(rule: Callable[[Sequence[Range]], Range], ranges: Iterable[Range]) -> Range:
    """Return the range by a rule; of what could be any number at all nothing but a bound tells anything."""
    looked_at: list[Range] = []
    for bounds in ranges:
        looked_at.append(bounds)
        if bounds == _ANY and rule not in _BOUNDING:
            return _ANY
    low, high = rule(looked_at) if looked_at else _ANY
    return _ANY if math.isnan(low) or math.isnan(high) else (low, high)


def refuse_probabilities(step: Step, name: str) -> None:
    """Return if an answer, of which the description has an activation to make probabilities, can be plain numbers.

    Raises: CheckpointRefused.
    """
    low, high = answer_range(step)
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        raise CheckpointRefused(
            f"{name}: its answers lie between {low:.3g} and {high:.3g} whatever the image is, so they are "
            'probabilities already; activation = "none" takes them as they are'
        )


def _hull(ranges: Sequence[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _sum(ranges: Sequence[Range]) -> Range:
    return sum(low for low, _ in ranges), sum(high for _, high in ranges)


def _difference(ranges: Sequence[Range]) -> Range:
    (low, high), (second_low, second_high) = ranges
    return low - second_high, high - second_low


def _product(ranges: Sequence[Range]) -> Range:
    result = ranges[0]
    for other in ranges[1:]:
        corners = [first * second for first in result for second in other]
        result = (min(corners), max(corners)) if not any(map(math.isnan, corners)) else _ANY
    return result


def _quotient(ranges: Sequence[Range]) -> Range:
    over, under = ranges
    return _product((over, (1 / under[1], 1 / under[0]))) if under[0] > 0 else _ANY


def _power(ranges: Sequence[Range]) -> Range:
    (low, high), (exponent, other) = ranges
    if exponent != other or low < 0 or (exponent < 0 and low == 0):
        return _ANY
    ends = (low**exponent, high**exponent)
    return min(ends), max(ends)


def _exponential(ranges: Sequence[Range]) -> Range:
    return _exp(ranges[0][0]), _exp(ranges[0][1])


def _exp(number: float) -> float:
    return math.exp(number) if number < 700 else math.inf  # noqa: PLR2004 - beyond it a float has no number


def _product_of_many(ranges: Sequence[Range]) -> Range:
    low, high = ranges[0]
    return UNIT if low >= 0 and high <= 1 else _ANY


def _maximum(ranges: Sequence[Range]) -> Range:
    return max(low for low, _ in ranges), max(high for _, high in ranges)


def _minimum(ranges: Sequence[Range]) -> Range:
    return min(low for low, _ in ranges), min(high for _, high in ranges)


_RULES: Final[Mapping[str, Callable[[Sequence[Range]], Range]]] = {
    "add": _sum,
    "subtract": _difference,
    "multiply": _product,
    "divide": _quotient,
    "power": _power,
    "exp": _exponential,
    "maximum": _maximum,
    "minimum": _minimum,
    "product": _product_of_many,
    "same": _hull,
}
_BOUNDING: Final = frozenset({_maximum, _minimum, _exponential})
