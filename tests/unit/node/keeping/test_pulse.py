"""A cheap look at the database tells whether somebody committed something."""

from datetime import UTC, datetime

from support.databases import migrated

from ainode.node.domain import UID
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.pulse import Pulse
from ainode.node.keeping.records import Job

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_beat_changes_with_each_commit_and_with_nothing_else(url: str) -> None:
    engine = migrated(url)
    pulse, ledger = Pulse(engine), Ledger(engine)
    beat = pulse.beat()
    ledger.jobs()
    assert pulse.beat() == beat
    ledger.open(Job("a", UID("1.2"), "chest", "reader", {}, NOW, NOW, ()))
    changed = pulse.beat()
    assert changed != beat
    assert pulse.beat() == changed
    pulse.rest()
    engine.dispose()
