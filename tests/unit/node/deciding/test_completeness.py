import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainode.node.deciding.completeness import Complete, Progress, SenderHistory, Wait, at_least, expected, verdict
from ainode.node.domain import UID, Instance, InstanceRef, Series, Study, Value
from ainode.node.settings import CompletenessTable

LIMITS = CompletenessTable()
START = datetime(2026, 1, 1, 12, tzinfo=UTC)

seconds = st.floats(min_value=0, max_value=5000)
moments = seconds.map(lambda s: START + timedelta(seconds=s))
histories = st.lists(seconds, max_size=30).map(lambda pauses: learned(*pauses))
progresses = st.builds(
    Progress,
    received=st.integers(1, 500),
    last_activity=moments,
    open_since=st.lists(moments, max_size=3).map(tuple),
    expected=st.none() | st.integers(0, 500),
    at_least=st.integers(0, 500),
    history=histories,
)


def learned(*pauses: float) -> SenderHistory:
    history = SenderHistory()
    for pause in pauses:
        history = history.learned(pause)
    return history


def after(s: float) -> datetime:
    return START + timedelta(seconds=s)


def a_study(*headers: dict[str, Value], series: str = "1.2.3") -> Study:
    instances = tuple(
        Instance(
            InstanceRef(UID("1.2"), UID(series), UID("1.2.840.10008.5.1.4.1.1.2"), UID(f"1.2.3.{number}")),
            UID("1.2.840.10008.1.2.1"),
            Path(),
            "",
            1,
            header,
        )
        for number, header in enumerate(headers)
    )
    return Study(UID("1.2"), (Series(UID(series), "CT", instances),))


@given(progresses, seconds)
def test_a_study_is_never_complete_while_a_young_association_carries_it(progress: Progress, now: float) -> None:
    young = [since for since in progress.open_since if after(now) < since + timedelta(seconds=LIMITS.limit_s)]
    answer = verdict(progress, LIMITS, after(now))
    assert not young or isinstance(answer, Wait)


@given(progresses)
def test_every_study_is_complete_in_the_end(progress: Progress) -> None:
    last = max((progress.last_activity, *progress.open_since))
    end = last + timedelta(seconds=LIMITS.limit_s + LIMITS.max_silence_s)
    assert isinstance(verdict(progress, LIMITS, end), Complete)


@given(progresses, seconds, seconds)
def test_what_is_complete_stays_complete_when_nothing_happens(progress: Progress, now: float, more: float) -> None:
    if isinstance(verdict(progress, LIMITS, after(now)), Complete):
        assert isinstance(verdict(progress, LIMITS, after(now + more)), Complete)


@given(progresses, seconds)
def test_a_study_that_waits_is_complete_at_the_time_it_was_told(progress: Progress, now: float) -> None:
    answer = verdict(progress, LIMITS, after(now))
    if isinstance(answer, Wait):
        assert answer.until > after(now)
        assert isinstance(verdict(progress, LIMITS, answer.until), Complete)


@given(histories)
def test_a_learned_silence_stays_within_the_configured_bounds(history: SenderHistory) -> None:
    silence = history.silence_s(LIMITS)
    assert silence is None or LIMITS.min_silence_s <= silence <= LIMITS.max_silence_s


def test_a_met_count_makes_a_released_study_complete_at_once() -> None:
    assert verdict(Progress(42, START, expected=42), LIMITS, START) == Complete("all 42 expected images or objects")


def test_an_unmet_count_waits_the_longest_silence_and_says_what_is_missing() -> None:
    progress = Progress(40, START, expected=42)
    assert verdict(progress, LIMITS, START) == Wait(
        after(60), "waiting for 60.0 s without a further image, with 40 of 42 expected images or objects"
    )
    assert verdict(progress, LIMITS, after(60)) == Complete(
        "60.0 s without a further image, with 40 of 42 expected images or objects"
    )


def test_counts_of_the_series_that_are_there_do_not_prove_that_no_series_is_missing() -> None:
    answer = verdict(Progress(42, START, at_least=42), LIMITS, START)
    assert answer == Wait(
        after(10), "waiting for 10.0 s without a further image, as for a sender whose pauses are not known yet"
    )


def test_a_sender_without_pauses_waits_the_shortest_silence() -> None:
    progress = Progress(1, START, history=learned(0, 0, 0, 0, 0))
    assert verdict(progress, LIMITS, START) == Wait(
        after(2), "waiting for 2.0 s without a further image, as learned from this sender's last 5 pauses"
    )


@pytest.mark.parametrize(
    ("pauses", "silence_s"),
    [((4.0,) * 4, None), ((4.0,) * 5, 6.0), ((4.0,) * 19 + (3600.0,), 6.0), ((30.0,) * 5, 45.0), ((50.0,) * 5, 60.0)],
)
def test_the_silence_is_the_usual_pause_and_half_as_much_again(pauses: list[float], silence_s: float | None) -> None:
    assert learned(*pauses).silence_s(LIMITS) == silence_s


def test_a_history_forgets_all_but_the_last_twenty_pauses_and_survives_storing() -> None:
    history = learned(*range(30))
    assert history.pauses_s == tuple(range(10, 30))
    assert SenderHistory(tuple(json.loads(json.dumps(history.pauses_s)))) == history


def test_an_association_that_never_ends_holds_a_study_only_up_to_the_limit() -> None:
    progress = Progress(1, after(5), open_since=(START,))
    assert verdict(progress, LIMITS, after(899)) == Wait(
        after(900), "1 connection that brought images of it and may bring more"
    )
    assert isinstance(verdict(progress, LIMITS, after(900)), Complete)


def test_the_study_count_in_the_objects_is_the_expected_count() -> None:
    assert expected(a_study({"NumberOfStudyRelatedInstances": 7}, {"NumberOfStudyRelatedInstances": ""})) == 7
    assert expected(a_study({}, {})) is None


@pytest.mark.parametrize(
    ("headers", "count"),
    [
        (({}, {}), 2),
        (({"NumberOfSeriesRelatedInstances": 9}, {}), 9),
        (({"ImagesInAcquisition": 9, "AcquisitionNumber": 1},), 9),
        (({"ImagesInAcquisition": 9, "AcquisitionNumber": 1}, {"AcquisitionNumber": 2}), 2),
        (({"ImagesInAcquisition": 1}, {}, {}), 3),
    ],
)
def test_a_series_announces_its_instances_where_its_objects_can_be_trusted(
    headers: tuple[dict[str, Value], ...], count: int
) -> None:
    assert at_least(a_study(*headers)) == count
