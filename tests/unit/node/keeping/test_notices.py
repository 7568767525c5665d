"""Notices on their way: kept once, sent least tried first, given up, revived, removed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from ainode.node.domain import DeliveryState, Occasion
from ainode.node.keeping.notices import Notice, Notices

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOTICE = Notice("n", "pager", Occasion.PRESENT, "job", "{}", NOW)


def after(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def due(notices: Notices, at: datetime = NOW) -> list[str]:
    return [notice.id for notice in notices.due("pager", at, count=9)]


def test_a_notice_is_kept_once_and_keeps_its_first_words(engine: sa.Engine) -> None:
    notices = Notices(engine)
    notices.keep([NOTICE])
    notices.keep([replace(NOTICE, body='{"other": 1}')])
    assert notices.due("pager", NOW, count=9) == (NOTICE,)
    notices.sent(NOTICE, NOW)
    notices.keep([NOTICE])
    assert due(notices) == []


def test_what_was_never_tried_comes_before_what_failed_and_that_after_its_pause(engine: sa.Engine) -> None:
    notices = Notices(engine)
    notices.keep([NOTICE, replace(NOTICE, id="later", created_at=after(1))])
    notices.postpone(NOTICE, after(5), "away")
    assert due(notices, after(2)) == ["later"]
    assert due(notices, after(6)) == ["later", "n"]
    (_, failed) = notices.due("pager", after(6), count=9)
    assert (failed.attempts, failed.error) == (1, "away")


def test_a_clock_that_was_set_back_holds_no_notice_back(engine: sa.Engine) -> None:
    notices = Notices(engine)
    notices.keep([NOTICE])
    notices.postpone(NOTICE, after(5), "away")
    pause = timedelta(minutes=10)
    assert not notices.due("pager", NOW, count=9, longest_pause=pause)
    assert [notice.id for notice in notices.due("pager", after(-6), count=9, longest_pause=pause)] == ["n"]


def test_a_notice_is_of_one_subscription_alone(engine: sa.Engine) -> None:
    notices = Notices(engine)
    notices.keep([NOTICE, replace(NOTICE, id="m", subscription="mail")])
    assert due(notices) == ["n"]


def test_what_was_given_up_is_counted_listed_and_tried_again_with_its_id(engine: sa.Engine) -> None:
    notices = Notices(engine)
    notices.keep([NOTICE, replace(NOTICE, id="m")])
    for notice in notices.due("pager", NOW, count=9):
        notices.give_up(notice, after(1), "refused")
    assert [notice.state for notice in notices.failed(count=9)] == [DeliveryState.FAILED] * 2
    assert (due(notices), notices.failed_count()) == ([], 2)
    tally = notices.tally("pager", NOW)
    assert (tally.waiting, tally.sent, tally.failed, tally.last_error) == (0, 0, 2, "refused")
    assert notices.retry(after(2), "n") == 1
    assert due(notices, after(2)) == ["n"]
    assert notices.retry(after(2)) == 1
    assert notices.retry(after(2)) == 0


def test_a_queue_stays_raised_until_it_is_closed_and_is_not_swept_before(engine: sa.Engine) -> None:
    notices = Notices(engine)
    raised = replace(NOTICE, occasion=Occasion.QUEUE, subject="readings", is_open=True)
    notices.keep([raised, replace(NOTICE, id="m"), replace(NOTICE, id="waits")])
    for notice in notices.due("pager", NOW, count=9)[:2]:
        notices.sent(notice, NOW)
    notices.sweep(after(1))
    assert [notice.id for notice in notices.raised()] == ["n"]
    assert {notice.id for notice in _all(notices)} == {"n", "waits"}
    notices.close(raised, replace(NOTICE, id="over"))
    assert notices.raised() == ()
    notices.sweep(after(1))
    assert {notice.id for notice in _all(notices)} == {"waits", "over"}


def _all(notices: Notices) -> tuple[Notice, ...]:
    from ainode.node.keeping.schema import notices as table

    return notices._all(sa.select(table))
