"""What the page for Prometheus says of a node; `test_prometheus.py` lets a Prometheus read the page of a real one."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from support import program
from support.databases import migrated
from support.metrics import a_job, metrics_of, read_and_sent

from ainode.node.deciding.liveness import Liveness
from ainode.node.domain import JobState, OnEarly, Request, nothing_early
from ainode.node.errors import DatabaseUnavailable, ReaderDied, ReaderTimeout, ReaderTooLarge
from ainode.node.keeping.executors import Executor, ExecutorKind, Executors
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.tasks import Task, TaskKind
from ainode.node.metrics.course import Course
from ainode.node.metrics.exposition import Family, Kind, Sample, text_of
from ainode.node.metrics.histogram import Histogram


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    yield made
    made.dispose()


@pytest.fixture
def course() -> Course:
    return Course(["spine_radiograph"])


def values(text: str) -> dict[str, float]:
    """Return each sample of a page by its name and labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_a_label_with_quotes_and_line_ends_stays_one_value() -> None:
    family = Family("a", Kind.GAUGE, "two\nlines", (Sample(1.5, {"b": 'x"y\\z\n'}),))
    assert text_of([family]) == '# HELP a two\\nlines\n# TYPE a gauge\na{b="x\\"y\\\\z\\n"} 1.5\n'


def test_each_bucket_of_a_histogram_counts_all_values_up_to_its_bound() -> None:
    histogram = Histogram("a_seconds", "words", ("route",), (1, 2.5))
    for value in (0.5, 1.0, 2.0, 9.0):
        histogram.observe(value, "spine")
    assert values(text_of([histogram.family()])) == {
        'a_seconds_bucket{route="spine",le="1"}': 2,
        'a_seconds_bucket{route="spine",le="2.5"}': 3,
        'a_seconds_bucket{route="spine",le="+Inf"}': 4,
        'a_seconds_sum{route="spine"}': 12.5,
        'a_seconds_count{route="spine"}': 4,
    }


def test_a_job_that_is_read_and_sent_is_counted_once_in_each_part_of_its_way(
    engine: sa.Engine, course: Course, tmp_path: Path
) -> None:
    metrics = metrics_of(engine, course, tmp_path)
    read_and_sent(Ledger(engine, course))
    for _ in range(2):
        found = values(metrics.text())
        parts = {"wait": 4.0, "read": 1.5, "compose": 0.5}
        for part, seconds in parts.items():
            assert found[f'ainode_{part}_seconds_sum{{route="spine"}}'] == seconds
            assert found[f'ainode_{part}_seconds_count{{route="spine"}}'] == 1
        assert found['ainode_deliver_seconds_sum{route="spine",destination="archive"}'] == 3
        assert found['ainode_answers_total{route="spine",model="spine",answer="present"}'] == 1
        assert found['ainode_score_bucket{handler="spine_radiograph",model="spine",le="0.8"}'] == 0
        assert found['ainode_score_bucket{handler="spine_radiograph",model="spine",le="0.9"}'] == 1
        assert found['ainode_jobs{route="spine",state="reported"}'] == 1
        assert found['ainode_jobs{route="spine",state="waiting"}'] == 0
        assert found['ainode_deliveries{destination="archive",state="sent"}'] == 1
        assert found['ainode_deliveries_oldest_seconds{destination="archive",state="sent"}'] > 0


def test_each_end_of_a_reader_within_a_reading_is_counted_by_its_reason(
    engine: sa.Engine, course: Course, tmp_path: Path
) -> None:
    errors = [ReaderTimeout("t"), ReaderTooLarge("m"), ReaderTooLarge("m"), ReaderDied("d")]

    def read(_: str, __: Request, ___: OnEarly) -> None:
        raise errors.pop()

    watched = course.watched(read)  # type: ignore[arg-type] - it never returns
    for _ in range(4):
        with pytest.raises((ReaderTimeout, ReaderDied)):
            watched("spine_radiograph", None, nothing_early)  # type: ignore[arg-type] - nobody looks at it
    found = values(metrics_of(engine, course, tmp_path).text())
    ends = {
        reason: found[f'ainode_reader_ends_total{{handler="spine_radiograph",reason="{reason}"}}']
        for reason in ("time_limit", "memory_limit", "ended")
    }
    assert ends == {"time_limit": 1, "memory_limit": 2, "ended": 1}


def test_the_start_is_that_of_the_process_which_outlives_a_reload(
    engine: sa.Engine, course: Course, tmp_path: Path
) -> None:
    found = values(metrics_of(engine, course, tmp_path).text())
    assert found["process_start_time_seconds"] == pytest.approx(psutil.Process().create_time(), abs=1)


def test_without_its_database_the_node_still_says_what_works(
    engine: sa.Engine, course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = metrics_of(
        engine, course, tmp_path, counts={"accepted": 5, "ended": 2}, liveness=Liveness(lambda: "it ended", str, str)
    )

    def fail(_: object) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr("ainode.node.keeping.backlog.Backlog.jobs", fail)
    found = values(metrics.text())
    assert {name: value for name, value in found.items() if name.startswith("ainode_part_up")} == {
        'ainode_part_up{part="database"}': 0,
        'ainode_part_up{part="intake"}': 1,
        'ainode_part_up{part="jobs"}': 1,
        'ainode_part_up{part="receiver"}': 0,
    }
    assert found["ainode_associations_open"] == 3
    assert not [name for name in found if name.startswith("ainode_jobs")]


def test_receivers_that_wait_to_be_started_are_counted_while_the_receiver_is_up(
    engine: sa.Engine, course: Course, tmp_path: Path
) -> None:
    liveness = Liveness(str, str, str, lambda: ("receiver 2 of 2 ended",))
    found = values(metrics_of(engine, course, tmp_path, liveness=liveness).text())
    assert (found["ainode_receivers_missing"], found['ainode_part_up{part="receiver"}']) == (1, 1)
    assert values(metrics_of(engine, course, tmp_path).text())["ainode_receivers_missing"] == 0


def test_what_arrived_while_the_database_was_away_is_counted_afterwards(
    engine: sa.Engine, course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = metrics_of(engine, course, tmp_path)
    read_and_sent(Ledger(engine, course))
    with monkeypatch.context() as away:

        def fail(_: object, __: object) -> None:
            raise DatabaseUnavailable("away")

        away.setattr("ainode.node.keeping.backlog.Backlog.answered", fail)
        assert "ainode_deliver_seconds" not in metrics.text()
    assert 'ainode_deliver_seconds_count{route="spine",destination="archive"} 1' in metrics.text()


def test_the_number_of_samples_does_not_grow_with_the_number_of_studies(
    engine: sa.Engine, course: Course, tmp_path: Path
) -> None:
    metrics, ledger = metrics_of(engine, course, tmp_path), Ledger(engine, course)
    read_and_sent(ledger)
    before = values(metrics.text()).keys()
    for number in range(2, 12):
        read_and_sent(ledger, number)
    after = metrics.text()
    assert values(after).keys() == before
    assert not re.search(r"1\.2\.\d|job\d", after)


def test_promtool_finds_no_fault_in_the_page(engine: sa.Engine, course: Course, tmp_path: Path) -> None:
    promtool = program("promtool")
    read_and_sent(Ledger(engine, course))
    page = metrics_of(engine, course, tmp_path).text()
    done = subprocess.run([promtool, "check", "metrics"], input=page, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    faulty = page.replace("# TYPE ainode_answers_total counter", "# TYPE ainode_answers_total histogram")
    assert subprocess.run([promtool, "check", "metrics"], input=faulty, text=True, capture_output=True).returncode  # noqa: PLW1510


@pytest.fixture
def shared_engine(empty_postgresql: str) -> Iterator[sa.Engine]:
    made = migrated(empty_postgresql)
    yield made
    made.dispose()


def enter(engine: sa.Engine, name: str, *handlers: str, kind: ExecutorKind = ExecutorKind.WORKER) -> Executors:
    executors = Executors(engine)
    executors.enter(Executor(f"{name}:1", name, kind, name, handlers), 60.0)
    return executors


def test_the_node_and_each_worker_have_the_age_of_their_last_beat_until_they_end(
    shared_engine: sa.Engine, course: Course, tmp_path: Path
) -> None:
    engine = shared_engine
    enter(engine, "here", kind=ExecutorKind.NODE)
    enter(engine, "there")
    enter(engine, "gone").leave("gone:1")
    ages = {
        name: value
        for name, value in values(metrics_of(engine, course, tmp_path).text()).items()
        if name.startswith("ainode_executor_beat_age_seconds")
    }
    assert ages.keys() == {
        'ainode_executor_beat_age_seconds{name="here",kind="node",machine="here"}',
        'ainode_executor_beat_age_seconds{name="there",kind="worker",machine="there"}',
    }
    assert all(0 <= age < 60 for age in ages.values())


def test_each_process_has_its_handlers_and_readings_and_a_lost_worker_those_that_it_read_with(
    shared_engine: sa.Engine, course: Course, tmp_path: Path
) -> None:
    spine = "spine_radiograph"
    enter(shared_engine, "here", kind=ExecutorKind.NODE)
    executors = enter(shared_engine, "there", spine)
    ledger = Ledger(shared_engine)
    for number in (1, 2):
        ledger.open(a_job(number))
    reading = Task("job1", TaskKind.READ)
    ledger.tasks.begin(reading)
    ledger.tasks.take(reading, "there:1")
    ledger.move("job1", JobState.READING)

    labels = 'name="there",kind="worker",machine="there"'
    page = values(metrics_of(shared_engine, course, tmp_path).text())
    assert page[f'ainode_executor_reads{{{labels},handler="{spine}"}}'] == 1
    assert page[f"ainode_executor_readings{{{labels}}}"] == 1
    assert page['ainode_executor_readings{name="here",kind="node",machine="here"}'] == 0
    assert page[f'ainode_handler_readers{{handler="{spine}"}}'] == 1
    assert page[f'ainode_handler_waiting{{handler="{spine}"}}'] == 1
    assert not [name for name in page if name.startswith("ainode_worker_lost")]

    # Another worker of the name, which reads with nothing, and falls silent.
    executors.enter(Executor("there:2", "there", ExecutorKind.WORKER, "there", (spine,)), 60.0)
    executors.sweep(lambda _: 0, -1.0)
    page = values(metrics_of(shared_engine, course, tmp_path).text())
    assert page[f'ainode_worker_lost{{name="there",machine="there",handler="{spine}"}}'] == 1
    assert not [name for name in page if name.startswith("ainode_executor_reads")]


def test_on_sqlite_the_node_is_the_one_that_reads(engine: sa.Engine, course: Course, tmp_path: Path) -> None:
    page = values(metrics_of(engine, course, tmp_path).text())
    assert page['ainode_handler_readers{handler="spine_radiograph"}'] == 1
