"""The text of a routes.toml with other values of a few keys of a route: comments, order and spaces stay. Pure."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ainode.node.errors import ConfigError

_HEADER: Final = re.compile(r"^[ \t]*\[", re.MULTILINE)
_ROUTE: Final = re.compile(r"[ \t]*\[\[[ \t]*route[ \t]*\]\]")
_NAME: Final = re.compile(r"^[ \t]*name[ \t]*=.*$", re.MULTILINE)
# A text on one line, or a list without a comment in it.
_VALUE: Final = r"""("[^"\n]*"|'[^'\n]*'|\[[^\]#]*\])"""
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
Value = str | float | Sequence[Any] | Mapping[str, Any]
"""a value of TOML: True and False are numbers here; a table is written on one line"""


def with_keys(text: str, route: str, values: Mapping[str, Value | None]) -> str:
    """Return the text of a routes.toml in which a route has these values; a key with None is removed.

    Raises: ConfigError that says what a person has to write where this text cannot be changed so: nothing else of the
    file would have the same meaning.
    """
    changed = text
    for start, end in reversed(list(_sections(text))):
        if _name_of(text[start:end]) == route:
            changed = text[:start] + _section(text[start:end], values) + text[end:]
            break
    before = tomllib.loads(text)
    is_there = any(item.get("name") == route for item in before.get("route", ()))
    if not is_there or _values(changed) != _expected(before, route, values):
        lines = "; ".join(f"{key} = {literal(value)}" for key, value in values.items() if value is not None)
        removed = "".join(f"; remove {key}" for key, value in values.items() if value is None)
        words = f"is written in a way that only a person changes; write {lines}{removed}"
        raise ConfigError(f"routes.toml: route {route!r} {words}")
    return changed


def _values(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError:
        return {}


def _sections(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the table of each route begins and ends, without the tables below it."""
    starts = [match.start() for match in _HEADER.finditer(text)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=False):
        if _ROUTE.match(text, start):
            yield start, end


def _name_of(section: str) -> str:
    """Return the name of a route, '' where a bracket in its values looked like a header."""
    try:
        return str(tomllib.loads(section)["route"][0].get("name", ""))
    except (ValueError, KeyError, IndexError):
        return ""


def _section(section: str, values: Mapping[str, Value | None]) -> str:
    for key, value in values.items():
        if value is None:
            section = re.sub(rf"^[ \t]*{key}[ \t]*=.*(\n|\Z)", "", section, flags=re.MULTILINE)
            continue
        line = re.compile(rf"^([ \t]*{key}[ \t]*=[ \t]*){_VALUE}", re.MULTILINE)
        match, name = line.search(section), _NAME.search(section)
        if match:
            section = f"{section[: match.start(2)]}{literal(value)}{section[match.end(2) :]}"
        elif name:
            section = f"{section[: name.end()]}\n{key} = {literal(value)}{section[name.end() :]}"
    return section


def literal(value: Value) -> str:
    """Return a value as TOML on one line: a text, a number or a bool of JSON is one of TOML, too."""
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {literal(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(literal, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _expected(values: dict[str, Any], route: str, changes: Mapping[str, Value | None]) -> dict[str, Any]:
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in changes.items()}
    routes = [_changed(item, plain) if item.get("name") == route else item for item in values.get("route", ())]
    return {**values, "route": routes}


def _changed(route: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**route, **changes}.items() if value is not None}
