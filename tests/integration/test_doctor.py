"""`ainode doctor` against archives that can everything, little, and nothing."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from support import Orthanc, free_port, storescp
from support.entities import served
from support.judges import module_errors
from support.node import ROOT, configured
from support.web_archives import Answer, dicomweb_orthanc, http, said, web_peer
from typer.testing import CliRunner

from ainode.node.archive.multipart import boundary_of, parts
from ainode.node.commands import cli
from ainode.node.diagnosis.advice import Examination, Trial, advice, problems
from ainode.node.diagnosis.doctor import examine
from ainode.node.diagnosis.doctor_objects import PATIENT, Specimen, synthetic_study
from ainode.node.routes import PriorRule, Route
from ainode.node.settings import NodeTable, Peer, PriorsTable, Settings, WorklistTable

NOW = datetime(2026, 2, 1, 12, 30, tzinfo=UTC)
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
SR_3D = "1.2.840.10008.5.1.4.1.1.88.34"


def examined(peer: Peer, port: int = 0, move_port: int = 0) -> Examination:
    settings = Settings(node=NodeTable(port=port or free_port()), priors=PriorsTable(move_port=move_port))
    return examine(peer, settings, token=f"test {peer.name}", now=NOW)


@pytest.fixture(scope="module")
def our_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def move_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, our_port: int, move_port: int) -> Iterator[tuple[Orthanc, Peer]]:
    folder = tmp_path_factory.mktemp("orthanc")
    known = {"ainode": ("AINODE", our_port), "priors": ("AINODE_PRIORS", move_port)}
    with dicomweb_orthanc(folder, known) as started:
        yield started


def test_an_orthanc_can_all_that_its_dcmtk_knows_and_keeps_nothing(
    archive: tuple[Orthanc, Peer], our_port: int, move_port: int
) -> None:
    server, peer = archive
    examination = examined(peer, our_port, move_port)
    # Its DCMTK is older than the class, its REST interface takes any.
    assert [trial.name for trial in examination.trials if trial.outcome != "yes"] == ["store Label Map Segmentation"]
    assert [trial.detail for trial in examination.trials if trial.name == "storage commitment"] == ["8 of 8 committed"]
    assert len([trial for trial in examination.trials if "store " in trial.name]) == 18
    assert examination.works("C-MOVE")
    optional = {"presentation_state": True, "segmentation": "fractional"}
    assert advice(examination) == {
        "deliver": "dimse",
        "sr": "3d",
        "confirm": "commitment",
        "retrieve": "get",
        **optional,
    }
    assert problems(examination) == ()
    assert examination.remaining_studies == ()
    assert server.call("GET", "/studies").strip() == b"[]"


def test_what_cannot_be_removed_is_named(archive: tuple[Orthanc, Peer]) -> None:
    server, peer = archive
    examination = examined(peer.model_copy(update={"orthanc": "", "dicomweb": ""}))
    assert examination.outcome("removed again") == "no"
    (study,) = examination.remaining_studies
    kept = server.instances_of(study)
    assert len(kept) == 8
    names = {str(dcmread(BytesIO(server.download(one))).PatientName) for one in kept.values()}
    assert names == {PATIENT}


def test_a_running_node_takes_the_report_that_the_doctor_cannot_see(
    archive: tuple[Orthanc, Peer], our_port: int
) -> None:
    with socket.create_server(("127.0.0.1", our_port)):
        examination = examined(archive[1].model_copy(update={"dicomweb": ""}), our_port)
    assert examination.outcome("storage commitment") == "open"
    assert "running node" in next(trial.detail for trial in examination.trials if trial.name == "storage commitment")
    assert advice(examination)["confirm"] == "query"


@pytest.mark.parametrize(
    "keys", [{}, {"deliver": "dicomweb", "dicomweb": "http://127.0.0.1:PORT"}], ids=["DIMSE", "DICOMweb"]
)
def test_of_an_archive_that_does_not_answer_nothing_is_concluded_but_this(tmp_path: Path, keys: dict[str, str]) -> None:
    port = free_port()
    lines = {name: value.replace("PORT", str(port)) for name, value in keys.items()}
    peer = {"name": "away", "ae_title": "AWAY", "host": "127.0.0.1", "port": port, **lines}
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in peer.items())
    (tmp_path / "node.toml").write_text(f'[node]\ndata = "{tmp_path}"\n[[peer]]\n{text}\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    done = CliRunner().invoke(cli.app, ["doctor", "away", "--config", str(tmp_path / "node.toml")])
    assert done.exit_code == 1
    assert "away: the archive did not answer: " in done.output
    assert "does not work" not in done.output
    assert "Seen to work" not in done.output


def test_a_plain_receiver_can_only_store(tmp_path: Path) -> None:
    with storescp(tmp_path) as server:
        examination = examined(server.peer)
    assert {trial.name: trial.outcome for trial in examination.trials if "store " not in trial.name} == {
        "C-ECHO": "yes",
        "storage commitment": "no",
        "C-FIND": "no",
        "C-GET": "no",
        "removed again": "no",
    }
    optional = {"presentation_state": True, "segmentation": "fractional"}
    assert advice(examination) == {"deliver": "dimse", "sr": "3d", "confirm": "none", **optional}
    assert problems(examination) == ('confirm = "query" does not work there; set confirm = "none"',)


@pytest.mark.parametrize("refuses_late", [False, True])
def test_an_archive_without_comprehensive_3d_is_to_get_comprehensive(*, refuses_late: bool) -> None:
    def store(event: evt.Event) -> int:
        return 0xA900 if str(event.request.AffectedSOPClassUID) == SR_3D else 0x0000

    entity = AE("OLD")
    entity.add_supported_context("1.2.840.10008.1.1")
    for specimen in synthetic_study("old", NOW):
        if refuses_late or specimen.ref.sop_class_uid != SR_3D:
            entity.add_supported_context(specimen.ref.sop_class_uid)
    with served(entity, (evt.EVT_C_STORE, store)) as port:
        examination = examined(Peer(name="old", ae_title="OLD", host="127.0.0.1", port=port, confirm="none"))
    assert examination.outcome("store Comprehensive 3D SR") == "no"
    assert advice(examination)["sr"] == "comprehensive"
    assert problems(examination) == ('sr = "3d" does not work there; set sr = "comprehensive"',)


def test_an_archive_that_is_not_there_has_one_line_each_way() -> None:
    port = free_port()
    peer = Peer(
        name="gone", ae_title="GONE", host="127.0.0.1", port=port, dicomweb=f"http://127.0.0.1:{port}/dicom-web"
    )
    examination = examined(peer)
    assert {trial.outcome for trial in examination.trials} == {"no"}
    assert len([trial for trial in examination.trials if "STOW" not in trial.name]) == 1
    assert advice(examination) == {}
    (problem,) = problems(examination)
    assert problem.startswith("the archive did not answer: gone: no association")


def test_a_web_service_that_refuses_everything_is_reported_not_raised() -> None:
    with http(lambda request: said(request, 500)) as peer:
        examination = examined(peer.model_copy(update={"orthanc": peer.dicomweb}))
    assert {trial.outcome for trial in examination.trials} == {"no"}


def test_an_archive_of_dicomweb_alone_is_tried_by_dicomweb_alone(archive: tuple[Orthanc, Peer]) -> None:
    peer = web_peer(archive[1].dicomweb).model_copy(update={"orthanc": archive[1].orthanc})
    examination = examined(peer)
    optional = {"presentation_state": True, "segmentation": "labelmap"}
    assert advice(examination) == {
        "deliver": "dicomweb",
        "sr": "3d",
        "confirm": "query",
        "retrieve": "dicomweb",
        **optional,
    }
    assert examination.remaining_studies == ()
    assert not [trial for trial in examination.trials if trial.name == "C-ECHO"]


# Only what was seen to work


PAGE = "<title>Sign in</title>"


def test_a_sign_in_page_is_no_store_and_nothing_is_advised() -> None:
    def page(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/html")
        request.send_header("Content-Length", str(len(PAGE)))
        request.end_headers()
        request.wfile.write(PAGE.encode())

    with http(page) as peer:
        examination = examined(peer.model_copy(update={"confirm": "none"}))
    assert {trial.outcome for trial in examination.trials if "store " in trial.name} == {"open"}
    assert {trial.outcome for trial in examination.trials if "store " not in trial.name} == {"no"}
    assert all('says "Sign in"' in trial.detail for trial in examination.trials if "store " in trial.name)
    assert advice(examination) == {}
    assert 'deliver = "dicomweb" was not seen to work there; no other value works: see the table' in problems(
        examination
    )


def test_an_archive_of_small_pages_is_confirmed_by_query() -> None:
    """200 matches a page at most, as the DICOM service of Azure allows."""
    kept: dict[str, Dataset] = {}
    with http(small_pages(kept, most=200)) as peer:
        examination = examined(peer)
    assert examination.works("QIDO-RS")
    assert advice(examination)["confirm"] == "query"
    assert not [sentence for sentence in problems(examination) if "confirm" in sentence]


def test_what_an_archive_takes_and_drops_is_not_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ainode.node.diagnosis.doctor._INDEXED_S", 0.0)
    kept: dict[str, Dataset] = {}
    with http(small_pages(kept, most=200, dropped=SR_3D)) as peer:
        examination = examined(peer)
    assert examination.outcome("STOW-RS: store Comprehensive 3D SR") == "open"
    assert advice(examination)["sr"] == "comprehensive"
    assert 'sr = "3d" was not seen to work there; set sr = "comprehensive"' in problems(examination)


def small_pages(kept: dict[str, Dataset], *, most: int, dropped: str = "") -> Answer:
    """Answer as an archive that refuses a larger page, and drops one SOP class without a word."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        path, _, question = request.path.partition("?")
        query = dict(parse_qsl(question))
        if request.command == "POST":
            boundary = boundary_of(request.headers["Content-Type"])
            assert boundary
            names = []
            for part in parts(iter([request.body]), boundary):  # type: ignore[attr-defined]
                dataset = dcmread(BytesIO(b"".join(part)))
                names.append({"00081155": {"vr": "UI", "Value": [dataset.SOPInstanceUID]}})
                if dataset.SOPClassUID != dropped:
                    kept[dataset.SOPInstanceUID] = dataset
            said(request, 200, {"00081199": {"vr": "SQ", "Value": names}})
        elif not 1 <= int(query.get("limit", 100)) <= most:
            said(request, 400, "limit")
        else:
            listed = [
                {"00080018": {"vr": "UI", "Value": [uid]}}
                for uid, dataset in kept.items()
                if dataset.SeriesInstanceUID in path or query.get("SOPInstanceUID") == uid
            ]
            said(request, 200, listed[int(query.get("offset", 0)) :])

    return answer


@contextmanager
def archive_of(*handlers: tuple[evt.EventType, Callable[[evt.Event], Any]]) -> Iterator[Peer]:
    """Yield the peer of an archive that stores and is queried by these handlers."""
    entity = AE("OWN")
    for uid in ("1.2.840.10008.1.1", FIND, *(specimen.ref.sop_class_uid for specimen in synthetic_study("x", NOW))):
        entity.add_supported_context(uid)
    with served(entity, *handlers) as port:
        yield Peer(name="own", ae_title="OWN", host="127.0.0.1", port=port, confirm="none")


def test_a_query_that_fails_for_now_is_tried_once_more_before_the_doctor_advises() -> None:
    stored: list[str] = []
    queries: list[Dataset] = []

    def store(event: evt.Event) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        queries.append(event.identifier)
        if len(queries) == 1:
            yield 0xA700, None  # out of resources
            return
        for uid in stored:
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.SOPInstanceUID = "IMAGE", uid
            yield 0xFF00, answer

    with archive_of((evt.EVT_C_STORE, store), (evt.EVT_C_FIND, find)) as peer:
        examination = examined(peer)
    assert examination.outcome("C-FIND") == "yes"
    assert advice(examination)["confirm"] == "query"


def test_words_of_an_archive_are_in_the_table() -> None:
    def store(_: evt.Event) -> Dataset:
        answer = Dataset()
        answer.Status, answer.ErrorComment = 0xB000, "Patient ID replaced"
        return answer

    with archive_of((evt.EVT_C_STORE, store)) as peer:
        examination = examined(peer)
    details = {trial.detail for trial in examination.trials if "store " in trial.name}
    assert all('changed it (status 0xB000); says "Patient ID replaced"' in detail for detail in details)


@pytest.mark.parametrize(("retrieve", "sentences"), [("get", ()), ("move", ("retrieve",))])
def test_a_retrieval_that_a_route_needs_was_seen_to_work(
    archive: tuple[Orthanc, Peer], our_port: int, retrieve: str, sentences: tuple[str, ...]
) -> None:
    peer = archive[1].model_copy(update={"dicomweb": "", "retrieve": retrieve, "name": "old"})
    route = Route("follow", "lung_nodule", priors=PriorRule("old"))
    settings = Settings(node=NodeTable(port=our_port), routes=(route,))
    examination = examine(peer, settings, token=f"needs {retrieve}", now=NOW)
    assert tuple(sentence.split(" ")[0] for sentence in problems(examination)) == sentences
    if sentences:
        assert "move_port is 0" in next(trial.detail for trial in examination.trials if trial.name == "C-MOVE")
        assert problems(examination) == ('retrieve = "move" does not work there; set retrieve = "get"',)


def test_what_a_route_fetches_by_dicomweb_is_tried_of_an_archive_that_has_a_worklist_too(
    archive: tuple[Orthanc, Peer], our_port: int
) -> None:
    changes = {"retrieve": "dicomweb", "name": "old", "worklist": WorklistTable()}
    peer = archive[1].model_copy(update=changes)
    route = Route("follow", "lung_nodule", priors=PriorRule("old"))
    settings = Settings(node=NodeTable(port=our_port), routes=(route,))
    examination = examine(peer, settings, token="worklist", now=NOW)  # noqa: S106
    assert examination.works("WADO-RS")
    assert [sentence.split(" ")[0] for sentence in problems(examination)] == ["[peer.worklist]"]


def test_the_command_prints_a_table_and_fails_where_the_configuration_does(tmp_path: Path) -> None:
    with storescp(tmp_path) as server:
        node = configured(tmp_path / "node", peers=[server.peer])
        command = [sys.executable, "-m", "ainode.node.commands.cli", "doctor", "storescp", "--config", str(node.config)]
        environment = os.environ | {"PYTHONPATH": str(ROOT / ".ns")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "store Comprehensive 3D SR" in done.stdout
    assert 'sr = "3d"' in done.stdout
    assert "as keys of the [[peer]] 'storescp' in node.toml" in done.stdout
    assert "what node.toml says now works" not in done.stdout
    assert "not removed: study 2.25." in done.stdout
    assert 'set confirm = "none"' in done.stderr


# The objects themselves


@pytest.fixture(scope="module")
def objects() -> Sequence[Specimen]:
    return synthetic_study("objects", NOW)


def test_the_objects_are_valid_and_of_one_study_of_nobody(objects: Sequence[Specimen], tmp_path: Path) -> None:
    patients = set()
    for number, specimen in enumerate(objects):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(specimen.content)
        errors = module_errors(path)
        # dciodvfy of 2022 does not know the class; what it says of its contents: tests/conformance
        assert specimen.name == "Label Map Segmentation" or errors == [], specimen.name
        patients.add(str(dcmread(path).PatientName))
    assert patients == {PATIENT}
    assert len({specimen.ref.study_instance_uid for specimen in objects}) == 1
    assert (
        len({specimen.ref.sop_class_uid for specimen in objects})
        == len({specimen.ref.sop_instance_uid for specimen in objects})
        == 9
    )


def test_another_token_makes_other_objects(objects: Sequence[Specimen]) -> None:
    others = {specimen.ref.sop_instance_uid for specimen in synthetic_study("others", NOW)}
    assert others.isdisjoint(specimen.ref.sop_instance_uid for specimen in objects)


def test_advice_keeps_what_works_as_it_is_configured() -> None:
    every = ("store Secondary Capture Image", "store Comprehensive SR", "C-GET", "WADO-RS", "QIDO-RS", "C-FIND")
    trials = tuple(Trial(name, "yes") for name in (*every, *(f"STOW-RS: {name}" for name in every[:2])))
    peer = web_peer("http://archive/dicom-web")
    assert advice(Examination(peer, trials)) == {
        "deliver": "dicomweb",
        "sr": "comprehensive",
        "confirm": "query",
        "retrieve": "dicomweb",
    }


@pytest.mark.parametrize(
    ("configured", "remedy"),
    [
        (
            {"segmentation": "labelmap"},
            'segmentation = "labelmap" does not work there; set segmentation = "fractional"',
        ),
        ({"presentation_state": True}, "presentation_state = true does not work there; set presentation_state = false"),
        ({"pdf": True}, "pdf = true does not work there; set pdf = false"),
    ],
)
def test_optional_documents_that_the_archive_refuses_are_advised_against(
    configured: dict[str, object], remedy: str
) -> None:
    taken = ("store Secondary Capture Image", "store Comprehensive 3D SR", "store Segmentation", "C-FIND", "C-GET")
    peer = Peer(name="a", ae_title="A", host="127.0.0.1", port=104).model_copy(update=configured)
    examination = Examination(peer, tuple(Trial(name, "yes") for name in taken))
    assert "presentation_state" not in advice(examination)
    assert advice(examination)["segmentation"] == "fractional"
    assert problems(examination) == (remedy,)


def test_optional_documents_are_advised_by_the_way_that_delivers() -> None:
    taken = ("store Secondary Capture Image", "STOW-RS: store Segmentation")
    peer = Peer(name="a", ae_title="A", host="127.0.0.1", port=104, confirm="none")
    examination = Examination(peer, tuple(Trial(name, "yes") for name in taken))
    assert "segmentation" not in advice(examination)
