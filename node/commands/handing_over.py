"""What a route that goes live takes over from the route before it, and what still names the former route alone. Pure.

A key that the new route does not state has the value of the former route; a key that it states is a person's choice.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any, Final

from ainode.node.domain import Occasion
from ainode.node.routes import CONDITIONS, Route
from ainode.node.settings import Settings
from ainode.node.settings.route_text import Value, literal

CARRIED: Final = ("destinations", "report_out_of_scope", "priority", "urgent_tags", "urgent")
"""keys about who gets an answer, and the work on it, which are the same for every model"""
# The conditions on images are compared by themselves, and the others say which route it is.
_APART: Final = frozenset({*CONDITIONS, "name", "handler", "mode"})
_DEFAULTS: Final[Mapping[str, Any]] = {
    field.name: field.default_factory() if field.default_factory is not MISSING else field.default
    for field in fields(Route)
    if field.name not in _APART
} | {"destinations": []}

Keys = Mapping[str, Any]
"""the keys of a route as routes.toml states them"""


def carried(new: Keys, former: Keys) -> dict[str, Value]:
    """Return the keys that a route takes over from the former one, because it does not state them.

    A route whose `destinations` are empty states none: a live one without a destination answers nobody.
    """
    open_keys = [key for key in CARRIED if key not in new or (key == "destinations" and not new[key])]
    return {key: former[key] for key in open_keys if former.get(key, _DEFAULTS[key]) != _DEFAULTS[key]}


def uncarried(back: Keys, former: Keys, now: Keys) -> dict[str, Value | None]:
    """Return the keys to remove where a route goes back that had taken them over, and that nobody changed since."""
    return {key: None for key in carried(back, former) if now.get(key) == former[key]}


def differences(new: Keys, former: Keys) -> Iterator[str]:
    """Yield what the new route does otherwise than the former one, conditions on images apart."""
    values = {**new, **carried(new, former)}
    for key, default in _DEFAULTS.items():
        mine, others = values.get(key, default), former.get(key, default)
        if mine != others:
            yield f"{key}: {new['name']} {_words(mine)}, {former['name']} {_words(others)}"


def _words(value: Value | None) -> str:
    return "none" if value is None or value in ({}, []) else literal(value)


def unsent(new: Route, former: Route, intended: Iterable[str] = ()) -> str:
    """Return the line to write so that all who had the answers of the former route go on getting answers.

    '' where they do, but for those that a person intends to leave out.
    """
    names = [name for name in former.destinations if name not in {*new.destinations, *intended}]
    if not names:
        return ""
    return (
        f"destination {', '.join(names)} of {former.name} is none of {new.name}, so no answer of {new.name} would go "
        f"there; write destinations = {literal((*new.destinations, *names))} in its [[route]], which is right after "
        "the way back, too"
    )


def unnamed(settings: Settings, new: str, former: str) -> Iterator[str]:
    """Yield each notification and worklist that names the former route and not the new one, and the line to write.

    With both names the line stays right after the way back: nothing of a shadow is told or delivered.
    """
    for subscription in settings.subscriptions:
        is_of_routes = subscription.tells_of_live_routes or Occasion.FAILURE in subscription.on
        if is_of_routes and (line := _line(subscription.routes, new, former)):
            yield (
                f"notification {subscription.name} names {former} and not {new}, so nobody would be told by it what "
                f"{new} answers; write {line} in its [[notification]] of node.toml, which is right after the way back, "
                "too"
            )
    for peer in settings.peers:
        if peer.worklist and (line := _line(peer.worklist.routes, new, former)):
            yield (
                f"the worklist of {peer.name} names {former} and not {new}, so no answer of {new} would end an item; "
                f"write {line} in its [peer.worklist] of node.toml, which is right after the way back, too"
            )


def untested(settings: Settings, new: str, former: str) -> str:
    """Return what to write for nightly self-tests of the new route; '' where it is tested, or the former is not."""
    line = _line(settings.self_test.routes, new, former)
    return line and f"[self_test] tests {former} and not {new}; write {line} there in node.toml to test both"


def _line(routes: tuple[str, ...], new: str, former: str) -> str:
    return f"routes = {literal((*routes, new))}" if former in routes and new not in routes else ""
