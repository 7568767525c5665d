"""What no single table can tell: routes that do not fit the peers, indistinct peers, shared ports."""

import importlib.util
import re
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from itertools import combinations
from urllib.parse import urlsplit

from ainode.node.domain import SELF_TEST_PEER
from ainode.node.errors import installation
from ainode.node.settings.peers import Peer
from ainode.node.settings.values import PATTERN_WORDS, ROUTE_NAME
from ainode.node.settings.whole import Settings
from ainode.node.settings.wording import Sources

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
# A delivery's workflow is named by job and destination; two names belong to other workflows of a job,
# and one to the destination of self-tests.
_RESERVED = frozenset({"read", "priors", SELF_TEST_PEER})


def contradictions(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a sentence for each contradiction between tables: "FILE: key: what is wrong; what to do"."""
    yield from _unfit_names(settings, sources)
    yield from _indistinct_peers(settings, sources)
    yield from _peers_that_are_the_node(settings, sources)
    yield from _shared_ports(settings, sources)
    if not (settings.node.allow or settings.web.enabled or any(peer.worklist for peer in settings.peers)):
        yield f'{sources.key("node", "allow")}: nobody may call; give entries such as "*@127.0.0.0/8"'
    if settings.web.open_upload and not _is_loopback(settings.web.bind):
        yield (
            f"{sources.key('web', 'open_upload')}: anybody in the network could upload; give bind an address of this "
            'machine such as "127.0.0.1", or set open_upload = false'
        )
    for route in settings.routes:
        yield from _unfit_destinations(settings, route.destinations, f"{sources.routes}: route {route.name!r}")
        if route.priors:
            yield from _unfit_source(settings, route.priors.source, f"{sources.routes}: route {route.name!r}", sources)
    yield from _unfit_subscriptions(settings, sources)
    yield from _unread_handlers(settings, sources)
    for peer in settings.peers:
        yield from _unfit_worklist(settings, peer, sources)
    if settings.database.url.startswith("postgresql") and importlib.util.find_spec("psycopg") is None:
        yield (
            f"{sources.key('database', 'url')}: the package psycopg is missing; {installation('postgresql')}, or "
            'give "" for SQLite'
        )


def _unfit_subscriptions(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a sentence for each route that somebody waits to be told of, and that does not exist."""
    names = {route.name for route in settings.routes}
    yield from _untestable_routes(settings, sources)
    for subscription in settings.subscriptions:
        for name in sorted(set(subscription.routes) - names):
            yield (
                f"{sources.key('notification')}.routes: {subscription.name!r} waits for route {name!r}, which "
                f"{sources.routes} does not have; correct it (known: {', '.join(sorted(names)) or 'none'})"
            )


def _unread_handlers(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a sentence for each handler that is left to workers, where there can be none or no route has it."""
    key, known = sources.key("workers", "handlers"), ", ".join(settings.handlers) or "none"
    for handler in settings.workers.handlers:
        if handler not in settings.handlers:
            yield f"{key}: {sources.routes} has no route with handler {handler!r}; correct it (known: {known})"
    if settings.workers.handlers and not settings.database_url.startswith("postgresql"):
        yield f"{key}: on SQLite there are no workers, so nobody would read; give [database] url a PostgreSQL, or []"


def _untestable_routes(settings: Settings, sources: Sources) -> Iterator[str]:
    names = [route.name for route in settings.routes]
    for name in settings.self_test.routes:
        if name not in names:
            yield (
                f"{sources.key('self_test', 'routes')}: {sources.routes} has no route {name!r}; correct it "
                f"(known: {', '.join(sorted(names)) or 'none'})"
            )


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if value and count > 1]


def _unfit_names(settings: Settings, sources: Sources) -> Iterator[str]:
    for subject, table, names in (
        (sources.key("peer"), "[[peer]]", [peer.name for peer in settings.peers]),
        (f"{sources.routes}: route", "[[route]]", [route.name for route in settings.routes]),
        (sources.key("notification"), "[[notification]]", [entry.name for entry in settings.subscriptions]),
    ):
        for name in _repeated(names):
            yield f"{subject}.name: two {table} are named {name!r}; rename one"
    for name in (route.name for route in settings.routes):
        if not re.fullmatch(ROUTE_NAME, name):
            yield f"{sources.routes}: route.name: {name!r} {PATTERN_WORDS[ROUTE_NAME]}"
    for name in sorted(_RESERVED & {peer.name for peer in settings.peers}):
        yield f"{sources.key('peer')}.name: no [[peer]] can be named {name!r}; rename it"


def _indistinct_peers(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a sentence for each AE title of two peers: a caller, and the peer of a report, are known by it alone."""
    for ae_title in _repeated(peer.ae_title for peer in settings.peers):
        names = " and ".join(peer.name for peer in settings.peers if peer.ae_title == ae_title)
        yield (
            f"{sources.key('peer')}.ae_title: {names} have the AE title {ae_title!r}, by which alone the node tells "
            "callers apart; give each its own, or make them one [[peer]]"
        )


def _peers_that_are_the_node(settings: Settings, sources: Sources) -> Iterator[str]:
    node, web, subject = settings.node, settings.web, sources.key("peer")
    if settings.priors.move_ae_title == node.ae_title:
        yield f"{sources.key('priors', 'move_ae_title')}: is the ae_title of [node]; give another AE title"
    for peer in settings.peers:
        name = f"(in {peer.name!r})"
        if peer.ae_title in {node.ae_title, settings.priors.move_ae_title}:
            yield (
                f"{subject}.ae_title: {peer.ae_title!r} is an AE title of this node; give that of the peer, or this "
                f"node another in [node] ae_title {name}"
            )
        elif peer.port == node.port and _is_here(peer.host, node.bind):
            yield f"{subject}.port: host and port are those of this node; give those of the peer {name}"
        for key, url in (("dicomweb", peer.dicomweb), ("orthanc", peer.orthanc)):
            address = urlsplit(url)
            if web.enabled and address.port == web.port and _is_here(address.hostname or "", web.bind):
                yield f"{subject}.{key}: is the address of this node's [web]; give that of the peer {name}"


def _is_here(host: str, bind: str) -> bool:
    """Return whether a host is the address where the node listens, as far as the words tell."""
    name, own = host.lower().rstrip("."), _address(bind)
    address, is_everywhere = _address(name), bind in _EVERY_ADDRESS
    if address is None:
        return name == bind.lower() or (is_everywhere and name == socket.gethostname().lower())
    if address.is_unspecified or address.is_loopback:
        # A call to 0.0.0.0 goes to this machine.
        is_usual = address.is_unspecified or str(address) in _LOOPBACK
        return is_everywhere or address == own or (is_usual and str(own) in _LOOPBACK)
    return address == own


def _is_loopback(bind: str) -> bool:
    address = _address(bind)
    return address is not None and address.is_loopback


def _address(name: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a name is, as C libraries read it (127.1, 0x7f000001); None if the name is none."""
    if name.lower() in _LOCAL_NAMES:
        return IPv4Address("127.0.0.1")
    with suppress(OSError):
        return IPv4Address(socket.inet_aton(name))
    with suppress(ValueError):
        address = IPv6Address(name)
        return address.ipv4_mapped or address
    return None


def _shared_ports(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a sentence if two doors of the node have one port."""
    ports = {"node.port": settings.node.port}
    if settings.web.enabled:
        ports["web.port"] = settings.web.port
    if settings.priors.move_port:
        ports["priors.move_port"] = settings.priors.move_port
    if settings.self_test.routes:
        ports["self_test.port"] = settings.self_test.port
    binds = dict.fromkeys(ports, settings.node.bind) | {"web.port": settings.web.bind, "self_test.port": "127.0.0.1"}
    for other, key in combinations(ports, 2):
        if ports[other] == ports[key] and _is_overlapping(binds[other], binds[key]):
            table, _, name = key.partition(".")
            yield f"{sources.key(table, name)}: {ports[key]} is {other} too; give each a port of its own"
            return


def _is_overlapping(bind: str, other: str) -> bool:
    return _address(bind) == _address(other) or not _EVERY_ADDRESS.isdisjoint({bind, other})


def _unfit_destinations(settings: Settings, names: Iterable[str], subject: str) -> Iterator[str]:
    peers = {peer.name: peer for peer in settings.peers}
    for name in sorted(set(names)):
        if name not in peers:
            yield (
                f"{subject} sends to {name!r}, which no [[peer]] of node.toml is named; add the [[peer]], or correct "
                f"`destinations` (known: {', '.join(peers) or 'none'})"
            )
        elif peers[name].only_calls:
            yield f"{subject} sends to {name!r}, which has no address; give its host and port in node.toml"


def _unfit_worklist(settings: Settings, peer: Peer, sources: Sources) -> Iterator[str]:
    """Yield a sentence for what keeps the node from performing the workitems of a peer."""
    if not peer.worklist:
        return
    subject, routes = f"{sources.key('peer')}.worklist", {route.name: route for route in settings.routes}
    for name in peer.worklist.routes:
        if name not in routes:
            yield (
                f"{subject}.routes: no [[route]] of {sources.routes} is named {name!r}; correct it (known: "
                f"{', '.join(routes) or 'none'}) (in {peer.name!r})"
            )
    answering = [routes[name] for name in peer.worklist.routes or routes if name in routes]
    if not any(route.live_destinations for route in answering):
        yield (
            f"{subject}: no route sends its answers anywhere, so each workitem would be canceled; give the routes "
            f"destinations in {sources.routes}, or remove the table (in {peer.name!r})"
        )
    if peer.worklist.subscribe and importlib.util.find_spec("websockets") is None:
        yield (
            f"{subject}.subscribe: the package websockets is missing; {installation('web')}, or give false (in "
            f"{peer.name!r})"
        )


def _unfit_source(settings: Settings, name: str, subject: str, sources: Sources) -> Iterator[str]:
    """Yield a sentence if the node cannot fetch priors from the peer of that name."""
    peers: dict[str, Peer] = {peer.name: peer for peer in settings.peers}
    peer = peers.get(name)
    if peer is None:
        yield (
            f"{subject} fetches priors from {name!r}, which no [[peer]] of node.toml is named; add the [[peer]], or "
            f"correct `from` (known: {', '.join(peers) or 'none'})"
        )
    elif peer.is_listener:
        yield f"{subject} fetches priors from {name!r}, a listener for messages; correct `from`"
    elif peer.retrieve != "dicomweb" and not peer.speaks_dimse:
        yield (
            f"{subject} fetches priors from {name!r} by DIMSE; give its ae_title, host and port in node.toml, or "
            'retrieve = "dicomweb"'
        )
    elif peer.retrieve == "move" and not settings.priors.move_port:
        yield (
            f"{subject} fetches priors from {name!r} by C-MOVE; give [priors] move_port in {sources.node.name}, and "
            f"make {settings.priors.move_ae_title} with that port known to {name!r}; or set its retrieve"
        )
