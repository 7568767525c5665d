"""Loads the `Settings` of a node from configuration files and environment; an unknown key is an error.

Order, the later wins: the defaults of `tables.py`, `node.toml`, `AINODE_*` variables (`AINODE_NODE__PORT=11113`).
"""

import difflib
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ainode.node.errors import ConfigError
from ainode.node.routes import Route
from ainode.node.settings.tables import Frozen, Peer, Settings, Tables

# pydantic has one message for an unknown key of a table, and another message for an unknown key of a dataclass.
_PLAIN_MESSAGES = {"extra_forbidden": "unknown key", "unexpected_keyword_argument": "unknown key"}


class _NodeFile(Tables, BaseSettings):
    """The tables of node.toml, overridden by the environment."""

    model_config = SettingsConfigDict(env_prefix="AINODE_", env_nested_delimiter="__", extra="forbid", frozen=True)

    peer: tuple[Peer, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, which comes in as arguments."""
        return env_settings, init_settings


class _RoutesFile(Frozen):
    """The tables of routes.toml: each table is a `Route`, validated under this configuration."""

    model_config = ConfigDict(
        allow_inf_nan=False,  # a digest is computed from the numbers
        alias_generator=lambda field: {"source": "from"}.get(field, field),  # `from` is no name in Python
    )

    route: tuple[Route, ...] = ()


def _toml_values(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file.

    Raises: ConfigError if the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); give --config FILE, or leave it out for the defaults"
        raise ConfigError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path}: is not TOML: {error}"
        raise ConfigError(message) from error


def _refusal(source: object, values: Mapping[str, Any], error: ValidationError) -> ConfigError:
    problems = []
    for problem in error.errors():
        location = problem["loc"]
        message = problem["msg"].removeprefix("Value error, ")
        if plain_message := _PLAIN_MESSAGES.get(problem["type"]):
            message = f"{plain_message}{_resembling_key(str(location[-1]))}"
        problems.append(f"{'.'.join(map(str, location))}: {message}{_entry_name(location, values)}")
    return ConfigError(f"{source}: {'; '.join(problems)}")


def _resembling_key(key: str) -> str:
    """Return a question that names the key which an unknown key resembles, '' if the key resembles none."""
    tables: tuple[type[Frozen], ...] = (
        Tables,
        Peer,
        *(type(field.default) for field in Tables.model_fields.values()),
    )
    keys = {name for table in tables for name in table.model_fields} | {field.name for field in fields(Route)}
    resembling_keys = difflib.get_close_matches(key, sorted(keys), n=1, cutoff=0.7)
    return f", did you mean {resembling_keys[0]}?" if resembling_keys else ""


def _entry_name(location: Sequence[str | int], values: Mapping[str, Any]) -> str:
    """Return the name of the [[peer]] or [[route]] that a location counts from 0, '' if the location is in no entry."""
    match location:
        case (str(table), int(number), *_) if number < len(values.get(table, ())):
            entry = values[table][number]
            return f" (in {entry['name']!r})" if isinstance(entry, dict) and "name" in entry else ""
    return ""


def _refuse_contradictions(settings: Settings, node_path: Path, routes_path: Path) -> None:
    """Refuse routes that do not fit the peers, repeated names and reserved names.

    Raises: ConfigError.
    """
    names = {peer.name for peer in settings.peers}
    for route in settings.routes:
        _refuse_unfit_route(settings, route, f"{routes_path}: route {route.name!r}")
    for path, table, entries in ((node_path, "[[peer]]", settings.peers), (routes_path, "[[route]]", settings.routes)):
        repeated = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
        if repeated:
            raise ConfigError(f"{path}: two {table} are named {repeated[0]!r}; rename one")
    # A delivery's workflow is named by job and destination; these two names belong to other workflows of a job.
    if reserved := names & {"read", "priors"}:
        raise ConfigError(f"{node_path}: no [[peer]] can be named {reserved.pop()!r}; rename it")


def _refuse_unfit_route(settings: Settings, route: Route, subject: str) -> None:
    """Raise ConfigError if a peer of the route is unknown or has no address; `subject` names the file and the route."""
    names = {peer.name for peer in settings.peers}
    for name in sorted(set(route.destinations)):
        if name not in names:
            raise ConfigError(f"{subject} sends to {name!r}, which no [[peer]] of node.toml is named")
        if settings.peer(name).only_calls:
            raise ConfigError(f"{subject} sends to {name!r}: give its host and port in node.toml")
    if route.priors:
        _refuse_unfetchable_priors(settings, subject, settings.peer(route.priors.source))


def _refuse_unfetchable_priors(settings: Settings, subject: str, peer: Peer) -> None:
    """Raise ConfigError if the node cannot fetch priors from the peer."""
    if peer.retrieve != "dicomweb" and not peer.speaks_dimse:
        raise ConfigError(
            f"{subject} fetches priors from {peer.name!r} by DIMSE: give its ae_title, host and port in "
            'node.toml, or retrieve = "dicomweb"'
        )
    if peer.retrieve == "move" and not settings.priors.move_port:
        raise ConfigError(
            f"{subject} fetches priors from {peer.name!r} by C-MOVE: give [priors] move_port in node.toml, and "
            f"make {settings.priors.move_ae_title} with that port known to {peer.name!r}; or set its retrieve"
        )


def shipped(name: str) -> Path:
    """Return the path of a configuration file that ships with the node."""
    return Path(str(resources.files("ainode.config").joinpath(name)))


def load(config: Path | None = None) -> Settings:
    """Return the settings of node.toml, of routes.toml and of the environment.

    `config` is a node.toml; without `config`, the node.toml that ships. The routes are in the routes.toml in the same
    folder, or, where the folder has none, in the routes.toml that ships.

    Raises: ConfigError naming the file, the key and the error.
    """
    node_path = config or shipped("node.toml")
    routes_path = node_path.with_name("routes.toml")
    if not routes_path.exists():
        routes_path = shipped("routes.toml")
    node_values, route_values = _toml_values(node_path), _toml_values(routes_path)
    try:
        node_file = _NodeFile(**node_values)
    except ValidationError as error:
        raise _refusal(f"{node_path} or AINODE_* in the environment", node_values, error) from error
    try:
        routes = _RoutesFile.model_validate(route_values)
    except ValidationError as error:
        raise _refusal(routes_path, route_values, error) from error
    tables = {name: getattr(node_file, name) for name in Tables.model_fields}
    settings = Settings(**tables, peers=node_file.peer, routes=routes.route)
    _refuse_contradictions(settings, node_path, routes_path)
    return settings
