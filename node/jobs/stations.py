"""The stations that the work on a job calls."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from ainode.node.audit.messages import Message
from ainode.node.audit.recorder import drop
from ainode.node.domain import OnEarly, Reading, Request
from ainode.node.jobs.courier import Courier
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.lease import Lease, SoleLease
from ainode.node.keeping.ledger import Ledger
from ainode.node.settings import Settings


@dataclass(frozen=True, slots=True)
class Share:
    """What of the work this process does."""

    executor: str
    """its name in the durable engine"""
    handlers: tuple[str, ...] | None = None
    """of a worker: the handlers that it reads with; None of the node, which does everything and begins all work"""
    executors: Callable[[], frozenset[str]] = frozenset
    """returns the names of all processes that work at jobs, or did"""


@dataclass(frozen=True, slots=True)
class Stations:
    """The stations that the work on a job calls."""

    settings: Settings
    catalog: Catalog
    ledger: Ledger
    courier: Courier
    read: Callable[[str, Request, OnEarly], Reading]
    """handler name and request to reading, whose urgent part comes first; a node asks the handler's process"""
    now: Callable[[], datetime]
    record: Callable[[Message], None] = drop
    """writes into the audit trail"""
    wake_notifier: Callable[[], None] = lambda: None
    """has sent at once what people are told"""
    lease: Lease = field(default_factory=SoleLease)
    """says whether this process may act for a task"""
