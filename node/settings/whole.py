"""The settings of a node as a whole: every table of node.toml, and the routes."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from ainode.node.errors import ConfigError
from ainode.node.routes import Route
from ainode.node.settings.frozen import Frozen
from ainode.node.settings.node_table import NodeTable
from ainode.node.settings.pages import ConsoleTable, WebTable
from ainode.node.settings.peers import Peer
from ainode.node.settings.self_tests import SelfTestTable
from ainode.node.settings.subscriptions import Subscription
from ainode.node.settings.tables import (
    AuditTable,
    CompletenessTable,
    DatabaseTable,
    DeliveryTable,
    PriorsTable,
    ReaderTable,
)
from ainode.node.settings.workers import WorkersTable


class Tables(Frozen):
    """The tables that node.toml holds at most once; `[[peer]]` may be repeated."""

    node: NodeTable = NodeTable()
    completeness: CompletenessTable = CompletenessTable()
    reader: ReaderTable = ReaderTable()
    database: DatabaseTable = DatabaseTable()
    workers: WorkersTable = WorkersTable()
    delivery: DeliveryTable = DeliveryTable()
    web: WebTable = WebTable()
    console: ConsoleTable = ConsoleTable()
    priors: PriorsTable = PriorsTable()
    audit: AuditTable = AuditTable()
    self_test: SelfTestTable = SelfTestTable()


_Entry = TypeVar("_Entry", Peer, Subscription)


def _named(name: str, entries: Iterable[_Entry], table: str) -> _Entry:
    """Return the entry of a table with the name.

    Raises: ConfigError if there is none.
    """
    by_name = {entry.name: entry for entry in entries}
    if name not in by_name:
        raise ConfigError(f"no [[{table}]] is named {name!r} in node.toml (known: {', '.join(by_name) or 'none'})")
    return by_name[name]


class Settings(Tables):
    """All settings of a node; a function gets the settings as an argument."""

    peers: tuple[Peer, ...] = ()
    routes: tuple[Route, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()

    def peer(self, name: str) -> Peer:
        """Return the peer with the name.

        Raises: ConfigError if there is none.
        """
        return _named(name, self.peers, "peer")

    def with_self_test(self) -> "Settings":
        """Return the settings of a node that runs: with the destination of its self-tests, if it has any."""
        peers = (*self.peers, *self.self_test.peers)
        return self.model_copy(update={"peers": peers})

    def subscription(self, name: str) -> Subscription:
        """Return the subscription with the name.

        Raises: ConfigError if there is none.
        """
        return _named(name, self.subscriptions, "notification")

    @property
    def handlers(self) -> tuple[str, ...]:
        """Return the handlers of all routes, by name."""
        return tuple(sorted({route.handler for route in self.routes}))

    @property
    def own_handlers(self) -> tuple[str, ...]:
        """Return the handlers that the node itself reads with."""
        return tuple(handler for handler in self.handlers if handler not in self.workers.handlers)

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """Return the names of the peers that nobody asks for a proof of a delivery.

        A listener proves a message by its acknowledgment, and cannot be asked.
        """
        return tuple(peer.name for peer in self.peers if peer.confirm == "none" or peer.is_listener)

    @property
    def listeners(self) -> tuple[str, ...]:
        """Return the names of the peers that get messages, and cannot be asked what they have."""
        return tuple(peer.name for peer in self.peers if peer.is_listener)

    def peer_of_title(self, ae_title: str) -> Peer | None:
        """Return the first peer with the AE title that the node can call by DIMSE, None if there is none."""
        return next((peer for peer in self.peers if peer.speaks_dimse and peer.ae_title == ae_title), None)

    @property
    def data(self) -> Path:
        """Return the folder of all files that the node writes, with `~` expanded; the folder may not exist."""
        return self.node.data.expanduser()

    @property
    def networks(self) -> Path:
        """Return the folder of converted networks."""
        return (self.reader.networks or self.data / "networks").expanduser()

    @property
    def models(self) -> Path:
        """Return the folder of the models that the site describes; the folder may not exist."""
        return self.data / "models"

    @property
    def trials(self) -> Path:
        """Return the folder of files that are tried; nothing in it outlives the node."""
        return self.data / "trials"

    @property
    def database_url(self) -> str:
        """Return the SQLAlchemy address of the database; by default, a SQLite file in the data folder."""
        return self.database.url or f"sqlite:///{self.data / 'catalog.sqlite'}"
