"""A worker beside a node: what it takes, when it ends, and a node that others took for dead."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pytest
from acceptance.faults.sender import Modality, SentStudy, new_study
from support.archives import SmallArchive, serving
from support.node import ROOT, RunningNode, RunningWorker, configured, running
from support.postgresql import postgresql
from support.waiting import until

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.jobs.readings import MOST_LOSSES
from ainode.node.keeping.executors import Executor, Executors
from ainode.node.settings import Peer

_DEAD_AFTER_S: Final = 10.0
_WORKERS: Final = f"[workers]\nbeat_s = 0.5\ndead_after_s = {_DEAD_AFTER_S}"
_ROUTES: Final = """
[[route]]
name = "steady"
handler = "support.steady"
modality = ["DX"]
tags = { SeriesDescription = "steady" }
destinations = DESTINATIONS

[[route]]
name = "immediate"
handler = "ainode.node.bench.immediate"
modality = ["DX"]
tags = { SeriesDescription = "immediate" }
destinations = DESTINATIONS
"""
_WORKERS_ROUTE: Final = """
[[route]]
name = "lethal"
handler = "support.lethal"
modality = ["DX"]
tags = { SeriesDescription = "lethal" }
"""
_OTHER_ROUTE: Final = """
[[route]]
name = "other"
handler = "support.steady"
modality = ["CT"]
"""


@pytest.fixture(scope="module")
def archive() -> SmallArchive:
    return SmallArchive()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, archive: SmallArchive) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("node")
    with postgresql() as url, serving(archive) as port:
        peer = Peer(name="archive", ae_title="A", host="127.0.0.1", port=port, confirm="query")
        more = f'{_WORKERS}\nhandlers = ["support.lethal"]\n[database]\nurl = "{url}"'
        node = configured(folder, peers=[peer], routes=_ROUTES + _WORKERS_ROUTE, more=more)
        node.database = url
        # `ainode reload` waits a minute longer than this for its answer, which a busy machine needs.
        node.config.write_text(node.config.read_text().replace("stop_limit_s = 2.0", "stop_limit_s = 120.0"))
        with running(node):
            yield node


@contextmanager
def beside(node: RunningNode, name: str, handlers: str = "") -> Iterator[RunningWorker]:
    """Run a worker, and end it."""
    worker = RunningWorker(node, name, handlers)
    worker.start()
    try:
        yield worker
    finally:
        if worker.process and worker.process.poll() is None:
            worker.send(signal.SIGCONT)
            worker.end()


def command(node: RunningNode, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of an operator."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT / ".ns", ROOT / "tests")))}
    environment["XDG_CACHE_HOME"] = str(node.folder / "cache")
    words = [sys.executable, "-m", "ainode.node.commands.cli", *arguments, "--config", str(node.config)]
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=180, check=False)


def executor(node: RunningNode, name: str) -> Executor:
    """Return the newest executor of a name."""
    return next(each for each in Executors(node.engine).all() if each.name == name)


def send(node: RunningNode, *orders: str) -> list[SentStudy]:
    studies = [new_study(order=order, instances=1) for order in orders]
    assert Modality(node.port).send(studies)
    return studies


def is_delivered(node: RunningNode, study: SentStudy) -> bool:
    """Return whether the only job of a study is answered, and the archive has proved that it has all documents."""
    jobs = node.ledger.jobs(study=UID(study.uid))
    if [job.state for job in jobs] != [JobState.REPORTED]:
        return False
    return all(delivery.state is DeliveryState.CONFIRMED for delivery in node.ledger.deliveries(jobs[0].id))


def documents_of(archive: SmallArchive, studies: Sequence[SentStudy]) -> list[int]:
    """Return how many documents an archive has of each study."""
    kept = [str(dataset.StudyInstanceUID) for dataset in archive.kept.values()]
    return [kept.count(study.uid) for study in studies]


def test_a_worker_reads_with_its_handlers_alone_and_leaves_when_it_is_asked_to(
    node: RunningNode, archive: SmallArchive
) -> None:
    with beside(node, "reads_one", "support.steady") as worker:
        studies = send(node, *["steady", "steady", "immediate"] * 5)
        until(lambda: all(is_delivered(node, study) for study in studies))
        assert documents_of(archive, studies) == [2] * len(studies)
        lines = [line for line in worker.log.read_text().splitlines() if "study read" in line]
        assert lines
        assert all("route=steady" in line for line in lines)
        answer = command(node, "workers")
        assert "reads_one" in answer.stdout
        assert executor(node, "reads_one").state(_DEAD_AFTER_S) == "alive"
        assert worker.end() == 0
    assert executor(node, "reads_one").is_dead


def test_a_second_worker_of_a_name_and_a_handler_that_no_route_names_are_refused(node: RunningNode) -> None:
    with beside(node, "single"):
        second = command(node, "worker", "--name", "single")
        assert second.returncode == 2
        assert "another worker runs here as 'single'" in second.stderr
        assert executor(node, "single").state(_DEAD_AFTER_S) == "alive"
    unknown = command(node, "worker", "--models", "nobody", "--check")
    assert unknown.returncode == 2
    assert "no route reads with 'nobody'" in unknown.stderr
    assert command(node, "worker", "--check").returncode == 0


def test_a_reading_that_kills_each_worker_is_given_up_with_the_reason(
    node: RunningNode,
) -> None:
    (study,) = send(node, "lethal")
    until(lambda: len(node.ledger.jobs(study=UID(study.uid))) == 1)
    (job,) = node.ledger.jobs(study=UID(study.uid))
    words = "no process reads with support.lethal, 1 reading waits"
    assert words in command(node, "jobs").stdout
    assert words in command(node, "check").stdout
    for number in range(MOST_LOSSES):
        with beside(node, f"victim{number}", "support.lethal") as worker:
            assert worker.process
            assert worker.process.wait(120) == -signal.SIGKILL
    assert node.ledger.job(job.id).state is JobState.READING
    with beside(node, "survivor", "support.lethal") as worker:
        until(lambda: node.ledger.job(job.id).state is JobState.FAILED, within_s=120)
        assert node.ledger.job(job.id).reason.startswith(
            f"{MOST_LOSSES} processes of node and workers were killed or fell silent while they read the study, "
            f"the last victim{MOST_LOSSES - 1}; "
        )
        assert executor(node, "victim0").state(_DEAD_AFTER_S) == "lost (silent)"
        assert "victim1" in command(node, "workers").stdout
        assert worker.count("reading given up") == 1


def test_a_worker_with_the_routes_of_before_a_reload_ends_and_one_with_the_new_routes_is_taken(
    node: RunningNode,
) -> None:
    routes = node.config.with_name("routes.toml")
    with beside(node, "of_before") as worker:
        routes.write_text(routes.read_text() + _OTHER_ROUTE)
        assert "routes differs" in command(node, "worker", "--check").stderr
        assert command(node, "reload").returncode == 0
        assert worker.process
        assert worker.process.wait(120) == 1
        worker.start()
        assert executor(node, "of_before").state(_DEAD_AFTER_S) == "alive"


def test_a_node_that_stood_still_is_taken_for_dead_and_begins_anew_and_each_study_is_answered_once(
    node: RunningNode, archive: SmallArchive
) -> None:
    with beside(node, "survivor") as worker:
        studies = send(node, *["steady"] * 12)
        until(lambda: any(node.ledger.jobs(study=UID(study.uid)) for study in studies))
        assert node.process
        first, starts = executor(node, "ainode").id, node.log.read_text().count("ready:")
        node.process.send_signal(signal.SIGSTOP)
        until(lambda: next(each for each in Executors(node.engine).all() if each.id == first).is_dead)
        node.process.send_signal(signal.SIGCONT)
        node.until(lambda: node.log.read_text().count("ready:") > starts, within_s=120)
        until(lambda: all(is_delivered(node, study) for study in studies))
        assert documents_of(archive, studies) == [2] * len(studies)
        assert executor(node, "ainode").id != first
        assert worker.count("executor_buried") == 1
        assert node.log.read_text().count("taken_for_dead") == 1
