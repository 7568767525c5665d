"""The stations that the work on a job calls."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ainode.node.audit.messages import Message
from ainode.node.audit.recorder import drop
from ainode.node.domain import Reading, Request
from ainode.node.jobs.courier import Courier
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.settings import Settings


@dataclass(frozen=True, slots=True)
class Stations:
    """The stations that the work on a job calls."""

    settings: Settings
    catalog: Catalog
    ledger: Ledger
    courier: Courier
    read: Callable[[str, Request], Reading]
    """handler name and request to reading; a node hands the request to the handler's process"""
    now: Callable[[], datetime]
    record: Callable[[Message], None] = drop
    """writes into the audit trail"""
