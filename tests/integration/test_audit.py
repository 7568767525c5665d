"""The audit trail of a node that runs."""

from pathlib import Path

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from support import Orthanc, free_port, installed, storescp
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


def run_command(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


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
    number, digest = (folder / "head").read_text().split()
    words = f"every record is as it was written; the last is record {int(number)}, sha256 {digest}\n"
    assert verified(node) == (0, f"{folder}: {words}")
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    assert verified(node) == (
        1,
        f"{path.name}: line 6, record 6: was changed\nhead: record 6 is another one than was written\n",
    )


def test_what_an_association_brought_before_a_kill_is_in_a_chain_that_goes_on(tmp_path: Path) -> None:
    node = configured(tmp_path / "node", silence_s=5.0)
    images = [testing.noise(SIDE, SIDE, seed=number) for number in range(3)]
    paths = testing.write(images, tmp_path / "images", study="cut off")
    node.start()
    try:
        with Link(node.peer, "MODALITY").associate([build_context(DX, ExplicitVRLittleEndian)]) as association:
            for path in paths:
                assert association.send_c_store(dcmread(path)).Status == 0
            node.kill()
        node.start()
        node.until(lambda: any(event.code == "110104" for event in trail(node)), within_s=120)
    finally:
        node.stop()
    assert [event.code for event in trail(node)].count("110100 110120") == 2
    received = [event for event in trail(node) if event.code == "110104"]
    assert [(event.titles, event.counts) for event in received] == [(["MODALITY", "AINODE"], {DX: 3})]
    assert "killed" in received[0].details["recovered"]
    assert verified(node)[0] == 0


def test_a_node_without_room_for_the_trail_goes_on_and_says_so(tmp_path: Path) -> None:
    node = configured(tmp_path / "node")
    obstacle = tmp_path / "node" / "data" / "audit" / "head"
    obstacle.mkdir(parents=True)
    with running(node):
        node.until(lambda: "the trail cannot be written" in node.log.read_text(), within_s=120)
        obstacle.rmdir()
        node.until(lambda: "the trail is written again" in node.log.read_text(), within_s=120)
    assert trail(node)[0].code == "110100 110120"


def test_no_trail_is_no_proof(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["audit", "verify", str(tmp_path / "absent")])
    assert result.exit_code == 1
    assert "no audit trail is there" in result.output


def test_commands_that_change_who_may_call_or_what_reads_are_in_the_trail_of_a_node_that_runs(tmp_path: Path) -> None:
    node = configured(tmp_path / "node")
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"0" * 16)
    with running(node):
        run_command("token", "add", "console", "--config", str(node.config))
        labels = ("--name", "own", "--model", "spine_radiograph", "--licence", "none", "--trained-on", "nothing")
        run_command("weights", "import", str(weights), *labels, "--config", str(node.config))
        run_command("token", "remove", "console", "--config", str(node.config))
    changes = [(event.code, event.subjects[0], event.details["Alert Description"]) for event in trail(node)[2:-1]]
    assert changes == [
        ("110113 110137", "urn:ainode:token:console", "a token was added"),
        ("110113 110131", "urn:ainode:weights:own", "imported"),
        ("110113 110137", "urn:ainode:token:console", "a token was removed"),
    ]
    assert verified(node)[0] == 0


def test_the_callers_of_the_web_interface_and_strangers_to_it_are_in_the_trail(tmp_path: Path) -> None:
    installed("fastapi", "uvicorn", "requests")
    import requests
    from support.web_bench import MULTIPART, multipart

    port = free_port()
    node = configured(tmp_path / "node", more=f"[web]\nenabled = true\nport = {port}")
    with running(node):
        token = run_command("token", "add", "console", "--config", str(node.config)).strip()
        address = f"http://127.0.0.1:{port}/studies/1.2.3"
        for _ in range(3):
            assert requests.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=60).status_code == 404
        for _ in range(12):
            requests.get(address, headers={"Authorization": "Bearer guess"}, timeout=60)
        requests.post(
            f"http://127.0.0.1:{port}/dicom-web/studies",
            data=multipart(written(tmp_path, "uploaded").paths[0].read_bytes()),
            headers={"Authorization": f"Bearer {token}", "Content-Type": MULTIPART},
            timeout=120,
        ).raise_for_status()
    events_after = trail(node)[3:-1]
    logins = [(event.outcome, event.titles[0]) for event in events_after if event.code == "110114 110122"]
    assert logins == [("0", "console"), ("4", "unknown"), ("4", "unknown")]
    received = [event for event in events_after if event.code == "110104"]
    assert [(event.titles, event.counts) for event in received] == [(["console", "AINODE"], {DX: 1})]
    assert token not in "".join(path.read_text() for path in (node.folder / "data" / "audit").iterdir())


def test_the_patient_of_a_study_is_in_the_trail_where_the_configuration_asks(tmp_path: Path) -> None:
    node = configured(tmp_path / "node", more="[audit]\npatient_id = true")
    study = written(tmp_path, "identified")
    with running(node):
        send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in study.paths])
        node.read(study.uid)
    about_study = [(event.code, *event.subjects) for event in trail(node) if study.uid in event.subjects]
    patient_id = dcmread(study.paths[0]).PatientID
    assert patient_id
    assert about_study == [("110104", study.uid, patient_id), ("110103", study.uid, patient_id)]


def test_files_that_a_command_sends_are_in_the_trail(tmp_path: Path) -> None:
    with storescp(tmp_path / "archive") as server:
        node = configured(tmp_path / "node", peers=[server.peer])
        study = written(tmp_path, "sent", instances=2)
        run_command("send", *map(str, study.paths), "storescp", "--config", str(node.config))
    (sent,) = trail(node)
    assert (sent.code, sent.titles[:2], sent.subjects) == ("110104", ["AINODE", "STORESCP"], [study.uid])
    assert sent.counts == {DX: 2}
