"""Loads the `Settings` of a node from configuration files and environment; an unknown key is an error.

Order, the later wins: the defaults of `tables.py`, `node.toml`, `AINODE_*` variables (`AINODE_NODE__PORT=11113`).
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from ainode.node.errors import ConfigError
from ainode.node.routes import Route
from ainode.node.settings.contradictions import contradictions
from ainode.node.settings.files import routes_beside, shipped, toml_values
from ainode.node.settings.frozen import Frozen
from ainode.node.settings.peers import Peer
from ainode.node.settings.subscriptions import Subscription
from ainode.node.settings.variables import overridden, unknown, variables
from ainode.node.settings.whole import Settings, Tables
from ainode.node.settings.wording import Sources, refusals


class _NodeFile(Tables):
    """The tables of node.toml."""

    peer: tuple[Peer, ...] = ()
    notification: tuple[Subscription, ...] = ()


class _RoutesFile(Frozen):
    """The tables of routes.toml: each table is a `Route`, validated under this configuration."""

    model_config = ConfigDict(
        allow_inf_nan=False,  # a digest is computed from the numbers
        alias_generator=lambda field: {"source": "from"}.get(field, field),  # `from` is no name in Python
    )

    route: tuple[Route, ...] = ()


def sources(config: Path | None = None) -> Sources:
    """Return the files and variables that a node.toml names, of the shipped node.toml without one.

    The routes are in the routes.toml in the same folder, or, where the folder has none, in the routes.toml that ships.

    Raises: ConfigError if a file in the folder has nearly the name routes.toml, or a variable is no JSON.
    """
    node_path = config or shipped("node.toml")
    entries, problems = variables(os.environ)
    _refuse(problems)
    return Sources(node_path, routes_beside(node_path), tuple(entries))


def load(config: Path | None = None) -> Settings:
    """Return the settings of node.toml, of routes.toml and of the environment.

    Raises: ConfigError with a line for each problem, which names the file or variable, the key and the remedy.
    """
    origin = sources(config)
    node_values = overridden(toml_values(origin.node), origin.variables)
    route_values = toml_values(origin.routes)
    problems = unknown(os.environ, node_values)
    node_file, routes = _NodeFile(), _RoutesFile()
    try:
        node_file = _NodeFile.model_validate(node_values)
    except ValidationError as error:
        problems += refusals(origin, node_values, error, of_routes=False)
    try:
        routes = _RoutesFile.model_validate(route_values)
    except ValidationError as error:
        problems += refusals(origin, route_values, error, of_routes=True)
    _refuse(problems)
    tables: dict[str, Any] = {name: getattr(node_file, name) for name in Tables.model_fields}
    settings = Settings(**tables, peers=node_file.peer, routes=routes.route, subscriptions=node_file.notification)
    _refuse(contradictions(settings, origin))
    return settings


def with_routes(settings: Settings, path: Path) -> Settings:
    """Return the settings with the routes of another routes.toml, such as a changed one that is not in force yet.

    Raises: ConfigError with a line for each problem, which names the file, the key and the remedy.
    """
    origin, values = Sources(path.with_name("node.toml"), path), toml_values(path)
    try:
        routes = _RoutesFile.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(refusals(origin, values, error, of_routes=True))) from None
    changed = settings.model_copy(update={"routes": routes.route})
    _refuse(contradictions(changed, origin))
    return changed


def _refuse(problems: Iterable[str]) -> None:
    """Raise ConfigError with a line for each problem, if there is one."""
    if lines := list(problems):
        raise ConfigError("\n".join(lines))
