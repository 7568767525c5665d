"""A state of the ledger changes only as the tables allow."""

from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from support import a_file, instance_ref
from support.rows import put_delivery, put_job, read

from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.keeping import transitions
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument, Outcome

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """A ledger with one job, which has one document and one delivery."""
    ledger.open(Job("a", UID("1.2"), "chest", "reader", {UID("1.2.3"): "00"}, NOW, NOW, ("archive",)))
    document = KeptDocument("a", instance_ref(a_file()), DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")
    read(ledger, ledger.job("a"), [document], Outcome(JobState.REPORTED, "{}", "", 1.0))
    return ledger


def test_a_job_takes_a_state_only_after_the_states_that_allow_it(ledger: Ledger) -> None:
    for earlier, later in product(JobState, JobState):
        put_job(ledger, "a", state=earlier)
        is_allowed = later in transitions.JOB[earlier]
        assert ledger.move("a", later) is is_allowed
        assert ledger.job("a").state is (later if is_allowed else earlier)


def test_a_delivery_takes_a_state_only_after_the_states_that_allow_it(ledger: Ledger) -> None:
    (delivery,) = ledger.deliveries("a")
    changes = {
        DeliveryState.SENT: lambda: ledger.outbox.sent(delivery, status=0, comment="", at=NOW),
        DeliveryState.FAILED: lambda: ledger.outbox.refused(delivery, status=0xC000, error="refused", at=NOW),
        DeliveryState.CONFIRMED: lambda: ledger.outbox.confirmed(delivery, proof="query", at=NOW),
        DeliveryState.WAITING: lambda: ledger.outbox.missing(delivery, error="not listed"),
        DeliveryState.CHECKING: lambda: ledger.outbox.recheck("a", unconfirmed=["archive"]),
    }
    for earlier, (later, change) in product(DeliveryState, changes.items()):
        put_delivery(ledger, delivery, state=earlier)
        change()
        (changed,) = ledger.deliveries("a")
        assert changed.state is (later if later in transitions.DELIVERY[earlier] else earlier)


def test_what_is_superseded_stays_so_and_what_is_confirmed_stays_so_until_somebody_asks() -> None:
    assert transitions.JOB[JobState.SUPERSEDED] == frozenset()
    assert transitions.DELIVERY[DeliveryState.CONFIRMED] == {DeliveryState.CHECKING}
