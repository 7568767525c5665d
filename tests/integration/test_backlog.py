"""How long a node needs for its start after a kill, with all that a busy day left behind."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support import a_file, instance_ref
from support.node import RunningNode, configured
from support.studies import stored, written

from ainode.node.domain import UID, JobState
from ainode.node.encoding.part10 import Origin, head, parse
from ainode.node.keeping.records import Job

JOBS = 600
STUDIES, INSTANCES = 80, 100
STUDY = "1.2.3.1000"
INDEXED_S = 180


def files() -> Iterator[bytes]:
    """Yield files as the spool has them; a UID in them takes the place of another of the same length."""
    template = a_file(study=STUDY, series=f"{STUDY}.1")
    origin, start = parse(template)
    instance = instance_ref(template).sop_instance_uid
    for study in range(STUDIES):
        of_study = template[start:].replace(STUDY.encode(), f"1.2.3.{1000 + study}".encode())
        for number in range(INSTANCES):
            uid = UID(f"{instance[:-6]}{1000 * study + number:06d}")
            meta = head(Origin(origin.sop_class_uid, uid, origin.transfer_syntax_uid, "PACS"))
            yield meta + of_study.replace(instance.encode(), uid.encode())


def open_jobs(node: RunningNode, like: Job) -> None:
    for number in range(JOBS):
        study = UID(f"1.2.4.{number}")
        node.ledger.open(
            Job(f"{number:032d}", study, like.route, like.handler, like.content, like.created_at, like.queued_at, ())
        )


def enqueued(node: RunningNode) -> int:
    """Return how many workflows wait, by the word of the engine's own table."""
    with closing(sqlite3.connect(node.folder / "data" / "workflows.sqlite")) as connection:
        query = "SELECT count(*) FROM workflow_status WHERE status = 'ENQUEUED'"
        return int(connection.execute(query).fetchone()[0])


@pytest.mark.parametrize("ready_s", [60, pytest.param(5, marks=pytest.mark.long)])
def test_a_node_that_was_killed_with_600_jobs_and_8000_unindexed_instances_is_soon_ready_and_indexes_them(
    tmp_path: Path, ready_s: float
) -> None:
    node = configured(tmp_path / "node")
    new = node.folder / "data" / "spool" / "new"
    node.start()
    try:
        stored(node, written(tmp_path, "hang", order="hang"))
        node.until(lambda: bool(node.ledger.jobs(states=[JobState.READING])), within_s=120)
        open_jobs(node, node.ledger.jobs()[0])
        node.kill()
        starts = [node.start()]
        node.until(lambda: enqueued(node) >= JOBS, within_s=120)
        node.kill()
        for number, content in enumerate(files()):
            (new / f"{number:020d}-00000000.dcm").write_bytes(content)
        starts.append(node.start())
        assert set(stored(node, written(tmp_path, "arriving"))) == {0x0000}
        ready_at = time.monotonic()
        node.until(lambda: not any(new.iterdir()), within_s=INDEXED_S)
        indexed_s = time.monotonic() - ready_at
        print(f"ready after {starts[0]:.1f} s, {starts[1]:.1f} s, indexed {indexed_s:.1f} s later")  # noqa: T201
        assert len(node.catalog.instances(UID(STUDY))) == INSTANCES
        assert max(starts) < ready_s
    finally:
        node.kill()
        node.engine.dispose()
