"""Starts of a whole node: those that its data folder does not allow, and those that have something to take up."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.intake_bench import intake_bench
from support.node import ROOT, RunningNode, configured, running
from support.servers import free_port
from support.studies import stored, written

from ainode.node import testing
from ainode.node.domain import UID, JobState
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.reading import family
from ainode.node.reading.readers import Readers
from ainode.node.reading.weights import environment
from ainode.node.settings import NodeTable, ReaderTable, Settings, load


def refusal(node: RunningNode) -> str:
    """Start a node that is refused; return what it wrote."""
    variables = os.environ | {"PYTHONPATH": f"{ROOT / '.ns'}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "ainode.node.commands.cli", "serve", "--config", str(node.config)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120, check=False)
    assert done.returncode == 2
    return done.stderr


def test_a_second_node_on_one_data_folder_is_refused_in_one_line_and_the_first_goes_on(tmp_path: Path) -> None:
    first = configured(tmp_path / "first")
    second = configured(tmp_path / "second")
    text = second.config.read_text().replace(str(tmp_path / "second"), str(tmp_path / "first"))
    second.config.write_text(text)
    with running(first):
        (line,) = refusal(second).splitlines()
        assert f"another node runs on {tmp_path / 'first' / 'data'}" in line
        assert first.process
        assert first.process.poll() is None
        first.kill()
        second.start()
        second.stop()


def test_a_start_ends_what_the_readers_of_a_killed_node_had_started(tmp_path: Path) -> None:
    node = configured(tmp_path)
    settings = load(node.config)
    mark = Readers((), environment(settings), settings.reader, print).mark
    inherited = os.environ | {family.MARK: f"{mark}0123"}
    with subprocess.Popen(["sleep", "600"], env=inherited, start_new_session=True) as process, running(node):
        assert process.wait(60) == -signal.SIGKILL


def test_two_nodes_that_share_their_converted_networks_do_not_end_each_others_readers(tmp_path: Path) -> None:
    reader = ReaderTable(networks=tmp_path / "networks")
    nodes = [Settings(node=NodeTable(data=tmp_path / name), reader=reader) for name in ("first", "second")]
    first, second = [Readers((), environment(settings), settings.reader, print) for settings in nodes]
    assert environment(nodes[0]).cache == environment(nodes[1]).cache == tmp_path / "networks"
    assert first.mark != second.mark


def test_a_node_whose_database_file_is_damaged_says_in_one_line_what_to_do(tmp_path: Path) -> None:
    node = configured(tmp_path)
    path = tmp_path / "data" / "catalog.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    (line,) = refusal(node).splitlines()
    assert str(path) in line
    assert "move it away" in line


def document_uids(node: RunningNode, study: str) -> set[str]:
    """Wait until a study is reported; return the UIDs of its documents."""
    node.until(lambda: any(job.state is JobState.REPORTED for job in node.ledger.jobs(study=UID(study))), within_s=120)
    (job,) = node.ledger.jobs(study=UID(study))
    return {document.ref.sop_instance_uid for document in node.ledger.documents(job.id)}


def test_a_node_whose_database_is_removed_under_it_ends_and_the_next_start_reads_the_spool_again(
    tmp_path: Path,
) -> None:
    study = written(tmp_path, "study", instances=2)
    node = configured(tmp_path / "node")
    with running(node):
        assert stored(node, study) == [0, 0]
        first_uids = document_uids(node, study.uid)
        node.engine.dispose()
        (tmp_path / "node" / "data" / "catalog.sqlite").unlink()
        assert node.process
        assert node.process.wait(120) == 1
        assert "the database file was removed or replaced under the node" in node.log.read_text()
        node.start()
        assert document_uids(node, study.uid) == first_uids
        assert "recovered: 2 instances, 1 studies; resumed: 0 tasks of jobs; set aside: 0 files" in node.log.read_text()


def test_a_start_after_a_crash_says_in_one_line_what_it_took_up_and_jobs_names_what_cannot_be_read(
    tmp_path: Path,
) -> None:
    study = written(tmp_path, "study", instances=3)
    node = configured(tmp_path / "node", silence_s=20.0)
    node.config.write_text(node.config.read_text().replace("max_silence_s = 5.0", "max_silence_s = 20.0"))
    with running(node):
        assert stored(node, study) == [0, 0, 0]
        node.until(lambda: len(node.catalog.instances(UID(study.uid))) == 3, within_s=120)
        node.kill()
        kept = [entry.path for entry in node.catalog.instances(UID(study.uid))]
        spool = Spool(tmp_path / "node" / "data" / "spool", Limits(0, 1 << 30))
        kept[0].rename(tmp_path / "node" / "data" / "spool" / "new" / "lost.dcm")
        kept[1].unlink()
        (tmp_path / "node" / "data" / "spool" / "new" / "damaged.dcm").write_bytes(b"damaged")
        node.start()
        document_uids(node, study.uid)
        lines = [line for line in node.log.read_text().splitlines() if "recovered:" in line]
        assert len(lines) == 1
        assert "recovered: 1 instances, 1 studies; resumed: 0 tasks of jobs; set aside: 1 files" in lines[0]
        assert [path.name for path in spool.damaged()] == ["damaged.dcm"]
        output = jobs_output(node)
        assert "1 of 3 instances cannot be read" in output
        assert "1 file " in output
        (job,) = node.ledger.jobs()
        assert len(job.content) == 2
        assert "1 of 3 instances cannot be read" in job.result


def jobs_output(node: RunningNode) -> str:
    variables = os.environ | {"PYTHONPATH": f"{ROOT / '.ns'}{os.pathsep}{ROOT / 'tests'}", "COLUMNS": "1000"}
    command = [sys.executable, "-m", "ainode.node.commands.cli", "jobs", "--config", str(node.config)]
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120, check=True).stdout


@pytest.mark.long
def test_a_node_with_a_backlog_of_8000_instances_and_600_studies_is_ready_within_five_seconds(tmp_path: Path) -> None:
    data = tmp_path / "node" / "data"
    data.mkdir(parents=True)
    bench = intake_bench(data)
    for study in range(600):
        bench.left(study, StudyInstanceUID=testing.uid("waiting", study))
    bench.intake.recover(datetime.now(UTC))
    for number in range(8000):
        bench.left(number, StudyInstanceUID=testing.uid("lost", number // 100))
    bench.engine.dispose()
    empty, full = configured(tmp_path / "empty"), configured(tmp_path / "node")
    with running(empty):
        empty.kill()
        usual_s = empty.start()  # of this machine, as busy as it is
    try:
        assert full.start() < max(5.0, 2 * usual_s)
        full.until(lambda: "recovered: 8000 instances, 680 studies" in full.log.read_text(), within_s=120)
    finally:
        full.stop()


def test_a_damaged_file_of_the_workflows_is_set_aside_at_the_start_and_the_studies_are_read(tmp_path: Path) -> None:
    study = written(tmp_path, "study")
    node = configured(tmp_path / "node")
    path = tmp_path / "node" / "data" / "workflows.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    with running(node):
        assert stored(node, study) == [0]
        assert document_uids(node, study.uid)
    assert path.with_name("workflows.sqlite.damaged").exists()
    assert "workflows_set_aside" in node.log.read_text()


def test_a_node_whose_file_of_the_workflows_is_removed_under_it_ends_and_the_next_start_reads_what_came(
    tmp_path: Path,
) -> None:
    study = written(tmp_path, "study")
    node = configured(tmp_path / "node")
    with running(node):
        (tmp_path / "node" / "data" / "workflows.sqlite").unlink()
        assert node.process
        assert node.process.wait(120) == 1
        assert "the database file was removed or replaced under the node" in node.log.read_text()
        node.start()
        assert stored(node, study) == [0]
        assert document_uids(node, study.uid)


def test_a_start_with_the_web_interface_says_the_address_of_the_console(tmp_path: Path) -> None:
    port = free_port()
    with running(configured(tmp_path, more=f"[web]\nenabled = true\nport = {port}")) as node:
        assert f"console: http://127.0.0.1:{port}/" in node.log.read_text(encoding="utf-8")
