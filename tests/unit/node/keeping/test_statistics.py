from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from support.answers import WEIGHTS, an_answer, many, put_answers

from ainode.node.domain import UID, JobState
from ainode.node.keeping import statistics
from ainode.node.keeping.answer_search import REFUSED, UNDECIDED, AnswerFilter, AnswerSearch
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex
from ainode.node.keeping.records import Job
from ainode.node.keeping.statistics import Period, Statistics

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MARCH = Period(NOW - 30 * DAY, NOW)


def jobs_of(engine: sa.Engine, **conditions: object) -> list[int]:
    answers, count = AnswerSearch(engine).page(AnswerFilter(**conditions), offset=0, limit=100)  # type: ignore[arg-type]
    assert count == len(answers)
    return [int(answer.job, 16) for answer in answers]


def test_a_period_begins_with_its_first_moment_and_ends_before_its_last(engine: sa.Engine) -> None:
    times = (MARCH.since - timedelta(seconds=1), MARCH.since, MARCH.until - timedelta(seconds=1), MARCH.until)
    put_answers(engine, [an_answer(number, at, number / 10) for number, at in enumerate(times)])
    sample = Statistics(engine).sample("skin_lesion", MARCH)
    assert list(sample.probabilities) == [0.1, 0.2]
    assert list(sample.at) == [times[1].timestamp(), times[2].timestamp()]


def test_how_readings_ended_is_counted_by_handler_without_what_was_read_again(
    engine: sa.Engine,
) -> None:
    at = NOW - DAY
    put_answers(
        engine,
        [
            an_answer(1, at, 0.9),
            an_answer(2, at, 0.1),
            an_answer(3, at, None),
            an_answer(4, at, 0.9, is_superseded=True),
            an_answer(5, at + timedelta(hours=1), None, handler="ct_tumor"),
        ],
    )
    ledger = Ledger(engine)
    failed = (("1", "skin_lesion", at), ("2", "broken", at), ("3", "broken", NOW - 400 * DAY))
    for name, handler, end in failed:
        ledger.open(Job(name, UID(f"1.2.{name}"), "skin", handler, {}, at, at, ()))
        ledger.move(name, JobState.READING)
        ledger.move(name, JobState.FAILED, reason="broke", at=end)
    PatientIndex(engine, Naming.HIDDEN).write(UID("1.2.2"), Labels(is_synthetic=True))
    counts = Statistics(engine).handlers(MARCH)
    assert [c.made_up for c in counts] == [0, 0, 1]
    assert [(c.handler, c.model, c.answers, c.refusals, c.failures, c.positives, c.studies) for c in counts] == [
        ("broken", "", 0, 0, 1, 0, 1),
        ("ct_tumor", "", 0, 1, 0, 0, 1),
        ("skin_lesion", "skin_lesion", 2, 1, 1, 1, 4),
    ]
    assert counts[1].last_at == at + timedelta(hours=1)
    assert Statistics(engine).failures("broken", MARCH) == 1


def test_the_scores_of_a_sample_are_those_of_the_studies_that_were_read(engine: sa.Engine) -> None:
    put_answers(engine, [an_answer(1, NOW - DAY, 0.9), an_answer(2, NOW - DAY, None)])
    sample = Statistics(engine).sample("skin_lesion", MARCH)
    assert sorted(zip(sample.presences, sample.is_read, strict=True)) == [("", False), ("present", True)]
    assert list(sample.scores) == list(Statistics(engine).scores("skin_lesion", MARCH)) == [0.9]
    assert list(Statistics(engine).sample("skin_lesion", MARCH, WEIGHTS).probabilities) == [0.9]
    assert Statistics(engine).sample("skin_lesion", MARCH, "b" * 64).at == ()
    assert Statistics(engine).sample("absent", MARCH).scores == ()


def test_answers_are_counted_by_weights_presence_and_code(engine: sa.Engine) -> None:
    old = {"weights_sha256": "b" * 64, "version": "0.0.9"}
    rows = [an_answer(number, NOW - (9 - number) * DAY, p) for number, p in enumerate((0.9, 0.8, 0.1, None, None))]
    put_answers(engine, [*rows, an_answer(8, NOW - 20 * DAY, 0.1, **old)])
    counts = Statistics(engine).counts("skin_lesion", MARCH)
    assert [(c.version, c.weights_sha256, c.presence, c.code, c.answers) for c in counts] == [
        ("", "", "", "too-small", 2),
        ("0.1.0", WEIGHTS, "absent", "", 1),
        ("0.1.0", WEIGHTS, "present", "", 2),
        ("0.0.9", "b" * 64, "absent", "", 1),
    ]
    assert (counts[2].first_at, counts[2].last_at) == (NOW - 9 * DAY, NOW - 8 * DAY)


def test_of_too_many_answers_the_newest_are_looked_at(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST_ANSWERS", 3)
    put_answers(engine, [an_answer(number, NOW - number * DAY, number / 10) for number in range(1, 6)])
    sample = Statistics(engine).sample("skin_lesion", MARCH)
    assert sample.is_cut
    assert list(sample.probabilities) == [0.3, 0.2, 0.1]


CONDITIONS: list[tuple[dict[str, object], list[int]]] = [
    ({}, [5, 4, 3, 2, 1]),
    ({"study": "1.2.3"}, [3]),
    ({"study": "1.2."}, [5, 4, 3, 2, 1]),
    ({"study": "1%"}, []),
    ({"route": "chest"}, [4]),
    ({"handler": "skin_lesion", "presence": "present"}, [4, 2]),
    ({"presence": REFUSED}, [3]),
    ({"presence": UNDECIDED}, [5]),
    ({"code": "too-small"}, [3]),
    ({"low": 0.5}, [4, 2]),
    ({"low": 0.0, "high": 0.25}, [1]),
    ({"weights_sha256": "bbb"}, [2]),
    ({"since": NOW - 3 * DAY, "until": NOW - DAY}, [3, 2]),
]


def test_a_search_finds_what_all_its_conditions_let_through(engine: sa.Engine) -> None:
    put_answers(
        engine,
        [
            an_answer(1, NOW - 4 * DAY, 0.25),
            an_answer(2, NOW - 3 * DAY, 0.75, weights_sha256="b" * 64),
            an_answer(3, NOW - 2 * DAY, None),
            an_answer(4, NOW - DAY, 0.875, route="chest"),
            an_answer(5, NOW, 0.3) | {"presence": "", "probability": None},
        ],
    )
    for conditions, jobs in CONDITIONS:
        assert jobs_of(engine, **conditions) == jobs, conditions


def test_pages_and_batches_have_each_answer_once_though_many_came_at_the_same_moment(engine: sa.Engine) -> None:
    put_answers(engine, [an_answer(number, NOW - DAY * (number % 2), 0.5) for number in range(2_500)])
    search = AnswerSearch(engine)
    pages = [search.page(AnswerFilter(), offset=offset, limit=500) for offset in range(0, 2_500, 500)]
    every = [answer.job for answer in search.every(AnswerFilter())]
    assert {count for _, count in pages} == {2_500}
    assert [answer.job for answers, _ in pages for answer in answers] == every
    assert len(set(every)) == 2_500


def statements(engine: sa.Engine, question: Callable[[], object]) -> int:
    """Return how many statements a question costs."""
    texts: list[str] = []

    def note(*arguments: object) -> None:
        texts.append(str(arguments[2]))

    sa.event.listen(engine, "before_cursor_execute", note)
    question()
    sa.event.remove(engine, "before_cursor_execute", note)
    return len(texts)


def test_each_figure_of_20_000_studies_takes_three_statements_of_the_database_at_most(engine: sa.Engine) -> None:
    rows = list(many(20_000, NOW))
    shadows = [
        {**row, "job": f"shadow {number}", "route": "skin next", "handler": "x"} for number, row in enumerate(rows)
    ]
    put_answers(engine, [*rows, *shadows])
    with engine.begin() as connection:  # as the servers do by themselves after a while
        connection.exec_driver_sql("ANALYZE")
    year, figures = Period(NOW - 365 * DAY, NOW + DAY), Statistics(engine)
    conditions = AnswerFilter(low=0.4, high=0.6, presence="present")
    questions: dict[str, Callable[[], object]] = {
        "counts": lambda: figures.counts("skin_lesion", year),
        "handlers": lambda: figures.handlers(year),
        "sample": lambda: figures.sample("skin_lesion", year),
        "page": lambda: AnswerSearch(engine).page(conditions, offset=500, limit=50),
    }
    counts: dict[str, int] = {}
    for name, question in questions.items():
        counts[name] = statements(engine, question)
    assert max(counts.values()) <= 3, counts
    sample = figures.sample("skin_lesion", year)
    assert len(sample.at) == 20_000
    assert list(sample.at) == sorted(sample.at)
