"""An audit trail, and a process that writes into it."""

from datetime import UTC, datetime
from pathlib import Path

from ainode.node.audit.messages import AuditSource, started, stopped
from ainode.node.audit.trail import Trail

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def a_trail(folder: Path) -> Trail:
    return Trail(folder / "audit", AuditSource("ainode", "AINODE", "reading-room"))


def append_twenty(folder: Path) -> None:
    """Write that the node started and stopped, twenty times."""
    for _ in range(20):
        a_trail(folder).append([(NOW, started()), (NOW, stopped())])
