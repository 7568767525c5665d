"""The place of a job in its queue: urgent jobs overtake, and none is overtaken for ever."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ainode.node.jobs.places import place, place_after_failure

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR_S = 3600.0
LIMIT_S = 8 * HOUR_S
priorities = st.integers(1, 1000)
ages_s = st.integers(0, 30 * 86_400)


def of(priority: int, age_s: float, *, now: datetime = NOW) -> int:
    return place(priority, now - timedelta(seconds=age_s), now, overtaking_s=LIMIT_S)


def test_an_urgent_job_overtakes_two_hundred_that_wait_for_hours() -> None:
    waiting = [of(100, number * 60 + 60) for number in range(200)]
    assert of(1, 0) < min(waiting)
    assert of(10, 0) < of(100, HOUR_S)


def test_jobs_of_one_priority_are_read_in_the_order_in_which_they_were_queued() -> None:
    assert of(100, 2) < of(100, 1) < of(100, 0)


@given(priorities, priorities, ages_s, ages_s)
def test_no_job_waits_behind_one_that_was_queued_more_than_the_limit_later(
    earlier: int, later: int, age_s: int, younger_s: int
) -> None:
    if age_s - younger_s > LIMIT_S:
        assert of(earlier, age_s) < of(later, younger_s)


@given(priorities, priorities, ages_s, st.integers(0, 86_400))
def test_the_order_of_two_jobs_does_not_change_while_they_wait(one: int, other: int, age_s: int, wait_s: int) -> None:
    then = NOW + timedelta(seconds=wait_s)
    before = of(one, age_s) - of(other, 0)
    assert before == of(one, age_s + wait_s, now=then) - of(other, wait_s, now=then)


@given(priorities, st.integers(1, 100 * 365))
def test_a_job_of_a_clock_that_was_ahead_has_the_place_of_a_job_of_now(priority: int, days: int) -> None:
    ahead = place(priority, NOW + timedelta(days=days), NOW, overtaking_s=LIMIT_S)
    assert ahead == of(priority, 0)


@given(priorities, ages_s)
def test_what_failed_before_comes_after_all_that_waits(priority: int, age_s: int) -> None:
    assert place_after_failure(NOW, overtaking_s=LIMIT_S) > of(priority, age_s)


def test_a_place_is_a_number_that_the_engine_takes_in_any_year() -> None:
    years = [datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 2020, 2026, 2087, 2200)]
    places = [place(1000, year, year, overtaking_s=30 * 86_400) for year in years]
    assert places == sorted(places)
    assert places[0] == 1
    assert places[-1] == 2**31 - 1
