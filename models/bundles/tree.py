"""A bundle's configuration as a tree: keys by MONAI's paths, its copies (`%key`) made, its references made absolute."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any, Final

from ainode.models.bundles.config_files import joined, shown
from ainode.models.errors import BundleRefused

METADATA_KEY: Final = "_meta_"
_MAX_COPIES: Final = 50
_RELATIVE: Final = re.compile(r"([@%])(#+)")


@dataclass(frozen=True, slots=True)
class Tree:
    """The content of inference.json, with metadata.json below `_meta_`; references are absolute, `#` separates keys."""

    content: dict[str, Any] = field(repr=False)
    file_name: str

    def at(self, path: str) -> Any:  # noqa: ANN401 - whatever stands there
        """Return what stands at a path.

        Raises: LookupError.
        """
        node: Any = self.content
        for key in path.split("#"):
            if isinstance(node, list) and key.isdecimal():
                node = node[int(key)]
            elif isinstance(node, dict):
                node = node[key]
            else:
                raise LookupError(path)
        return node

    def holds(self, path: str) -> bool:
        """Return whether something stands at a path."""
        try:
            self.at(path)
        except LookupError:
            return False
        return True

    def refusal(self, path: str, value: object, reason: str) -> BundleRefused:
        """Return the refusal of a value by its path."""
        return BundleRefused(f"{self.file_name}, {path} = {shown(value)}: {reason}")


def tree(configuration: dict[str, Any], metadata: dict[str, Any], file_name: str) -> Tree:
    """Return the tree of a configuration and its metadata.

    Raises: BundleRefused for a copy out of another file, of what is not there, or of a copy, and for a relative
    reference that leaves the file.
    """
    if METADATA_KEY in configuration:
        raise BundleRefused(f"{file_name}, {METADATA_KEY}: stands for metadata.json; no configuration sets it")
    copies: list[str] = []
    own = _absolute(configuration, "", Tree(configuration, file_name), copies)
    return Tree({**own, METADATA_KEY: metadata}, file_name)


def _absolute(node: Any, path: str, source: Tree, copies: list[str]) -> Any:  # noqa: ANN401 - any part of a file
    """Return a part of a file with its copies made and its references absolute."""
    match node:
        case dict():
            return {key: _absolute(value, joined(path, key), source, copies) for key, value in node.items()}
        case list():
            return [_absolute(value, joined(path, number), source, copies) for number, value in enumerate(node)]
        case str() if node[:1] in {"@", "%", "$"}:
            text = _with_absolute_ids(node.replace("::", "#"), path, source)
            return _copied(text, path, source, copies) if text.startswith("%") else text
        case _:
            return node


def _with_absolute_ids(text: str, path: str, source: Tree) -> str:
    """Return text whose relative ids (`@#key`: of the same table, `@##key`: one above) are absolute."""
    parts = path.split("#")

    def absolute(match: re.Match[str]) -> str:
        sign, levels = match[1], len(match[2])
        if levels > len(parts):
            raise source.refusal(path, text, "a reference to above the file's top")
        above = parts[:-levels]
        return sign + "".join(f"{part}#" for part in above)

    return _RELATIVE.sub(absolute, text)


def _copied(text: str, path: str, source: Tree, copies: list[str]) -> Any:  # noqa: ANN401 - any part of a file
    """Return a copy of what stands at another place of the same file."""
    copies.append(path)
    try:
        content = source.at(text.removeprefix("%"))
    except LookupError:
        reason = "copies another file, or what is not there; write the content in its place"
        raise source.refusal(path, text, reason) from None
    if len(copies) > _MAX_COPIES or _holds_copy(content):
        raise source.refusal(path, text, f"a copy of a copy, or one of more than {_MAX_COPIES}; write the content out")
    return copy.deepcopy(content)


def _holds_copy(node: object) -> bool:
    """Return whether a part of a file has a copy or a relative reference in it."""
    match node:
        case dict():
            return any(_holds_copy(value) for value in node.values())
        case list():
            return any(_holds_copy(value) for value in node)
        case str():
            return node.startswith("%") or (node[:1] in {"@", "$"} and bool(_RELATIVE.search(node)))
        case _:
            return False
