"""A shadow route goes live in the place of another, or goes back: routes.toml with two routes exchanged.

The file that was there stays beside it under a name with the digest of the file that took its place, so that the way
back restores it byte for byte; where somebody changed the file since, the two routes alone go back.
"""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ainode.node.commands.handing_over import carried, uncarried
from ainode.node.disk import write_durably
from ainode.node.errors import ConfigError
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import Settings, with_routes
from ainode.node.settings.route_text import Value, with_keys

_FORMER: Final = ".before-"


@dataclass(frozen=True, slots=True)
class Exchange:
    """Two routes of which one goes live and the other becomes a shadow."""

    to_live: Route
    to_shadow: Route

    @property
    def live(self) -> Route:
        """Return the route that goes live as it will be: its documents go where it says, else where the other's go."""
        destinations = self.to_live.destinations or self.to_shadow.destinations
        return replace(self.to_live, mode=RouteMode.LIVE, destinations=destinations)

    def refuse_unknown(self, intended: Iterable[str]) -> None:
        """Return if each name is a destination of the live route alone.

        Raises: ConfigError.
        """
        alone = [name for name in self.to_shadow.destinations if name not in self.live.destinations]
        if unknown := [name for name in intended if name not in alone]:
            raise ConfigError(
                f"--without {unknown[0]}: destinations of {self.to_shadow.name} that {self.to_live.name} has not are "
                f"{', '.join(alone) or 'none'}"
            )


def exchange(settings: Settings, shadow: str, live: str = "") -> Exchange:
    """Return the exchange of a shadow with a live route; without a name, with the only one that takes the same images.

    Raises: ConfigError if there is no such route, one is not of the mode that it should be, or several fit.
    """
    to_live = _route(settings, shadow)
    if to_live.mode is not RouteMode.SHADOW:
        raise ConfigError(f'route {shadow!r} is live already; a route with mode = "shadow" goes live')
    if live:
        to_shadow = _route(settings, live)
        if to_shadow.mode is not RouteMode.LIVE:
            raise ConfigError(f'route {live!r} is no live route: its mode is "shadow"')
        return Exchange(to_live, to_shadow)
    fitting = [route for route in settings.routes if route.mode is RouteMode.LIVE and route.takes_same_images(to_live)]
    if len(fitting) != 1:
        names = ", ".join(route.name for route in fitting) or "none"
        raise ConfigError(f"live routes that take the same images as {shadow!r}: {names}; give --instead-of NAME")
    return Exchange(to_live, fitting[0])


def _route(settings: Settings, name: str) -> Route:
    for route in settings.routes:
        if route.name == name:
            return route
    raise ConfigError(f"routes.toml has no route {name!r}; it has {', '.join(r.name for r in settings.routes)}")


def go_live(path: Path, change: Exchange, settings: Settings) -> Path:
    """Write the routes.toml in which a shadow is live; return where the former file is kept.

    Raises: ConfigError if the file cannot be changed without a person, would be wrong, or cannot be written.
    """
    text = text_of(path)
    stated = routes_of(text)
    taken_over = carried(stated[change.to_live.name], stated[change.to_shadow.name])
    changed = with_keys(text, change.to_live.name, {"mode": RouteMode.LIVE.value, **taken_over})
    changed = with_keys(changed, change.to_shadow.name, {"mode": RouteMode.SHADOW.value})
    former = path.with_name(f"{path.name}{_FORMER}{_digest(changed)}")
    _refuse_wrong(changed, settings)
    _write(former, text)
    _write(path, changed)
    return former


def go_back(path: Path, name: str, settings: Settings) -> tuple[str, bool]:
    """Write the routes as they were before a route went live.

    Return the name of the route that is live again, '' where it is gone from the file or its mode is as it was, and
    whether the whole file is as it was.

    Raises: ConfigError if no former file is kept in which the route was a shadow; as `go_live`.
    """
    text = text_of(path)
    former = _former(path, name, text)
    former_text = text_of(former)
    is_whole = former.name.endswith(_digest(text))
    was, now = (routes_of(item) for item in (former_text, text))
    other = next(
        (route for route, values in was.items() if route != name and _mode(values) != _mode(now.get(route, values))), ""
    )
    restored = former_text
    if not is_whole:
        restored = text
        for route in filter(None, (name, other)):
            values: dict[str, Value | None] = {"mode": _mode(was[route])}
            if route == name and other:
                values |= uncarried(was[route], was[other], now[route])
            restored = with_keys(restored, route, values)
    _refuse_wrong(restored, settings)
    _write(path, restored)
    former.unlink()
    return other, is_whole


def _former(path: Path, name: str, text: str) -> Path:
    """Return the kept file in which a route, which is live now, was a shadow; the newest of several.

    Raises: ConfigError.
    """
    if _mode(routes_of(text).get(name, {})) != RouteMode.LIVE.value:
        raise ConfigError(f"route {name!r} is not live, so it cannot go back")
    exact = path.with_name(f"{path.name}{_FORMER}{_digest(text)}")
    formers = sorted(
        path.parent.glob(f"{path.name}{_FORMER}*"), key=lambda item: (item == exact, item.stat().st_mtime_ns)
    )
    for item in reversed(formers):
        if _mode(routes_of(text_of(item)).get(name, {})) == RouteMode.SHADOW.value:
            return item
    raise ConfigError(f"no file beside {path} says how it was before {name!r} went live; change the modes by hand")


def routes_of(text: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the keys that a routes.toml states of each route, by name.

    Raises: ConfigError.
    """
    try:
        return {str(route.get("name")): route for route in tomllib.loads(text).get("route", ())}
    except ValueError as error:
        raise ConfigError(f"routes.toml or the file before it is not TOML: {error}") from error


def _mode(values: Mapping[str, Any]) -> str:
    return str(values.get("mode", RouteMode.LIVE.value)) if values else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def text_of(path: Path) -> str:
    """Return the text of a routes.toml.

    Raises: ConfigError.
    """
    try:
        return path.read_bytes().decode()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read") from error


def _write(path: Path, text: str) -> None:
    try:
        write_durably(path, text.encode(), mode=0o666)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _refuse_wrong(text: str, settings: Settings) -> None:
    """Return if a node would start with these routes.

    Raises: ConfigError.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "routes.toml"
        path.write_text(text, encoding="utf-8")
        try:
            with_routes(settings, path)
        except ConfigError as error:
            raise ConfigError(str(error).replace(f"{folder}/", "")) from None
