"""What an operator configures: passed to every station, never fetched."""

from ainode.node.settings.files import shipped
from ainode.node.settings.listeners import Hl7Table
from ainode.node.settings.loading import load, sources, with_routes
from ainode.node.settings.peers import Peer
from ainode.node.settings.tables import (
    AuditTable,
    CompletenessTable,
    ConsoleTable,
    DatabaseTable,
    DeliveryTable,
    NodeTable,
    PriorsTable,
    ReaderTable,
    Settings,
    WebTable,
)
from ainode.node.settings.wording import Sources

__all__ = [
    "AuditTable",
    "CompletenessTable",
    "ConsoleTable",
    "DatabaseTable",
    "DeliveryTable",
    "Hl7Table",
    "NodeTable",
    "Peer",
    "PriorsTable",
    "ReaderTable",
    "Settings",
    "Sources",
    "WebTable",
    "load",
    "shipped",
    "sources",
    "with_routes",
]
