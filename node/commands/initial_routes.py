"""The routes.toml of a new node: the routes that ship, of all models or of those that a person names."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ainode.node.errors import ConfigError
from ainode.node.reading import registry
from ainode.node.reading.boundary import installation_of
from ainode.node.settings.files import shipped
from ainode.node.settings.route_text import with_keys

NONE: Final = "none"
# An empty line, then the comment of a route, if it has one, and its header.
_BEFORE_ROUTE: Final = re.compile(r"\n\n(?=(?:#[^\n]*\n)*\[\[route\]\]\n)")
_VALUE_LINE: Final = re.compile(r"^(?=[^#\s])", re.MULTILINE)
_EXAMPLE: Final = "# An example, and no route of this node: every key of a route, with a comment.\n"


@dataclass(frozen=True, slots=True)
class _ShippedRoute:
    name: str
    handler: str
    text: str
    """with its comments, without an empty line at its end"""


def models_of(text: str) -> tuple[str, ...] | None:
    """Return the names of models that a text such as `lung_nodule,ct_tumor` lists; none for `none`, None for ''.

    Raises: ConfigError if no shipped route has a model of that name.
    """
    if not text.strip():
        return None
    if text.strip() == NONE:
        return ()
    models = tuple(name.strip() for name in text.split(",") if name.strip())
    known = tuple(dict.fromkeys(route.handler for route in _shipped_routes(_parts()[1:])))
    if unknown := [name for name in models if name not in known]:
        raise ConfigError(
            f"--models: no model that ships is named {', '.join(map(repr, unknown))}; give some of "
            f"{', '.join(known)}, with commas between, or {NONE}"
        )
    if not models:
        raise ConfigError(f"--models: {text!r} names no model; give some of {', '.join(known)}, or {NONE}")
    return models


def unready_lines(models: Sequence[str] | None) -> Iterator[str]:
    """Yield a sentence for each set of packages that shipped models lack, and the command that installs them."""
    shipped_models = dict.fromkeys(route.handler for route in _shipped_routes(_parts()[1:]))
    absent: dict[tuple[str, ...], list[str]] = {}
    for model in shipped_models if models is None else models:
        absent.setdefault(registry.lacking(model), []).append(model)
    for packages, names in absent.items():
        if packages:
            yield f"Not ready yet: {', '.join(names)}; missing: {', '.join(packages)}; {installation_of(packages)}"


def routes_text(models: Sequence[str] | None, destination: str = "") -> str:
    """Return a routes.toml with the shipped routes of some models, or of all where `models` is None.

    Its first route explains every key; where that one is left out, it stays as a comment. `destination` is the name of
    a [[peer]], '' for none.
    """
    head, *parts = _parts()
    written, names = [head], []
    for number, route in enumerate(_shipped_routes(parts)):
        if models is None or route.handler in models:
            written.append(route.text)
            names.append(route.name)
        elif number == 0:
            written.append(_EXAMPLE + _VALUE_LINE.sub("# ", route.text))
    text = "\n\n".join(written) + "\n"
    return _with_destination(text, names, destination) if destination else text


def _with_destination(text: str, names: Iterable[str], destination: str) -> str:
    for name in names:
        text = with_keys(text, name, {"destinations": (destination,)})
    return text


def _parts() -> list[str]:
    """Return what stands above the shipped routes, then the text of each route."""
    return _BEFORE_ROUTE.split(shipped("routes.toml").read_text(encoding="utf-8").rstrip("\n"))


def _shipped_routes(parts: Iterable[str]) -> Iterator[_ShippedRoute]:
    for text in parts:
        (values,) = tomllib.loads(text)["route"]
        yield _ShippedRoute(str(values["name"]), str(values["handler"]), text)
