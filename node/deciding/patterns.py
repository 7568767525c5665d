"""The pattern language of routes, which config/routes.toml explains: a header's value fits a pattern or does not."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from ainode.node.domain import Value
from ainode.node.errors import ConfigError

Fits: TypeAlias = Callable[[str], bool]

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_COMPARED = re.compile(rf"(>=|<=|>|<)\s*({_NUMBER})")
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")


def texts(value: "Value | None") -> tuple[str, ...]:
    """Return every single value as text, also of the items of sequences; () for an empty value."""
    if isinstance(value, tuple):
        return tuple(text for item in value for text in texts(item))
    if isinstance(value, Mapping):
        return tuple(text for item in value.values() for text in texts(item))
    return tuple(part.strip() for part in str("" if value is None else value).split("\\") if part.strip())


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(_NUMBER, text) else None


def _range(low: float, high: float) -> Fits:
    def fits(text: str) -> bool:
        number = _number(text)
        return number is not None and low <= number <= high

    return fits


def _compared(operator: str, limit: float) -> Fits:
    def fits(text: str) -> bool:
        number = _number(text)
        if number is None:
            return False
        return {">=": number >= limit, "<=": number <= limit, ">": number > limit, "<": number < limit}[operator]

    return fits


def _worded(pattern: str) -> Fits:
    first, *others = map(re.escape, pattern.split("*"))
    # An atomic group gives nothing back: a value of any length costs one walk, however many stars a pattern has.
    expression = re.compile(
        first + "".join(f"(?>.*?{part})" for part in others[:-1]) + "".join(f".*{part}" for part in others[-1:]),
        re.IGNORECASE | re.DOTALL,
    )
    number = _number(pattern)

    def fits(text: str) -> bool:
        return expression.fullmatch(text) is not None or (number is not None and _number(text) == number)

    return fits


def _alternative(pattern: str) -> Fits:
    if match := _COMPARED.fullmatch(pattern):
        return _compared(match[1], float(match[2]))
    if match := _RANGE.fullmatch(pattern):
        if float(match[1]) > float(match[2]):
            raise ConfigError(f"pattern {pattern!r}: the range is empty; write the smaller number first")
        return _range(float(match[1]), float(match[2]))
    if not pattern or pattern[0] in "<>":
        raise ConfigError(f"pattern {pattern!r}: a number must follow < > <= >=, and no alternative may be empty")
    return _worded(pattern)


def _alternatives(pattern: str) -> Iterator[Fits]:
    return (_alternative(part.strip()) for part in pattern.split("|"))


def compiled(pattern: str) -> "Callable[[Value | None], bool]":
    """Return a function that tells whether the value of a header fits the pattern.

    Raises: ConfigError if the text is no pattern.
    """
    negated = pattern.startswith("!")
    alternatives = tuple(_alternatives(pattern.removeprefix("!")))

    def fits(value: "Value | None") -> bool:
        single = texts(value)
        # Of several values one must fit, or all of them written in a row: `ORIGINAL\PRIMARY\*`.
        candidates = (*single, "\\".join(single)) if len(single) > 1 else single
        return any(alternative(text) for text in candidates for alternative in alternatives) != negated

    return fits
