"""Which processes may share the jobs of a database: a worker whose answers could differ from the node's is refused."""

import platform
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from ainode.node import __version__
from ainode.node.diagnosis.checks import route_lines
from ainode.node.disk import write_durably
from ainode.node.errors import ConfigError, DatabaseUnavailable, WeightsError
from ainode.node.identity import digest
from ainode.node.jobs.presence import Presence
from ainode.node.jobs.stations import Share
from ainode.node.keeping import database
from ainode.node.keeping.data_folder import refuse_another
from ainode.node.keeping.executors import Executor, ExecutorKind, Executors
from ainode.node.keeping.lease import Lease, SharedLease, SoleLease
from ainode.node.reading import manifest
from ainode.node.reading.weights import environment
from ainode.node.settings import Settings, Sources
from ainode.node.starting.requirements import peer_problems

MARK_NAME: Final = "node.id"
"""the file of a data folder that says which one it is, wherever it is mounted"""
_MARK_BYTES: Final = 16
# In the name of a folder of its audit trail, and in lines of the log.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BOOT_BYTES: Final = 4
_TABLES: Final = ("peers", "routes", "subscriptions", "workers", "delivery", "priors")
# What of these tables enters a document or decides on it; addresses and limits of a process are its own.
_NODE_KEYS: Final = frozenset({"ae_title", "name", "network_timeout_s", "time_zone"})
_READER_KEYS: Final = frozenset({"precision", "overtaking_minutes", "time_limit_s"})
_REMEDIES: Final[Mapping[str, str]] = {
    "version": "install the same version of ainode here and there",
    "folder": "mount the data folder of the node at the same path, which the database names",
    "mark": "mount the data folder of the node there; it is another folder of the same path",
    "weights": "install the same version of ainode here and there",
    "node": "give this process the node.toml of the node: [node] differs in what documents say",
    "reader": "give this process the node.toml of the node: [reader] differs in what decides on answers",
}


def is_shared(settings: Settings) -> bool:
    """Return whether several processes can work at the jobs."""
    return make_url(settings.database_url).get_backend_name() == "postgresql"


def executor_of(settings: Settings, kind: ExecutorKind, handlers: Iterable[str], name: str = "") -> Executor:
    """Return this process as an executor, under an identifier that no other start has; a node marks its data folder.

    Raises: ConfigError, WeightsError.
    """
    name = name or settings.node.name
    identifier = f"{name}:{secrets.token_hex(_BOOT_BYTES)}"
    terms = terms_of(settings, is_marking=kind is ExecutorKind.NODE)
    return Executor(identifier, name, kind, platform.node(), tuple(sorted(set(handlers))), terms)


def terms_of(settings: Settings, *, is_marking: bool = False) -> Mapping[str, str]:
    """Return what all processes must have in common, most of it as digests; the node marks its data folder.

    Raises: ConfigError, WeightsError.
    """
    tables = settings.model_dump(mode="json")
    # The site's own weights lie in the data folder, which all have; those that ship come with the program.
    shipped = manifest.entries(environment(settings).weights.shipped)
    return {
        "version": __version__,
        "folder": str(settings.data.absolute()),
        "mark": _mark(settings.data, is_marking=is_marking),
        "weights": digest({entry.name: entry.sha256 for entry in shipped}),
        **{name: digest(tables[name]) for name in _TABLES},
        "node": digest({key: tables["node"][key] for key in _NODE_KEYS}),
        "reader": digest({key: tables["reader"][key] for key in _READER_KEYS}),
    }


def _mark(data: Path, *, is_marking: bool) -> str:
    path = data / MARK_NAME
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        if not is_marking:
            return ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); make the file readable, or remove it") from error
    mark = secrets.token_hex(_MARK_BYTES)
    write_durably(path, f"{mark}\n".encode())
    return mark


def worker_problems(settings: Settings, handlers: Sequence[str], name: str) -> Iterator[str]:
    """Yield a sentence for each reason why a process of this configuration may be no worker of the node.

    Raises: DatabaseUnavailable, also if no node has worked on the database yet.
    """
    if not _NAME.fullmatch(name):
        yield f"--name: {name!r} is no name of a worker; give letters, digits, points, - and _, 64 at most"
    routed = sorted({route.handler for route in settings.routes})
    for handler in handlers:
        if handler not in routed:
            yield f"--models: no route reads with {handler!r}; routes.toml names {', '.join(routed) or 'none'}"
    if not is_shared(settings):
        yield "[database] url: a worker needs the PostgreSQL of the node; SQLite is of one process"
        return
    node, problem = _node_of(settings)
    if node is None:
        yield problem
        return
    yield from _differences(settings, node)
    yield from _own_addresses(settings, node)


def readiness_problems(settings: Settings, sources: Sources, handlers: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each reason why this machine could not do a worker's work: each handler is started.

    A worker without a package, weights or a secret would fail what it takes, faster than others read it.
    """
    for peer in settings.peers:
        yield from peer_problems(peer, sources)
    routes = tuple(route for route in settings.routes if route.handler in handlers)
    for name, state, remedy in route_lines(settings.model_copy(update={"routes": routes})):
        if state == "not ready":
            yield f"{name}: {remedy}"


def _node_of(settings: Settings) -> tuple[Executor | None, str]:
    """Return the node of the database, or why this program can be no worker there.

    Raises: DatabaseUnavailable if no node of this version has worked there yet, and one may start at any time.
    """
    engine = database.connect(settings.database_url)
    try:
        revision = database.revision(engine) or ""
        node = Executors(engine).node() if revision == database.HEAD else None
    finally:
        engine.dispose()
    if revision > database.HEAD:
        return None, "[database] url: the tables are those of a newer version; install that version here, too"
    if node is None:
        raise DatabaseUnavailable(
            "no node of this version has worked on the database; start `ainode serve` there first"
        )
    return node, ""


def _differences(settings: Settings, node: Executor) -> Iterator[str]:
    try:
        terms = terms_of(settings)
    except WeightsError as error:
        yield str(error)
        return
    for name, value in terms.items():
        node_value = node.terms.get(name, "")
        if value == node_value:
            continue
        remedy = _REMEDIES.get(
            name,
            f"give this process the files of the node: {name} differ, or the node was not reloaded since they changed",
        )
        values = f" ({value} here, {node_value} there)" if name in {"version", "folder"} else ""
        yield f"{name} differs from that of the node {node.name!r} on {node.host}{values}: {remedy}"


def _own_addresses(settings: Settings, node: Executor) -> Iterator[str]:
    """Yield a sentence for each peer whose address means another machine here than where the node is."""
    if node.host == platform.node():
        return
    for peer in settings.peers:
        if peer.host == "localhost" or _is_loopback(peer.host):
            yield (
                f"[[peer]] {peer.name!r}: {peer.host} is this machine here, and {node.host} for the node; give the "
                "address that both reach"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Membership:
    """The place of this process among those that share the jobs; on SQLite it is the only one, and nothing is asked."""

    @classmethod
    def of(
        cls, settings: Settings, engine: sa.Engine, kind: ExecutorKind, handlers: Iterable[str], name: str = ""
    ) -> "Membership":
        """Return the place of a process that is about to start.

        Raises: ConfigError, also if the files of the database are in another folder; WeightsError, DatabaseUnavailable.
        """
        refuse_another(engine, settings.data)
        if not is_shared(settings):
            return cls(settings, engine, None)
        return cls(settings, engine, executor_of(settings, kind, handlers, name))

    def __init__(self, settings: Settings, engine: sa.Engine, executor: Executor | None) -> None:
        self._settings, self._executor, self._executors = settings, executor, Executors(engine)
        self._presence: Presence | None = None
        dead_after_s = settings.workers.dead_after_s
        self.lease: Lease = SharedLease(engine, executor.id, dead_after_s) if executor else SoleLease()

    def share(self, handlers: tuple[str, ...] | None = None) -> Share:
        """Return what of the work the process does; `handlers` are those of a worker."""
        name = self._executor.id if self._executor else self._settings.node.name
        return Share(name, handlers, self._executors.known)

    def enter(self) -> None:
        """Enter the process among the others, before it takes work.

        Raises: ConfigError if another node is alive; DatabaseUnavailable.
        """
        if self._executor:
            self._executors.enter(self._executor, self._settings.workers.dead_after_s)

    def begin(self, end_abandoned: Callable[[], int]) -> None:
        """Beat from now on; the durable engine runs."""
        if self._executor:
            self._presence = Presence(self._executor.id, self._executors, self._settings.workers, end_abandoned)
            self._presence.start()

    def is_alive(self) -> bool:
        """Return whether beats go out, or none are due."""
        return self._presence is None or self._presence.is_alive()

    def is_lost(self) -> bool:
        """Return whether others took the process for dead."""
        return self._presence is not None and self._presence.is_lost()

    def retire(self) -> None:
        """Look after others no more; beats go on."""
        if self._presence:
            self._presence.retire()

    def end(self) -> None:
        """Leave: others may do at once what is unfinished."""
        if self._presence:
            self._presence.stop()
