"""A study whose sender breaks off before the last image."""

from pathlib import Path

from pydicom import dcmread
from support.node import configured, running
from support.studies import associate, statuses, written

from ainode.node.deciding.completeness import BROKEN_OFF
from ainode.node.domain import UID, JobState


def test_a_study_whose_association_was_aborted_says_so_in_its_report_until_the_rest_came(tmp_path: Path) -> None:
    study = written(tmp_path, "study", instances=3)
    first, *others = study.paths
    with running(configured(tmp_path / "node")) as node:
        association = associate(node, first)
        assert association.send_c_store(dcmread(first)).Status == 0
        association.abort()
        job, _ = node.read(study.uid)
        assert job.state is JobState.REPORTED
        assert node.catalog.problem(UID(study.uid)) == BROKEN_OFF
        assert any(BROKEN_OFF.encode() in document.path.read_bytes() for document in node.ledger.documents(job.id))
        assert f"{BROKEN_OFF} action=interrupted" in node.log.read_text()
        assert statuses(node, others) == [0, 0]
        node.until(lambda: len(node.ledger.jobs(study=UID(study.uid))) == 2, within_s=60)
        later, _ = node.read(study.uid)
        assert len(later.content) == len(study.paths)
        assert node.catalog.problem(UID(study.uid)) == ""
