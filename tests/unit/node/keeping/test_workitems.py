"""Workitems are kept on both kinds of databases, and change their state only as the table says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from ainode.node.domain import UID
from ainode.node.keeping.workitems import OPEN, KeptWorkitem, Workitems, WorkitemState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ITEM = KeptWorkitem("pacs", UID("1.2"), NOW, study_instance_uid=UID("1"), source="pacs", transaction_uid=UID("2.25.7"))


@pytest.fixture
def workitems(engine: sa.Engine) -> Workitems:
    return Workitems(engine)


def test_a_claim_is_kept_once_with_its_transaction_uid(workitems: Workitems) -> None:
    assert workitems.add(ITEM)
    assert not workitems.add(replace(ITEM, transaction_uid=UID("2.25.8")))
    assert workitems.of("pacs", "1.2") == ITEM
    assert workitems.of("other", "1.2") is None


def test_an_item_that_was_left_may_be_claimed_later_and_is_not_known_until_then(workitems: Workitems) -> None:
    left = replace(ITEM, state=WorkitemState.LEFT, transaction_uid=UID(""), reason="elsewhere")
    assert workitems.add(left)
    assert workitems.recorded("pacs", ["1.2", "9"]) == frozenset()
    assert workitems.add(ITEM)
    assert workitems.of("pacs", "1.2") == ITEM
    assert workitems.recorded("pacs", ["1.2", "9"]) == {"1.2"}


def test_a_final_state_is_left_by_nothing(workitems: Workitems) -> None:
    final = set(WorkitemState) - set(OPEN) - {WorkitemState.LEFT}
    for number, state in enumerate(sorted(final)):
        item = replace(ITEM, uid=UID(f"1.{number}"), state=state)
        assert workitems.add(item)
        assert not any(workitems.move(item, other) for other in WorkitemState)


def test_a_decision_is_not_taken_back(workitems: Workitems) -> None:
    item = replace(ITEM, state=WorkitemState.READING, claimed_at=NOW)
    workitems.add(item)
    assert workitems.move(item, WorkitemState.COMPLETING, decided_at=NOW)
    assert not workitems.move(item, WorkitemState.CANCELING)
    assert not workitems.move(item, WorkitemState.READING)
    assert not workitems.request_cancel("pacs", "1.2")
    kept = workitems.of("pacs", "1.2")
    assert kept
    assert (kept.state, kept.decided_at, kept.is_cancel_requested) == (WorkitemState.COMPLETING, NOW, False)


def test_a_move_ends_the_pause_and_the_error_of_before(workitems: Workitems) -> None:
    workitems.add(ITEM)
    workitems.note(ITEM, error="HTTP 503", attempts=4, due_at=NOW)
    workitems.move(ITEM, WorkitemState.CLAIMED, claimed_at=NOW)
    assert workitems.of("pacs", "1.2") == replace(ITEM, state=WorkitemState.CLAIMED, claimed_at=NOW)


def test_what_ended_long_ago_is_forgotten_and_what_is_open_is_not(workitems: Workitems) -> None:
    ended = replace(ITEM, uid=UID("1.3"), state=WorkitemState.COMPLETED, ended_at=NOW)
    recent = replace(ended, uid=UID("1.4"), ended_at=NOW + timedelta(days=2))
    for item in (ITEM, ended, recent):
        workitems.add(item)
    workitems.forget_past(NOW + timedelta(days=1))
    assert [item.uid for item in workitems.all()] == ["1.2", "1.4"]
    assert [item.uid for item in workitems.of_study(UID("1"))] == ["1.2", "1.4"]


def test_open_items_of_a_worklist_that_nobody_configures_any_more_are_counted(workitems: Workitems) -> None:
    workitems.add(ITEM)
    workitems.add(replace(ITEM, peer="other"))
    workitems.add(replace(ITEM, uid=UID("1.9"), peer="other", state=WorkitemState.GONE))
    assert workitems.open_elsewhere(["pacs"]) == {"other": 1}
    assert workitems.open_elsewhere([]) == {"pacs": 1, "other": 1}
