"""What an operator configures: passed to every station, never fetched."""

from ainode.node.settings.loading import load, shipped
from ainode.node.settings.tables import (
    CompletenessTable,
    DatabaseTable,
    DeliveryTable,
    NodeTable,
    Peer,
    PriorsTable,
    ReaderTable,
    Settings,
    WebTable,
)

__all__ = [
    "CompletenessTable",
    "DatabaseTable",
    "DeliveryTable",
    "NodeTable",
    "Peer",
    "PriorsTable",
    "ReaderTable",
    "Settings",
    "WebTable",
    "load",
    "shipped",
]
