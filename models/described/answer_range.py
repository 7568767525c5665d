"""The range in which the answers of a network lie whatever the image is, as far as its last operators tell.

A network whose answers all lie between 0 and 1 has made probabilities of them: no range of plain numbers ends there.
`graph_range` and `script_range` give the last operators of a format as steps, which this module follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ainode.models.described.scaling import Activation
from ainode.models.errors import CheckpointRefused

Range = tuple[float, float]

ANY: Final[Range] = (-math.inf, math.inf)
UNIT: Final[Range] = (0.0, 1.0)
TURNED: Final[Range] = (-1.0, 1.0)
"""of a tangent, a sine, an error function"""
LOGARITHM: Final[Range] = (-math.inf, 0.0)
"""of a probability"""
# Operators behind each other that are followed: the end of a network is no deeper, and nothing is said beyond.
_DEEPEST: Final = 60
_ROUNDING: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Step:
    """An operator of a network: what it does, and of what."""

    kind: str
    """"within": its answers lie in `limits`; "either": they are those of one of its sources; or the name of a rule"""
    sources: Callable[[], Sequence[Step]] = tuple
    limits: Range = ANY
    key: Hashable = None
    """the name of what it makes, the same for equal steps; None if nothing else can hang on it"""


UNKNOWN: Final = Step("unknown")
"""answers with any number"""
UNSEEN: Final = Step("either", lambda: (Step("within", limits=UNIT), UNKNOWN))
"""holds operators into which nobody can look: it may have made probabilities"""


def exactly(number: float) -> Step:
    """Return the step that answers with one number."""
    return Step("within", limits=(number, number))


@dataclass(frozen=True, slots=True)
class Operators:
    """What is known of the operators of a format, by the names that they have there."""

    limits: Mapping[str, Range]
    """of those whose answers lie in a range whatever they are given"""
    of_first: frozenset[str]
    """those that move values of their first input, or answer with one between them"""
    rules: Mapping[str, str]
    """the rules of those whose answers hang on all inputs"""
    beside_number: Mapping[str, tuple[str, float]]
    """the rules of those of one input and a number"""

    def step(self, name: str, inputs: Callable[[slice], Sequence[Step]], key: Hashable) -> Step:
        """Return the step of an operator; `inputs` gives the steps of some of its inputs."""
        if name in self.limits:
            return Step("within", limits=self.limits[name])
        if name in self.beside_number:
            rule, number = self.beside_number[name]
            return Step(rule, lambda: (*inputs(slice(0, 1)), exactly(number)), key=key)
        if name in self.of_first:
            return Step("same", lambda: inputs(slice(0, 1)), key=key)
        return Step(self.rules.get(name, UNKNOWN.kind), lambda: inputs(slice(None)), key=key)


def cut(source: Callable[[], Sequence[Step]], low: float, high: float, key: Hashable) -> Step:
    """Return the step of a value that is cut at two numbers; an infinite one cuts nothing."""
    raised = Step("maximum", lambda: (*source(), exactly(low)))
    return Step("minimum", lambda: (raised, exactly(high)), key=key)


def answer_range(step: Step) -> Range:
    """Return the least and the highest number that a step can answer with; infinite where nothing tells."""
    return _range(step, 0, {}, _hull)


def refuse_probabilities(step: Step, activation: Activation, name: str) -> None:
    """Return if an answer, of which the description has an activation to make probabilities, can be plain numbers.

    Raises: CheckpointRefused.
    """
    low, high = answer_range(step)
    if _is_probable((low, high)):
        raise CheckpointRefused(
            f"{name}: its answers lie between {low:.3g} and {high:.3g} whatever the image is, so they are "
            'probabilities already; activation = "none" takes them as they are'
        )
    if activation == "sigmoid" and low == -math.inf and high <= 0:
        raise CheckpointRefused(
            f"{name}: its answers are never above {high:.3g} whatever the image is, as logarithms of probabilities "
            'are, and sigmoid makes none of them; activation = "softmax" does of those of a softmax'
        )
    if _is_probable(_range(step, 0, {}, _narrowest)):
        raise CheckpointRefused(
            f"{name}: whether its answers are probabilities already hangs on a branch, a loop or a call at its end, "
            "and nothing tells which way an image takes; export the network without it, or as ONNX"
        )


def _is_probable(bounds: Range) -> bool:
    low, high = bounds
    return low >= -_ROUNDING and high <= 1 + _ROUNDING


def _range(step: Step, depth: int, by_key: dict[Hashable, Range], of_ways: Callable[[Sequence[Range]], Range]) -> Range:
    """Return the range of a step; `of_ways` makes one of the ranges of sources of which one is the answer."""
    if step.kind == "within":
        return step.limits
    rule = of_ways if step.kind == "either" else _RULES.get(step.kind)
    if rule is None or depth > _DEEPEST:
        return ANY
    if step.key is not None and step.key in by_key:
        return by_key[step.key]
    bounds = _by_rule(rule, (_range(source, depth + 1, by_key, of_ways) for source in step.sources()))
    if step.key is not None:
        by_key[step.key] = bounds
    return bounds


def _by_rule(rule: Callable[[Sequence[Range]], Range], ranges: Iterable[Range]) -> Range:
    """Return the range by a rule; of what could be any number at all nothing but a bound tells anything."""
    looked_at: list[Range] = []
    for bounds in ranges:
        looked_at.append(bounds)
        if bounds == ANY and rule not in _BOUNDING:
            return ANY
    low, high = rule(looked_at) if looked_at else ANY
    return ANY if math.isnan(low) or math.isnan(high) else (low, high)


def _hull(ranges: Sequence[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _narrowest(ranges: Sequence[Range]) -> Range:
    return min(ranges, key=lambda bounds: bounds[1] - bounds[0])


def _sum(ranges: Sequence[Range]) -> Range:
    return sum(low for low, _ in ranges), sum(high for _, high in ranges)


def _difference(ranges: Sequence[Range]) -> Range:
    (low, high), (second_low, second_high) = ranges
    return low - second_high, high - second_low


def _product(ranges: Sequence[Range]) -> Range:
    result = ranges[0]
    for other in ranges[1:]:
        corners = [first * second for first in result for second in other]
        result = (min(corners), max(corners)) if not any(map(math.isnan, corners)) else ANY
    return result


def _quotient(ranges: Sequence[Range]) -> Range:
    over, under = ranges
    return _product((over, (1 / under[1], 1 / under[0]))) if under[0] > 0 else ANY


def _power(ranges: Sequence[Range]) -> Range:
    (low, high), (exponent, other) = ranges
    if exponent != other or low < 0 or (exponent < 0 and low == 0):
        return ANY
    ends = (_raised(low, exponent), _raised(high, exponent))
    return min(ends), max(ends)


def _raised(number: float, exponent: float) -> float:
    try:
        return float(number**exponent)
    except OverflowError:
        return math.inf


def _exponential(ranges: Sequence[Range]) -> Range:
    return _exp(ranges[0][0]), _exp(ranges[0][1])


def _exp(number: float) -> float:
    return math.exp(number) if number < 700 else math.inf  # noqa: PLR2004 - beyond it a float has no number


def _product_of_many(ranges: Sequence[Range]) -> Range:
    low, high = ranges[0]
    return UNIT if low >= 0 and high <= 1 else ANY


def _share(ranges: Sequence[Range]) -> Range:
    """Return the range of what is divided by its own sum, as a softmax that was written out is."""
    low, _ = ranges[0]
    return UNIT if low >= 0 else ANY


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
    "share": _share,
    "same": _hull,
}
_BOUNDING: Final = frozenset({_maximum, _minimum, _exponential, _narrowest})
