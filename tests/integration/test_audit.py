"""The audit trail of a node that runs."""

from pathlib import Path

from pynetdicom import AE
from support import Orthanc
from support.node import RunningNode, configured, running
from support.studies import SIDE, written
from support.syslog import Event, events
from typer.testing import CliRunner

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.commands.cli import app
from ainode.node.settings import Peer

DX = "1.2.840.10008.5.1.4.1.1.1.1"
SR_3D = "1.2.840.10008.5.1.4.1.1.88.34"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def trail(node: RunningNode) -> list[Event]:
    return events(node.folder / "data" / "audit")


def verified(node: RunningNode) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["audit", "verify", "--config", str(node.config)])
    return result.exit_code, result.stdout


def refused_association(node: RunningNode) -> None:
    entity = AE("STRANGER")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", node.port, ae_title="WRONG")
    assert association.is_rejected


def test_a_node_records_who_was_refused_and_what_was_received_read_and_sent_and_the_chain_verifies(
    tmp_path: Path, archive: Orthanc
) -> None:
    peer = Peer(name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=archive.port)
    node = configured(tmp_path / "node", peers=[peer])
    study = written(tmp_path, "audited", instances=3)
    with running(node):
        refused_association(node)
        send(Link(node.peer, "ORTHANC"), [Outgoing.of(path) for path in study.paths])
        job, deliveries = node.read(study.uid)
    start, configuration, refusal, received, query, read, sent, stop = trail(node)
    assert [event.code for event in (start, stop)] == ["110100 110120", "110100 110121"]
    assert configuration.code == "110113 110131"
    assert configuration.details["Alert Description"] == "the first start with a trail"
    assert (refusal.code, refusal.outcome) == ("110113 110126", "4")
    assert refusal.titles[1] == "STRANGER"
    assert refusal.details["Alert Description"] == "CALLED_AE_TITLE_NOT_RECOGNIZED; called WRONG"
    assert (received.code, received.titles, received.subjects) == ("110104", ["ORTHANC", "AINODE"], [study.uid])
    assert received.counts == {DX: 3}
    assert (query.code, query.titles, query.subjects) == ("110112", ["AINODE", "ORTHANC"], [STUDY_ROOT_FIND])
    assert (read.code, read.titles, read.subjects) == ("110103", ["AINODE", "support.handler"], [study.uid])
    assert read.details["job"] == job.id
    assert len(read.details["weights_sha256"]) == 64
    assert (sent.code, sent.titles, sent.subjects) == ("110104", ["AINODE", "ORTHANC"], [study.uid])
    assert sum(sent.counts.values()) == len(deliveries)
    assert sent.counts[SR_3D] == 1
    assert verified(node)[0] == 0


def test_a_node_records_a_changed_configuration_and_a_changed_byte_is_found_by_the_command(tmp_path: Path) -> None:
    node = configured(tmp_path)
    with running(node):
        pass
    folder = tmp_path / "data" / "audit"
    node.config.write_text(node.config.read_text().replace("[node]", "[node]\nmax_associations = 7"))
    with running(node):
        pass
    sentences = [event.details["Alert Description"] for event in trail(node) if event.code == "110113 110131"]
    assert sentences == ["the first start with a trail", "changed since the last start: configuration"]
    (path,) = folder.glob("audit-*.log")
    assert [file.stat().st_mode & 0o777 for file in (path, folder)] == [0o600, 0o700]
    assert verified(node) == (0, f"{folder}: every record is as it was written\n")
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    assert verified(node) == (
        1,
        f"{path.name}: line 6, record 6: was changed\nhead: record 6 is another one than was written\n",
    )


def test_a_kill_in_the_middle_of_associations_leaves_a_chain_that_goes_on(tmp_path: Path) -> None:
    node = configured(tmp_path / "node", silence_s=5.0)
    paths = [
        path
        for number in range(3)
        for path in testing.write([testing.noise(SIDE, SIDE, seed=number)], tmp_path / str(number), study=str(number))
    ]
    node.start()
    try:
        send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
        node.until(lambda: len(trail(node)) > 3, within_s=20)
        node.kill()
        node.start()
    finally:
        node.stop()
    assert [event.number for event in trail(node)] == list(range(1, len(trail(node)) + 1))
    codes = [event.code for event in trail(node)]
    assert codes.count("110100 110120") == 2
    assert codes.count("110104") == 3  # one association, three studies
    assert verified(node)[0] == 0


def test_a_node_without_room_for_the_trail_goes_on_and_says_so(tmp_path: Path) -> None:
    node = configured(tmp_path / "node")
    (tmp_path / "node" / "data").mkdir()
    (tmp_path / "node" / "data" / "audit").write_bytes(b"in the way")
    with running(node):
        node.until(lambda: "the trail cannot be written" in node.log.read_text(), within_s=20)
        (tmp_path / "node" / "data" / "audit").unlink()
        node.until(lambda: "the trail is written again" in node.log.read_text(), within_s=20)
    assert trail(node)[0].code == "110100 110120"


def test_no_trail_is_no_proof(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["audit", "verify", str(tmp_path / "absent")])
    assert result.exit_code == 1
    assert "no audit trail is there" in result.output
