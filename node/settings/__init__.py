"""What an operator configures: passed to every station, never fetched."""

from ainode.node.settings.fhir import OAuth2Table, ResourcesTable
from ainode.node.settings.files import shipped
from ainode.node.settings.listeners import Hl7Table
from ainode.node.settings.loading import load, sources, with_routes
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
from ainode.node.settings.whole import Settings
from ainode.node.settings.wording import Sources
from ainode.node.settings.workers import WorkersTable
from ainode.node.settings.worklists import WorklistTable

__all__ = [
    "AuditTable",
    "CompletenessTable",
    "ConsoleTable",
    "DatabaseTable",
    "DeliveryTable",
    "Hl7Table",
    "NodeTable",
    "OAuth2Table",
    "Peer",
    "PriorsTable",
    "ReaderTable",
    "ResourcesTable",
    "SelfTestTable",
    "Settings",
    "Sources",
    "Subscription",
    "WebTable",
    "WorkersTable",
    "WorklistTable",
    "load",
    "shipped",
    "sources",
    "with_routes",
]
