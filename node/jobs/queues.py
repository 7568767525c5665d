"""The queues of the durable engine and the database of its workflows: the names that outlive an upgrade."""

from pathlib import Path

from ainode.node.keeping.tasks import TaskKind
from ainode.node.settings import Settings

APPLICATION_VERSION = "2"
"""Pinned; raise it with the signature of a workflow: what the version before left is begun anew from the ledger."""


def workflow_file(settings: Settings) -> Path:
    """Return where the workflows are on SQLite."""
    return settings.data / "workflows.sqlite"


def system_database_url(settings: Settings) -> str:
    """Return the address of the workflows' database: a file beside the catalog on SQLite, else the same PostgreSQL."""
    return settings.database.url or f"sqlite:///{workflow_file(settings)}"


def read_queue(handler: str) -> str:
    """Return the queue of a handler: as many studies at a time as it has processes, by priority."""
    return f"read.{handler}"


def priors_queue(peer: str) -> str:
    """Return the queue of a peer for searches: a slow archive holds back only the studies that want priors of it."""
    return f"priors.{peer}"


def delivery_queue(kind: TaskKind, destination: str) -> str:
    """Return the queue of a destination for sending or confirming: a dead archive holds back only its own documents."""
    return f"{kind}.{destination}"
