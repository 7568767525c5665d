"""Reads node.toml and routes.toml as values; a file that cannot be read says in words what is wrong with it."""

import difflib
import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Final

from ainode.node.errors import ConfigError

_BYTE_ORDER_MARKS: Final = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_ROUTES: Final = "routes.toml"
# `route.toml`, `routes.tml` and `routes.toml.txt` resemble routes.toml as much; node.toml does not.
_RESEMBLANCE: Final = 0.8


def shipped(name: str) -> Path:
    """Return the path of a configuration file that ships with the node."""
    return Path(str(resources.files("ainode.config").joinpath(name)))


def routes_beside(node_path: Path) -> Path:
    """Return the routes.toml in the folder of a node.toml; the routes.toml that ships if the folder has none.

    Raises: ConfigError if the folder has a file instead whose name resembles routes.toml.
    """
    path = node_path.with_name(_ROUTES)
    if os.path.exists(path):
        return path
    if os.path.lexists(path):
        raise ConfigError(f"{path}: is a link to a file that cannot be reached; correct the link, or remove it")
    for name in _names(path.parent):
        if difflib.SequenceMatcher(a=name.lower(), b=_ROUTES).ratio() >= _RESEMBLANCE:
            raise ConfigError(
                f"{path.with_name(name)}: is not read, and the folder has no {_ROUTES}, so that the routes that ship "
                f"would run; rename it to {_ROUTES}, or move it away"
            )
    return shipped(_ROUTES)


def _names(folder: Path) -> list[str]:
    """Return the names in a folder, none where it cannot be read: then node.toml cannot be read either."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def toml_values(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file.

    Raises: ConfigError if the file cannot be read, or is not TOML in UTF-8.
    """
    content = _content(path)
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            raise ConfigError(
                f"{path}: begins with a byte order mark (BOM) of {encoding}; save it as UTF-8 without a BOM"
            )
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        message = f"{path}: is not UTF-8: {error.reason} at byte {error.start}; save it as UTF-8"
        raise ConfigError(message) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is not TOML: its brackets are nested too deeply; correct them") from error
    except ValueError as error:  # TOMLDecodeError, and a number of more digits than Python reads
        raise ConfigError(f"{path}: is not TOML: {error}; correct the line") from error


def _content(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises: ConfigError if the file cannot be read.
    """
    if os.path.isdir(path):
        raise ConfigError(f"{path}: is a folder; give the path of the file in it, such as {path / 'node.toml'}")
    if os.path.exists(path) and not path.is_file():
        raise ConfigError(f"{path}: is a device or a pipe, which may never end; give the path of a file")
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = "give --config FILE, or leave it out for the defaults"
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
