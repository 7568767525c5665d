"""The configuration in force as a person may read it: every key with a value, and no secret."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import urlsplit

from ainode.node.routes import Route
from ainode.node.settings.whole import Settings

# Up to the last @: SQLAlchemy takes a password with a slash in it.
_SECRET: Final = re.compile(r"(?<=://)\S+(?=@)|(?<=password=)[^&\s]+")
_HIDDEN: Final = "***"


def tables(settings: Settings) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the name of each table, and its keys and values; an address loses user and password."""
    for name, values in settings.model_dump(mode="json", exclude={"routes", "peers", "subscriptions"}).items():
        yield f"[{name}]", dict(_rows("", values))
    for peer in settings.peers:
        yield f"[[peer]] {peer.name}", dict(_rows("", peer.model_dump(mode="json")))
    for subscription in settings.subscriptions:
        values = subscription.model_dump(mode="json")
        address = _without_path(values["address"])
        yield f"[[notification]] {subscription.name}", dict(_rows("", values | {"address": address}))
    for route in settings.routes:
        yield f"[[route]] {route.name}", dict(_rows("", asdict(route)))


def configuration(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield each key with the name of its table, and its value."""
    for table, values in tables(settings):
        yield from ((f"{table} {key}", value) for key, value in values.items())


def changes(before: Settings, after: Settings) -> Iterator[str]:
    """Yield in words what differs between two configurations."""
    old, new = dict(tables(before)), dict(tables(after))
    yield from (f"{name}: new" for name in new if name not in old)
    yield from (f"{name}: gone" for name in old if name not in new)
    common = [name for name in new if name in old]
    lines = [line for name in common for line in _changed_keys(name, old[name], new[name])]
    yield from lines
    yield from _lost_destinations(before.routes, after.routes)
    is_sorted_anew = [name for name in old if name in new] != common
    if is_sorted_anew:
        yield "the order of the tables"
    elif not lines and old.keys() == new.keys() and before != after:
        yield "a value that is not shown, such as a password in an address"


def _changed_keys(table: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key):
            yield f"{table} {key}: {old.get(key, 'nothing')} before, {new.get(key, 'nothing')} now"


def _lost_destinations(before: Iterable[Route], after: Sequence[Route]) -> Iterator[str]:
    """Yield the destinations that got the answers of a route and get none about such images any more.

    A changed mode says nothing of them, and a route that went live in the place of another may have others.
    """
    for route in before:
        heirs = [other for other in after if other.name == route.name or other.takes_same_images(route)]
        destinations = {name for heir in heirs for name in heir.live_destinations}
        if lost := [name for name in route.live_destinations if name not in destinations]:
            yield (
                f"[[route]] {route.name}: {', '.join(lost)} got its answers before, and now gets no answer about the "
                "images that it takes"
            )


def _without_path(address: str) -> str:
    """Return the address of a webhook without what follows its host: with many services, the path is the password."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}/{_HIDDEN}" if parts.path.strip("/") else address


def _rows(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _rows(f"{prefix}{key} ", value)
        elif value not in ("", None, (), []):
            yield f"{prefix}{key}", _SECRET.sub(_HIDDEN, _text(value))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
