"""A bundle's JSON and YAML files, read as plain data within bounds."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from ainode.models.errors import BundleRefused

Plain = dict[str, Any] | list[Any] | str | int | float | bool | None
"""what a file of configuration may hold"""

# The largest public configurations have 40 KB: those of whole bodies, with a name for each of 100 channels.
_MAX_BYTES: Final = 512 * 1024
_MAX_DEPTH: Final = 32
_MAX_NODES: Final = 20_000
_SEPARATOR: Final = "#"
_MAX_SHOWN: Final = 120


def read(path: Path, *, strict_text: bool) -> dict[str, Any]:
    """Return the table in a file; with `strict_text` no look-alike of `$`, `@`, `%` or of a key passes.

    Raises: BundleRefused, naming file and key, if the file is too large or too deep, has a key twice, or holds
    anything but text, finite numbers, lists and tables.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise BundleRefused(f"{path.name}: {path.stat().st_size} bytes; {_MAX_BYTES} are read")
    try:
        content = _parsed(path)
    except RecursionError:
        raise BundleRefused(f"{path.name}: lists and tables in each other too deeply; {_MAX_DEPTH} are read") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise BundleRefused(f"{path.name}: not read as data: {error}") from error
    if not isinstance(content, dict):
        raise BundleRefused(f"{path.name}: holds no table of keys")
    try:
        nodes = sum(1 for _ in _checked(content, "", 0, strict_text=strict_text))
    except ValueError as error:
        raise BundleRefused(f"{path.name}, {error}") from error
    if nodes > _MAX_NODES:
        raise BundleRefused(f"{path.name}: {nodes} entries; {_MAX_NODES} are read")
    return content


def joined(parent: str, key: object) -> str:
    """Return the path of a key below another, as MONAI writes it: `preprocessing#transforms#2`."""
    return f"{parent}{_SEPARATOR}{key}" if parent else str(key)


def shown(value: object) -> str:
    """Return a value as a message may show it."""
    text = ascii(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _parsed(path: Path) -> object:
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        return json.loads(text, object_pairs_hook=_table, parse_constant=_no_number)
    return _yaml(text)


def _table(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the pairs of a JSON object; two of one key are refused, for people read the first, programs the last."""
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} stands twice in a table")
    return table


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no finite number")


def _yaml(text: str) -> object:
    """Return the data of a YAML file; tags that make objects, aliases and keys that stand twice are refused."""
    import yaml  # noqa: PLC0415 - most bundles are JSON

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - yaml's own
            if self.check_event(yaml.AliasEvent):
                raise ValueError("an alias (*name); write the value out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - yaml's own
            keys = [key.value for key, _ in node.value]
            if len(set(map(str, keys))) != len(keys):
                raise ValueError(f"a key stands twice in the table of {shown(keys[:5])}")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader that refuses more
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _checked(node: object, path: str, depth: int, *, strict_text: bool) -> Iterator[str]:
    """Yield the path of every node.

    Raises: ValueError, naming the path, if a node is no plain data, too deep, or text that looks like other text.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"{path}: more than {_MAX_DEPTH} lists and tables in each other")
    yield path
    match node:
        case dict() | list():
            for key, value in node.items() if isinstance(node, dict) else enumerate(node):
                if isinstance(node, dict) and (not isinstance(key, str) or (strict_text and not _is_plain_key(key))):
                    raise ValueError(f"{path}: the key {shown(key)} is no plain text")
                yield from _checked(value, joined(path, key), depth + 1, strict_text=strict_text)
        case float() if not math.isfinite(node):
            raise ValueError(f"{path} = {shown(node)}: no finite number")
        case str() if strict_text and _is_look_alike(node):
            raise ValueError(f"{path} = {shown(node)}: looks like an expression or a reference, and is none")
        case str() | int() | float() | None:
            pass
        case _:
            raise ValueError(
                f"{path} = {shown(node)}: a {type(node).__name__}; text, numbers, lists and tables are read"
            )


def _is_plain_key(key: str) -> bool:
    return key.isascii() and key.isprintable() and _SEPARATOR not in key and "::" not in key


def _is_look_alike(text: str) -> bool:
    """Return whether text begins with a sign of MONAI in normal form alone, or after spaces."""
    folded = unicodedata.normalize("NFKC", text).lstrip()
    folded = folded.lstrip("\u200b\u200c\u200d\u2060\ufeff")
    return folded[:1] in {"$", "@", "%"} and text[:1] != folded[:1]
