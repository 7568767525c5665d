"""The commands as an operator types them."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from support import a_file, installed, instance_ref
from support.judges import module_errors, set_errors
from support.node import ROOT, configured, running

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.commands import cli
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.keeping import database
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.reading import registry
from ainode.node.settings import Peer

STUDIES = len(registry.names())
"""of a demonstration: one of each handler"""
PATHS = f"{ROOT / '.ns'}{os.pathsep}{ROOT / 'tests'}"


def ainode(*arguments: object, home: Path, before: str = "", stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run a command with an empty home directory; `before` is a folder whose modules win."""
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(filter(None, (before, PATHS))),
        **{name: value for name, value in os.environ.items() if name == "OMP_NUM_THREADS"},
    }
    return subprocess.run(
        [sys.executable, "-m", "ainode.node.commands.cli", *map(str, arguments)],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
        cwd=home,
    )


def a_study(folder: Path, order: str = "read", **header: str) -> Path:
    image = testing.noise(512, 512, SeriesDescription=order, BodyPartExamined=header.pop("BodyPartExamined", "TSPINE"))
    testing.write([image], folder, study=f"{order} {header}")
    return folder


def without_packages(folder: Path, names: tuple[str, ...]) -> Path:
    """Return a folder of modules in whose presence a Python has none of some packages."""
    (folder / "only").mkdir()
    (folder / "only" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {names!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    return folder / "only"


def test_the_help_says_what_ainode_is_and_which_command_a_newcomer_types_first(tmp_path: Path) -> None:
    done = ainode("--help", home=tmp_path)
    sentence = " ".join(done.stdout.split())
    assert "ainode receives DICOM studies" in sentence
    assert "type `ainode demo` first" in sentence


def test_everything_that_ships_is_ready_on_a_fresh_installation(tmp_path: Path) -> None:
    installed("openvino", "timm", "torch", "ultralytics")
    done = ainode("check", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "route spine-radiograph" in done.stdout
    verified = ainode("weights", "verify", home=tmp_path)
    assert verified.returncode == 0, verified.stdout
    assert "spine_radiograph/detector" in ainode("weights", "list", home=tmp_path).stdout


def test_an_import_of_an_absent_file_ends_with_a_message_and_no_traceback(tmp_path: Path) -> None:
    options = ("--name", "x/y", "--model", "x", "--licence", "MIT", "--trained-on", "none")
    process = ainode("weights", "import", tmp_path / "absent.safetensors", *options, home=tmp_path)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr


@pytest.mark.timeout(900)
def test_the_demonstration_ends_with_a_table_of_documents_that_are_there(tmp_path: Path) -> None:
    installed("openvino", "timm", "torch", "ultralytics")
    done = ainode("demo", "--keep", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for route in (
        "spine-angles",
        "spine-radiograph",
        "lung-nodule",
        "ct-pneumonia",
        "ct-tumor",
        "pancreas-ct",
        "skin-lesion",
    ):
        assert route in done.stdout
    folder = tmp_path / "ainode-demo"
    reports = [folder / word for word in done.stdout.split() if word.endswith(".dcm")]
    assert [dcmread(path).Modality for path in reports] == ["SR"] * STUDIES
    # a whole spine, two radiographs, three slices of each CT for pneumonia and tumor, one of the pancreas, a nodule, a
    # photograph; summaries
    pictures = [folder / word for word in done.stdout.split() if word.endswith(".png")]
    assert len(pictures) == 1 + 3 + 4 + 4 + 1 + 1 + 1
    for path in pictures:
        with Image.open(path) as picture:
            assert min(picture.size) >= 100
    assert f"{STUDIES} of {STUDIES} synthetic studies were read" in done.stdout
    assert "Next:\n" in done.stdout
    assert re.search(r"^console: http://127\.0\.0\.1:\d+/  name: demo  password: \S{20}$", done.stdout, re.MULTILINE)
    last = f"{STUDIES} of {STUDIES}: "
    steps = (
        "the node starts",
        f"{STUDIES} synthetic studies are",
        f"sent 1 of {STUDIES}: ",
        f"reading {last}",
        f"read {last}",
    )
    assert sorted(steps, key=done.stdout.index) == list(steps)


def test_a_demonstration_in_which_no_study_is_read_says_why_of_each_and_ends_with_exit_1(tmp_path: Path) -> None:
    before = without_packages(tmp_path, ("torch", "openvino", "timm", "ultralytics", "cv2"))
    done = ainode("demo", home=tmp_path, before=str(before))
    assert done.returncode == 1
    assert f"FAILED: only 0 of {STUDIES} synthetic studies were read" in done.stdout
    assert re.search(rf"^FAILED \d of {STUDIES}: ct_pneumonia: .* is missing; .*pip install", done.stdout, re.MULTILINE)
    for name in ("ct-pneumonia", "ct_tumor", "lung-nodule", "skin_lesion", "spine_angles", "spine_radiograph"):
        assert re.search(rf"^  {name}: .*(torch|cv2) is missing; .*pip install", done.stdout, re.MULTILINE), name
    assert "check\n      see which packages" in done.stdout
    assert "Next:" not in done.stdout
    assert "Traceback" not in done.stderr


def test_the_first_administrator_is_made_by_a_command_and_has_no_default_password(tmp_path: Path) -> None:
    installed("argon2")
    assert ainode("init", tmp_path / "my", home=tmp_path).returncode == 0
    config = ("--config", tmp_path / "my" / "node.toml")
    refused = ainode("user", "add", "Chief", "--role", "administrator", *config, home=tmp_path)
    assert (refused.returncode, "--password-stdin" in refused.stderr) == (2, True)
    for password, status in (("too short\n", 2), ("four words of a person\n", 0)):
        options = ("--role", "administrator", "--password-stdin", *config)
        assert ainode("user", "add", "Chief", *options, home=tmp_path, stdin=password).returncode == status
    rows = ainode("user", "list", *config, home=tmp_path).stdout.splitlines()
    assert [row.split()[:2] for row in rows] == [["name", "role"], ["chief", "administrator"]]
    assert ainode("user", "role", "chief", "viewer", *config, home=tmp_path).returncode == 2
    assert ainode("user", "remove", "chief", *config, home=tmp_path).returncode == 0
    trail = (tmp_path / "my" / "data" / "audit").glob("*")
    text = "".join(path.read_text(encoding="utf-8") for path in trail if path.is_file())
    assert text.count("urn:ainode:person:chief") == 2
    assert "four words" not in text


def test_a_failed_reading_is_a_line_of_check_with_the_command_that_lists_it(tmp_path: Path) -> None:
    node = configured(tmp_path)
    (tmp_path / "data").mkdir(exist_ok=True)
    database.migrate(node.engine)
    well = ainode("check", "--config", node.config, home=tmp_path).stdout
    assert re.search(r"^reader +ready", well, re.MULTILINE)
    assert "attention" not in well
    now = datetime.now(UTC)
    for name in ("failed", "waits"):
        node.ledger.open(Job(name, UID(f"1.2.{len(name)}"), "spine", "support.handler", {}, now, now, ()))
    node.ledger.move("failed", JobState.READING)
    node.ledger.move("failed", JobState.FAILED, reason="it broke", at=now)
    done = ainode("check", "--config", node.config, home=tmp_path)
    assert done.returncode == 0
    line = r"^readings +attention +1 failed in the last 24 hours, `ainode jobs --failed` says why.*the last: it broke$"
    assert re.search(line, done.stdout, re.MULTILINE), done.stdout
    rows = ainode("jobs", "--failed", "--config", node.config, home=tmp_path).stdout
    assert "it broke" in rows
    assert "waits" not in rows


def test_a_destination_that_takes_nothing_is_a_line_of_check_and_its_job_is_listed(tmp_path: Path) -> None:
    node = configured(tmp_path)
    (tmp_path / "data").mkdir(exist_ok=True)
    database.migrate(node.engine)
    now = datetime.now(UTC)
    job = Job("unsent", UID("1.2.3"), "spine", "support.handler", {}, now, now, ("pacs",))
    node.ledger.open(job)
    node.ledger.move(job.id, JobState.READING)
    kept = KeptDocument(job.id, instance_ref(a_file()), DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")
    node.ledger.report(job, [kept], Outcome(JobState.REPORTED, "{}", "", 1.0, {}, now))
    node.ledger.outbox.failed_for_now(job.id, "pacs", DeliveryState.WAITING, error="connection refused")
    done = ainode("check", "--config", node.config, home=tmp_path)
    line = r"^deliveries +attention +1 document has not reached pacs: .*tries again; connection refused$"
    assert re.search(line, done.stdout, re.MULTILINE), done.stdout
    assert "connection refused" in ainode("jobs", "--failed", "--config", node.config, home=tmp_path).stdout


def test_a_reader_process_that_cannot_answer_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "sitecustomize.py").write_text(
        "import os, sys\nif any('ainode.node.reading.serving' in word for word in sys.orig_argv):\n    os._exit(9)\n"
    )
    done = ainode("check", "--config", configured(tmp_path).config, home=tmp_path, before=str(tmp_path / "only"))
    assert done.returncode == 1
    assert re.search(
        r"^reader +not ready +rehearsal: .*ended with code 9.* can read no study", done.stdout, re.MULTILINE
    )


def test_an_archive_that_does_not_answer_is_not_ready(tmp_path: Path) -> None:
    node = configured(tmp_path, peers=[Peer(name="gone", ae_title="GONE", host="127.0.0.1", port=1)])
    done = ainode("check", "--config", node.config, home=tmp_path)
    assert done.returncode == 1
    assert "peer gone" in done.stdout
    assert "not ready" in done.stdout
    assert "pynetdicom" not in done.stderr


def test_a_peer_that_rejects_the_node_is_a_line_of_the_table_and_none_of_a_library(tmp_path: Path) -> None:
    entity = AE("OTHER")
    entity.add_supported_context(Verification)
    entity.require_called_aet = True
    server = entity.start_server(("127.0.0.1", 0), block=False)
    peer = Peer(name="strict", ae_title="STRICT", host="127.0.0.1", port=server.server_address[1])
    node = configured(tmp_path, peers=[peer])
    done = ainode("check", "--config", node.config, home=tmp_path)
    server.shutdown()
    assert re.search(r"peer strict +not ready +strict: rejected our association", done.stdout)
    assert not done.stderr


def test_an_unknown_key_is_one_line_that_names_file_and_key_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[node]\nprot = 11112\n")
    done = ainode("check", "--config", tmp_path / "node.toml", home=tmp_path)
    assert done.returncode == 2
    assert "node.toml" in done.stderr
    assert "node.prot" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_study_is_read_from_files_into_documents_and_reports(tmp_path: Path) -> None:
    node = configured(tmp_path / "node")
    paths = a_study(tmp_path / "in")
    for turn in ("first", "second"):
        done = ainode("read", paths, "--out", tmp_path / turn, "--config", node.config, home=tmp_path)
        assert done.returncode == 0, done.stderr
    made = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert made == ["report.pdf", "report.txt", "result.json", "sr-1.dcm"]
    assert json.loads((tmp_path / "first" / "result.json").read_text())["scores"] == {"probability": 0.81}
    same = ((tmp_path / turn / "sr-1.dcm").read_bytes() for turn in ("first", "second"))
    assert len(set(same)) == 1


def test_what_no_route_takes_is_said_and_a_model_can_be_asked_for_by_name(tmp_path: Path) -> None:
    node = configured(tmp_path / "node")
    paths = a_study(tmp_path / "in", BodyPartExamined="HAND")
    done = ainode("read", paths, "--out", tmp_path / "out", "--config", node.config, home=tmp_path)
    assert done.returncode == 1
    assert "explain" in done.stderr
    explained = ainode("explain", paths, "--config", node.config, home=tmp_path).stdout
    assert "FAIL BodyPartExamined: expected SPINE, found HAND" in explained
    asked = ("read", paths, "--out", tmp_path / "out", "--model", "support.handler", "--config", node.config)
    assert ainode(*asked, home=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (("read", "", "--out", "out"), "after read"),
        (("read", "in", "--out", ""), "after --out"),
        (("read", "in", "--out="), "--out="),
        (("explain", ""), "after explain"),
        (("send", "in", "", "pacs"), "after in"),
        (("check", "--config", ""), "after --config"),
        (("init", ""), "after init"),
        (("train", "skin_lesion", "--data", "", "--out", "out"), "after --data"),
        (("evaluate", "skin_lesion", "--data", "in", "--out", "out", "--weights", " "), "after --weights"),
        (("weights", "import", ""), "after import"),
        (("audit", "verify", ""), "after verify"),
    ],
)
def test_an_empty_argument_is_not_taken_for_the_folder_of_the_caller(
    command: tuple[str, ...], place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ainode", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert f"an argument is empty ({place}); a shell variable may have no value" in capsys.readouterr().err


def test_a_study_that_every_model_refuses_has_an_exit_status_of_its_own(tmp_path: Path) -> None:
    node = configured(tmp_path / "node")
    refused = a_study(tmp_path / "refused", order="decline")
    done = ainode("read", refused, "--out", tmp_path / "out", "--config", node.config, home=tmp_path)
    assert done.returncode == 3
    assert "this study asks to be declined" in done.stdout
    both = ainode(
        *("read", refused, a_study(tmp_path / "read")),
        *("--out", tmp_path / "out", "--config", node.config),
        home=tmp_path,
    )
    assert both.returncode == 0


def test_files_without_a_study_are_not_told_to_match_no_route(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_text("text")
    done = ainode("read", tmp_path / "a.nii", "--out", tmp_path / "out", home=tmp_path)
    assert done.returncode == 1
    assert "a.nii: it is no NIfTI file" in done.stderr
    assert "no study is in these files" in done.stderr
    assert "route" not in done.stderr


def test_three_volumes_with_a_voxel_each_are_read_as_one_patient_over_time(tmp_path: Path) -> None:
    nrrd: Any = pytest.importorskip("nrrd")
    node = configured(tmp_path / "node")
    space = {"space directions": np.diag((0.5, 0.75, 2.0)), "space origin": (-10.0, -20.0, 30.0)}
    paths = [tmp_path / f"{name}.nrrd" for name in ("oldest", "older", "newest")]
    for number, path in enumerate(paths):
        values = np.full((8, 9, 5), number, np.int16)
        nrrd.write(str(path), values, {"space": "left-posterior-superior", **space})
    points = ("--point", "1,2,3", "--point", "2,3,4", "--point", "0,0,0", "--point-is", "index")
    asked = (*paths, *points, "--model", "support.pointed", "--out", tmp_path / "out", "--config", node.config)
    done = ainode("read", *asked, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("compared with study") == 2
    scores = json.loads((tmp_path / "out" / "result.json").read_text())["scores"]
    assert (scores["series"], scores["instances"]) == (3, 15)
    assert [scores[f"{axis} 0"] for axis in "xyz"] == [-10, -20, 30]
    assert [scores[f"{axis} 1"] for axis in "xyz"] == [-9.5, -18.5, 36]
    report, current = tmp_path / "out" / "sr-1.dcm", tmp_path / "out" / "converted" / "2" / "0001.dcm"
    assert dcmread(report).StudyInstanceUID == dcmread(current).StudyInstanceUID
    assert module_errors(report) + set_errors([report], [current]) == []
    one_short = ainode("read", *asked[:7], *asked[9:], home=tmp_path)
    assert one_short.returncode == 2
    assert "2 points for 3 studies" in one_short.stderr


def test_a_negative_position_in_mm_is_taken_and_one_outside_is_said(tmp_path: Path) -> None:
    nib: Any = pytest.importorskip("nibabel")
    node = configured(tmp_path / "node")
    nib.save(nib.Nifti1Image(np.zeros((8, 9, 5), np.int16), np.diag((1.0, 1.0, 2.0, 1.0))), tmp_path / "a.nii.gz")
    asked = ("--model", "support.pointed", "--out", tmp_path / "out", "--config", node.config)
    done = ainode("read", tmp_path / "a.nii.gz", "--point", "-3,-4.5,2", *asked, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "result.json").read_text())["scores"]["y 0"] == -4.5
    outside = ainode("read", tmp_path / "a.nii.gz", "--point", "3,4.5,2", *asked, home=tmp_path)
    assert outside.returncode == 2
    assert "outside of the images" in outside.stderr
    assert "(see --point and --point-is)" in outside.stderr


def test_a_picture_of_a_slice_becomes_a_report_without_its_file_name(tmp_path: Path) -> None:
    node = configured(tmp_path / "node")
    Image.new("RGB", (64, 48), "gray").save(tmp_path / "Mustermann.jpg")
    asked = ("--model", "support.pointed", "--out", tmp_path / "out", "--config", node.config)
    done = ainode("read", tmp_path / "Mustermann.jpg", "--body-part", "abdomen", *asked, home=tmp_path)
    assert done.returncode == 0, done.stderr
    made = dcmread(tmp_path / "out" / "converted" / "0" / "0001.dcm")
    assert (made.Modality, made.BodyPartExamined) == ("OT", "ABDOMEN")
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"Mustermann" not in path.read_bytes()


def test_files_are_sent_to_a_peer_and_a_received_study_is_explained(tmp_path: Path) -> None:
    node = configured(tmp_path / "node")
    paths = a_study(tmp_path / "in", order="decline")
    with running(node):
        own = Peer(name="node", ae_title="AINODE", host="127.0.0.1", port=node.port)
        sender = configured(tmp_path / "sender", peers=[own])
        sender.config.write_text(sender.config.read_text().replace("[node]", '[node]\nae_title = "SENDER"', 1))
        done = ainode("send", paths, "node", "--config", sender.config, home=tmp_path)
        assert "1 of 1 stored by node" in done.stdout, done.stderr
        study = str(dcmread(next(paths.iterdir())).StudyInstanceUID)
        node.read(study)
        explained = ainode("explain", study, "--config", node.config, home=tmp_path).stdout
        assert "spine: yes, modality DX" in explained
        assert "this study asks to be declined" in explained
        assert "declined" in ainode("jobs", "--config", node.config, home=tmp_path).stdout


def test_a_node_without_network_libraries_receives_and_says_which_package_its_route_lacks(tmp_path: Path) -> None:
    blocked = ("torch", "openvino", "timm", "ultralytics", "cv2", "monai", "tensorflow")
    before = without_packages(tmp_path, blocked)
    routes = (ROOT / "config" / "routes.toml").read_text(encoding="utf-8")
    node = configured(tmp_path / "node", routes=routes)
    node.before = before
    with running(node):
        paths = sorted(a_study(tmp_path / "in").iterdir())
        sent = send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
        assert [one.error for one in sent] == [None]
        job, _ = node.read(str(dcmread(paths[0]).StudyInstanceUID))
        assert job.state is JobState.FAILED
        assert re.search("is missing; .*pip install", job.reason)
