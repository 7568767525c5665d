"""A whole node whose weights are replaced by demonstration weights while one study is read and another one waits."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import free_port
from support.node import SPINE, RunningNode, configured, running
from support.weighted import NAME

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import DeliveryState, JobState, WeightsStatus
from ainode.node.jobs.retries import retry
from ainode.node.keeping.job_events import Instruction
from ainode.node.reading.weights import WeightsEntry, environment
from ainode.node.settings import Peer, load

WEIGHTED = SPINE.replace("support.handler", "support.weighted")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[testing.EmbeddedArchive]:
    with testing.EmbeddedArchive(tmp_path / "archive", free_port()) as started:
        yield started


@pytest.fixture
def node(tmp_path: Path, archive: testing.EmbeddedArchive) -> RunningNode:
    peer = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=archive.port)
    made = configured(tmp_path / "node", peers=[peer], routes=WEIGHTED)
    put(made, 0.75, WeightsStatus.SITE)
    return made


def put(node: RunningNode, probability: float, status: WeightsStatus) -> None:
    store = environment(load(node.config)).weights
    (store.site / "manifest.toml").unlink(missing_ok=True)
    source = node.folder / "trained"
    source.write_text(str(probability))
    entry = WeightsEntry(NAME, Path(f"{probability}.txt"), "", 0, "own", "weighted", "1", status, "own")
    store.add(source, entry)


def sent(node: RunningNode, folder: Path, order: str) -> str:
    image = testing.noise(512, 512, SeriesDescription=order, BodyPartExamined="TSPINE")
    paths = testing.write([image], folder / order, study=order)
    assert [answer.error for answer in send(Link(node.peer, "CR1"), [Outgoing.of(path) for path in paths])] == [None]
    return testing.uid(order)


def test_no_answer_of_demonstration_weights_leaves_that_came_while_jobs_were_read_and_waited(
    node: RunningNode, archive: testing.EmbeddedArchive, tmp_path: Path
) -> None:
    with running(node):
        _, deliveries = node.read(sent(node, tmp_path, "read"))
        assert [delivery.state for delivery in deliveries] == [DeliveryState.CONFIRMED]
        before = list(archive.stored)
        studies = [sent(node, tmp_path, "told")]
        node.until(lambda: bool(node.ledger.jobs(states=[JobState.READING])), within_s=120)
        studies.append(sent(node, tmp_path, "waits"))
        node.until(lambda: bool(node.ledger.jobs(states=[JobState.WAITING])), within_s=120)
        put(node, 0.25, WeightsStatus.DEMONSTRATION)
        (node.folder / "told").touch()
        jobs = [node.read(study)[0] for study in studies]
        assert [job.state for job in jobs] == [JobState.REPORTED] * 2
        assert all('"probability": 0.25' in job.result for job in jobs)
        assert all(NAME in job.withheld and "'spine'" in job.withheld for job in jobs)
        assert [node.ledger.deliveries(job.id) for job in jobs] == [(), ()]
        assert archive.stored == before

        put(node, 0.75, WeightsStatus.SITE)
        with pytest.raises(LookupError, match="allow_demonstration = true"):
            retry(load(node.config), node.ledger, jobs[0].id, Instruction(datetime.now(UTC)))

        routes = node.folder / "routes.toml"
        routes.write_text(routes.read_text() + "allow_demonstration = true\n")
        assert retry(load(node.config), node.ledger, jobs[0].id, Instruction(datetime.now(UTC))) == ("archive",)
        node.until(lambda: len(archive.stored) > len(before), within_s=120)
    (delivery,) = node.ledger.deliveries(jobs[0].id)
    assert archive.stored[len(before) :] == [delivery.document.ref.sop_instance_uid]
    assert node.ledger.deliveries(jobs[1].id) == ()
