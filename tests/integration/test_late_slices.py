"""A slice that comes late from an archive which has the node's report by then."""

from pathlib import Path

from support import orthanc
from support.node import configured, running
from support.studies import written

from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import UID, JobState
from ainode.node.settings import Peer


def arrive(peer: Peer, path: Path) -> None:
    (answer,) = send(Link(peer, "ORTHANC"), [Outgoing.of(path)])
    assert answer.error is None


def test_a_late_slice_from_an_archive_that_has_our_report_is_read_at_once(tmp_path: Path) -> None:
    study = written(tmp_path, "study", instances=2)
    with orthanc(tmp_path / "archive") as archive:
        node = configured(tmp_path / "node", peers=[archive.peer])
        node.config.write_text(node.config.read_text().replace("max_silence_s = 5.0", "max_silence_s = 300.0"))

        def job_count() -> int:
            return len(node.ledger.jobs(study=UID(study.uid)))

        with running(node):
            for count, path in enumerate(study.paths, start=1):
                arrive(archive.peer, path)
                arrive(node.peer, path)
                node.until(lambda expected=count: job_count() == expected, within_s=120)  # type: ignore[misc]
                job, deliveries = node.read(study.uid, within_s=120)
                assert (job.state, len(job.content)) == (JobState.REPORTED, count)
                assert deliveries
