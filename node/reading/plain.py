"""Answers of handlers, held against the types of the domain: what a handler made becomes plain nouns of the node.

A subclass that a handler's module defines, or a number of NumPy, would bring that module along into the node's process.
"""

import dataclasses
import math
import types
from collections.abc import Mapping
from enum import Enum
from functools import cache
from numbers import Integral, Real
from typing import Final, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from ainode.node.errors import HandlerError

HANDLER_IS_WRONG: Final = "; the handler is wrong, not the study: see handlers/README.md"
"""how the words of an error end of an answer that is no noun of the node"""

_Noun = TypeVar("_Noun")
_OtherNoun = TypeVar("_OtherNoun")


@overload
def plain(value: object, kinds: tuple[type[_Noun]], place: str) -> _Noun: ...
@overload
def plain(value: object, kinds: tuple[type[_Noun], type[_OtherNoun]], place: str) -> _Noun | _OtherNoun: ...
def plain(value: object, kinds: tuple[type, ...], place: str) -> object:
    """Return a value as one of these nouns, with plain texts, finite numbers, tuples and mappings in it.

    Raises: HandlerError that names the place, below `place`, where the value is of another type.
    """
    return _of_any(value, kinds, place)


def _plain(value: object, hint: object, place: str) -> object:
    hint = getattr(hint, "__supertype__", hint)  # the type behind a NewType
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return _of_any(value, get_args(hint), place)
    if origin is tuple:
        return _items(value, get_args(hint), place)
    if origin is Mapping:
        return _mapping(value, get_args(hint), place)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _noun(value, hint, place)
    return _scalar(value, hint, place)


def _refusal(value: object, wish: str, place: str) -> HandlerError:
    return _fault(f"{place} is {_name(value)}, not {wish}")


def _fault(words: str) -> HandlerError:
    return HandlerError(f"{words}{HANDLER_IS_WRONG}")


def _name(value: object) -> str:
    return "None" if value is None else f"of the type {type(value).__name__}"


def _of_any(value: object, hints: tuple[object, ...], place: str) -> object:
    """Return a value by the first of several types that has the value as an instance."""
    for hint in hints:
        if isinstance(hint, type) and isinstance(value, hint):
            return value if value is None else _plain(value, hint, place)
    wish = " or ".join(getattr(hint, "__name__", str(hint)) for hint in hints)
    raise _refusal(value, wish, place)


def _items(value: object, hints: tuple[object, ...], place: str) -> tuple[object, ...]:
    if not isinstance(value, tuple | list):
        raise _refusal(value, "a tuple", place)
    item_hints = hints[:1] * len(value) if hints[-1] is ... else hints
    if len(value) != len(item_hints):
        raise _fault(f"{place} has {len(value)} items, not {len(item_hints)}")
    return tuple(
        _plain(item, hint, f"{place}[{number}]")
        for number, (item, hint) in enumerate(zip(value, item_hints, strict=True))
    )


def _mapping(value: object, hints: tuple[object, ...], place: str) -> dict[object, object]:
    if not isinstance(value, Mapping):
        raise _refusal(value, "a mapping", place)
    key_hint, item_hint = hints
    return {
        _plain(key, key_hint, f"a key of {place}"): _plain(item, item_hint, f"{place}[{key!r}]")
        for key, item in value.items()
    }


@cache
def _hints(kind: type) -> dict[str, object]:
    return get_type_hints(kind)


def _noun(value: object, kind: type, place: str) -> object:
    if not isinstance(value, kind):
        raise _refusal(value, kind.__name__, place)
    fields = {}
    for name, hint in _hints(kind).items():
        if not hasattr(value, name):
            raise _fault(f"{place} has no {name}")
        fields[name] = _plain(getattr(value, name), hint, f"{place}.{name}")
    return kind(**fields)


def _scalar(value: object, hint: object, place: str) -> object:
    if isinstance(hint, type) and isinstance(value, hint) and issubclass(hint, Enum):
        return value
    if hint is float and isinstance(value, Real):
        if not math.isfinite(value):
            raise _fault(f"{place} is {float(value)}, and not finite")
        return float(value)
    if hint is int and isinstance(value, Integral):
        return int(value)
    if hint is str and isinstance(value, str):
        return str.__str__(value)
    if isinstance(hint, type) and isinstance(value, hint):
        return value
    raise _refusal(value, getattr(hint, "__name__", str(hint)), place)
