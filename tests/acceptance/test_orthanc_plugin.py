"""Debian's Orthanc with the plugin or the Lua script in front of a whole node: nobody sends anything by hand."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydicom import Dataset, dcmread
from support import Orthanc, free_port, installed, orthanc
from support.node import ROOT, RunningNode, configured, running
from support.waiting import until

installed("fastapi", "uvicorn")

from ainode.node import testing  # noqa: E402
from ainode.node.archive.dimse import Link  # noqa: E402
from ainode.node.archive.store import Outgoing, send  # noqa: E402
from ainode.node.domain import UID, DeliveryState, JobState, Location  # noqa: E402
from ainode.node.keeping.announcements import Announcements  # noqa: E402
from ainode.node.web.tokens import Tokens  # noqa: E402

PLUGINS = Path("/usr/share/orthanc/plugins")
FOLDER = ROOT / "docker" / "orthanc"
SR = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass
class Pair:
    """An Orthanc and a node that know each other."""

    archive: Orthanc
    node: RunningNode
    web_port: int
    token: str

    def upload(self, *paths: Path) -> str:
        """Upload by REST, as a person does in Orthanc Explorer; return Orthanc's identifier of the study."""
        said = [json.loads(self.archive.call("POST", "/instances", path.read_bytes())) for path in paths]
        return str(said[0]["ParentStudy"])

    def state(self, study: str) -> dict[str, object]:
        """Return what the plugin says of a study."""
        found: dict[str, object] = json.loads(self.archive.call("GET", f"/ainode/studies/{study}"))
        return found

    def stable_events(self, study: str) -> int:
        """Return how often Orthanc called the study stable."""
        changes = json.loads(self.archive.call("GET", "/changes?limit=10000"))["Changes"]
        return sum(one["ChangeType"] == "StableStudy" and one["ID"] == study for one in changes)

    def reports(self, study_uid: str) -> int:
        """Return how many reports of the study the archive holds."""
        files = (self.archive.download(one) for one in self.archive.instances_of(study_uid).values())
        return sum(dcmread(BytesIO(one), stop_before_pixels=True).SOPClassUID == SR for one in files)

    def stow(self, *paths: Path) -> int:
        """Send by STOW-RS and return the HTTP status."""
        parts = b"".join(
            b"--b\r\nContent-Type: application/dicom\r\n\r\n" + one.read_bytes() + b"\r\n" for one in paths
        )
        headers = {
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=b',
            "Authorization": f"Bearer {self.token}",
        }
        with closing(HTTPConnection("127.0.0.1", self.web_port, timeout=120)) as connection:
            connection.request("POST", "/dicom-web/studies", parts + b"--b--\r\n", headers)
            return connection.getresponse().status

    @property
    def announcements(self) -> Announcements:
        """Return the node's."""
        return Announcements(self.node.engine)


def plugin(name: str) -> str:
    """Return Debian's plugin of that name, or skip."""
    path = PLUGINS / name
    if not path.exists():
        pytest.skip(f"{path} is not installed")
    return str(path)


@contextmanager
def paired(folder: Path, options: Callable[[int, str], Mapping[str, Any]]) -> Iterator[Pair]:
    """Start Orthanc and configure a node for it, not yet started; `options` are made of the node's port and a token."""
    web_port, node_folder = free_port(), folder / "node"
    token = Tokens(node_folder / "data").add("orthanc")
    dicom_port = free_port()
    modalities = {"AINODE": ("AINODE", dicom_port)}
    with orthanc(folder / "archive", modalities=modalities, **options(web_port, token)) as archive:
        rest = f"http://127.0.0.1:{archive.http_port}"
        peer = archive.peer.model_copy(update={"orthanc": rest, "deliver": "orthanc"})
        web = f"[web]\nenabled = true\nport = {web_port}\n\n[delivery]\nfirst_wait_s = 0.2"
        # longer than any test waits: whatever is read was announced, or asked for
        node = configured(node_folder, peers=[peer], more=web, silence_s=50.0)
        text = node.config.read_text().replace(f"port = {node.port}", f"port = {dicom_port}")
        node.config.write_text(text.replace("max_silence_s = 5.0", "max_silence_s = 60.0"))
        yield Pair(archive, replace(node, port=dicom_port), web_port, token)


def with_plugin(web_port: int, token: str) -> Mapping[str, Any]:
    return {
        "Plugins": [plugin("libOrthancPython.so")],
        "PythonScript": str(FOLDER / "ainode_plugin.py"),
        "PythonVerbose": False,
        "AiNode": {"Url": f"http://127.0.0.1:{web_port}", "Token": token},
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with paired(tmp_path_factory.mktemp("plugin"), with_plugin) as made, running(made.node):
        yield made


def study_files(folder: Path, name: str, *, instances: int = 2) -> tuple[str, tuple[Path, ...]]:
    images = [
        testing.noise(512, 512, seed=number, SeriesDescription="read", BodyPartExamined="TSPINE")
        for number in range(instances)
    ]
    return testing.uid(name), testing.write(images, folder / name, study=name)


def after_all_before(pair: Pair, folder: Path) -> None:
    """Return once a study that is uploaded now was read: whatever came before would have been announced before."""
    name = uuid4().hex
    study, paths = study_files(folder, name, instances=1)
    pair.upload(*paths)
    pair.node.until(lambda: jobs(pair, study) == 1, within_s=120)
    pair.node.read(study)


def jobs(pair: Pair, study: str) -> int:
    return len(pair.node.ledger.jobs(study=UID(study)))


def test_a_study_uploaded_to_orthanc_is_read_and_its_results_are_in_the_study(pair: Pair, tmp_path: Path) -> None:
    study, paths = study_files(tmp_path, "uploaded", instances=5)
    identifier = pair.upload(*paths)
    pair.node.until(lambda: jobs(pair, study) == 1, within_s=120)
    job, deliveries = pair.node.read(study)
    assert (job.state, len(job.content)) == (JobState.REPORTED, 5)
    assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}
    assert pair.reports(study) == 1
    state = pair.state(identifier)
    assert isinstance(state["node"], dict)
    assert (state["node"]["state"], state["node"]["delivered"], state["untold"]) == ("reported", True, None)


def test_a_second_stable_event_does_nothing(pair: Pair, tmp_path: Path) -> None:
    """The results themselves make the study stable a second time."""
    study, paths = study_files(tmp_path, "stable twice")
    identifier = pair.upload(*paths)
    pair.node.until(lambda: jobs(pair, study) == 1, within_s=120)
    pair.node.read(study)
    announced = pair.announcements.of(UID(study))
    pair.node.until(lambda: pair.stable_events(identifier) == 2, within_s=120)
    after_all_before(pair, tmp_path)
    assert announced == pair.announcements.of(UID(study))
    assert (jobs(pair, study), pair.reports(study)) == (1, 1)


def test_an_image_that_is_added_later_is_announced_and_supersedes_the_report(pair: Pair, tmp_path: Path) -> None:
    study, paths = study_files(tmp_path, "one more", instances=3)
    identifier = pair.upload(*paths[:2])
    pair.node.until(lambda: jobs(pair, study) == 1, within_s=120)
    pair.node.read(study)
    pair.node.until(lambda: pair.stable_events(identifier) == 2, within_s=120)
    pair.upload(paths[2])
    pair.node.until(lambda: jobs(pair, study) == 2, within_s=120)
    job, _ = pair.node.read(study)
    assert (len(job.content), len(job.predecessors)) == (3, 1)


def test_the_state_of_a_study_that_orthanc_does_not_have_is_a_404(pair: Pair) -> None:
    with closing(HTTPConnection("127.0.0.1", pair.archive.http_port, timeout=60)) as connection:
        connection.request("GET", "/ainode/studies/00000000-00000000")
        assert connection.getresponse().status == 404


def test_read_with_ai_looks_at_the_places_it_is_given(pair: Pair, tmp_path: Path) -> None:
    study, paths = study_files(tmp_path, "asked for")
    identifier = pair.upload(*paths)
    pair.node.until(lambda: jobs(pair, study) == 1, within_s=120)
    first, _ = pair.node.read(study)
    question = {"positions": [{"position_mm": [1.5, -20, 300]}]}
    pair.archive.call("POST", f"/ainode/studies/{identifier}", json.dumps(question).encode())
    pair.node.until(lambda: jobs(pair, study) == 2, within_s=120)
    second, _ = pair.node.read(study)
    assert second.locations == (Location((1.5, -20.0, 300.0), "request"),)
    assert (second.id != first.id, second.content == first.content) == (True, True)
    pair.archive.call("POST", f"/ainode/studies/{identifier}", json.dumps(question).encode())
    after_all_before(pair, tmp_path)
    assert jobs(pair, study) == 2


def test_a_study_that_comes_by_every_way_at_once_makes_one_set_of_documents(pair: Pair, tmp_path: Path) -> None:
    """Orthanc's own C-STORE encodes the files anew: a group length is lost, a sequence gets another kind of length."""
    study, paths = study_files(tmp_path, "every way", instances=8)
    for path in paths:
        with_other_lengths(path)
    ways = [
        lambda: pair.upload(*paths),
        lambda: send(Link(pair.node.peer, "MODALITY"), [Outgoing.of(path) for path in paths]),
        lambda: pair.stow(*paths),
    ]
    threads = [threading.Thread(target=way) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    identifier = pair.upload(paths[0])
    pair.archive.call("POST", "/modalities/AINODE/store", identifier.encode())
    pair.node.until(lambda: jobs(pair, study) == 1, within_s=120)
    pair.node.read(study)
    read = pair.node.catalog.content(UID(study))
    pair.stow(*paths)
    after_all_before(pair, tmp_path)
    again = pair.node.catalog.content(UID(study))
    assert {uid: again[uid] for uid in read} == read
    pair.archive.call("POST", "/modalities/AINODE/store", identifier.encode())
    pair.node.until(lambda: pair.stable_events(identifier) >= 2, within_s=120)
    after_all_before(pair, tmp_path)
    again = pair.node.catalog.content(UID(study))
    assert {uid: again[uid] for uid in read} == read
    (job,) = pair.node.ledger.jobs(study=UID(study))
    assert len(job.content) == 8
    assert pair.reports(study) == 1
    assert len(pair.archive.instances_of(study)) == 8 + len(pair.node.ledger.documents(job.id))


def with_other_lengths(path: Path) -> None:
    dataset = dcmread(path)
    dataset.add_new(0x00080000, "UL", 0)
    dataset.ReferencedStudySequence = [Dataset()]
    dataset["ReferencedStudySequence"].is_undefined_length = True
    dataset.save_as(path)


def test_a_node_that_is_down_is_told_once_it_is_back_even_after_orthanc_was_restarted(tmp_path: Path) -> None:
    study, paths = study_files(tmp_path, "down")
    with paired(tmp_path, with_plugin) as pair:
        identifier = pair.upload(*paths)
        until(lambda: bool((untold := pair.state(identifier)["untold"]) and untold["error"]))  # type: ignore[index]
        state = pair.state(identifier)
        assert "does not answer" in str(state["untold"])
        assert "does not answer" in str(state["error"])
        with running(pair.node):
            pair.node.until(lambda: jobs(pair, study) == 1, within_s=120)
            assert pair.node.read(study)[0].state is JobState.REPORTED


def test_an_archive_that_is_down_is_pulled_from_once_it_is_back(tmp_path: Path) -> None:
    study, paths = study_files(tmp_path, "archive down")
    with paired(tmp_path, lambda *_: {}) as pair:
        address = pair.archive
        pair.upload(*paths)
        address.stop()
    node = pair.node
    with running(node):
        headers = {"Authorization": f"Bearer {pair.token}", "Content-Type": "application/json"}
        body = json.dumps({"peer": "orthanc", "instances": 2})
        with closing(HTTPConnection("127.0.0.1", pair.web_port, timeout=60)) as connection:
            connection.request("POST", f"/studies/{study}/announce", body, headers)
            assert connection.getresponse().status == 202
        until(lambda: bool((known := pair.announcements.of(UID(study))) and known.attempts > 1))
        known = pair.announcements.of(UID(study))
        assert known
        assert "try again later" in known.reason
        node.kill()
        node.start()
        with orthanc(tmp_path / "archive", port=address.port, http_port=address.http_port):
            node.until(lambda: jobs(pair, study) == 1, within_s=120)
            assert node.read(study)[0].state is JobState.REPORTED


@pytest.mark.parametrize("way", ["told over HTTP", "sent by C-STORE"])
def test_the_lua_script_has_a_stable_study_read_once(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_lua(web_port: int, token: str) -> Mapping[str, Any]:
        if way == "told over HTTP":
            monkeypatch.setenv("AINODE_URL", f"http://127.0.0.1:{web_port}")
            monkeypatch.setenv("AINODE_TOKEN", token)
        return {"LuaScripts": [str(FOLDER / "ainode.lua")]}

    study, paths = study_files(tmp_path, f"lua {way}")
    with paired(tmp_path, with_lua) as pair:
        if way == "sent by C-STORE":  # nobody announces: the ordinary silence
            text = pair.node.config.read_text().replace("default_silence_s = 50.0", "default_silence_s = 1.0")
            pair.node.config.write_text(text)
        with running(pair.node):
            identifier = pair.upload(*paths)
            pair.node.until(lambda: jobs(pair, study) == 1, within_s=120)
            job, _ = pair.node.read(study)
            assert (job.state, len(job.content)) == (JobState.REPORTED, 2)
            pair.node.until(lambda: pair.stable_events(identifier) == 2, within_s=120)
            after_all_before(pair, tmp_path)
            assert (jobs(pair, study), pair.reports(study)) == (1, 1)


def test_a_peer_that_speaks_dicomweb_only_is_pulled_from_as_well(tmp_path: Path) -> None:
    installed("dicomweb_client")
    study, paths = study_files(tmp_path, "wado", instances=3)
    with paired(tmp_path, lambda *_: {"Plugins": [plugin("libOrthancDicomWeb.so")]}) as pair:
        address = f"http://127.0.0.1:{pair.archive.http_port}"
        text = pair.node.config.read_text()
        for by_rest, by_web in (
            (f'orthanc = "{address}"', ""),
            ('dicomweb = ""', f'dicomweb = "{address}/dicom-web"'),
            ('deliver = "orthanc"', 'deliver = "dicomweb"'),
        ):
            assert by_rest in text
            text = text.replace(by_rest, by_web)
        pair.node.config.write_text(text)
        pair.upload(*paths)
        with running(pair.node), closing(HTTPConnection("127.0.0.1", pair.web_port, timeout=60)) as connection:
            headers = {"Authorization": f"Bearer {pair.token}", "Content-Type": "application/json"}
            body = json.dumps({"peer": "orthanc", "instances": 3})
            connection.request("POST", f"/studies/{study}/announce", body, headers)
            assert connection.getresponse().status == 202
            pair.node.until(lambda: jobs(pair, study) == 1, within_s=120)
            assert len(pair.node.read(study)[0].content) == 3


def test_the_configuration_of_the_image_loads_both_plugins(tmp_path: Path) -> None:
    of_the_image = json.loads((FOLDER / "orthanc.json").read_text())
    here = {"StorageDirectory", "IndexDirectory", "DicomPort", "HttpPort", "PythonScript", "RemoteAccessAllowed"}
    options = {key: value for key, value in of_the_image.items() if key not in here}
    for path in options["Plugins"]:
        plugin(Path(path).name)
    with orthanc(tmp_path, PythonScript=str(FOLDER / "ainode_plugin.py"), **options) as archive:
        assert {"python", "dicom-web"} <= set(json.loads(archive.call("GET", "/plugins")))
        said = json.loads(archive.call("POST", "/instances", study_files(tmp_path, "image")[1][0].read_bytes()))
        state = json.loads(archive.call("GET", f"/ainode/studies/{said['ParentStudy']}"))
        assert "has no Url or Token" in state["error"]


def test_orthancs_own_dicomweb_client_stores_into_the_node(tmp_path: Path) -> None:
    def with_dicomweb(web_port: int, token: str) -> Mapping[str, Any]:
        server = {"Url": f"http://127.0.0.1:{web_port}/dicom-web/", "HttpHeaders": {"Authorization": f"Bearer {token}"}}
        return {"Plugins": [plugin("libOrthancDicomWeb.so")], "DicomWeb": {"Servers": {"node": server}}}

    study, paths = study_files(tmp_path, "orthanc stow", instances=3)
    with paired(tmp_path, with_dicomweb) as pair, running(pair.node):
        identifier = pair.upload(*paths)
        question = {"Resources": [identifier], "Synchronous": True}
        pair.archive.call("POST", "/dicom-web/servers/node/stow", json.dumps(question).encode())
        pair.node.until(lambda: len(pair.node.catalog.content(UID(study))) == 3, within_s=120)
        assert {one.calling_ae_title for one in pair.node.catalog.instances(UID(study))} == {"orthanc"}


def test_the_page_of_a_study_in_orthanc_explorer_has_the_button_and_says_the_state(pair: Pair, tmp_path: Path) -> None:
    installed("playwright")
    from support.browser import page

    study, paths = study_files(tmp_path, "explorer")
    identifier = pair.upload(*paths)
    with page() as tab:
        tab.goto(f"http://127.0.0.1:{pair.archive.http_port}/app/explorer.html#study?uuid={identifier}")
        tab.get_by_text("Read with AI").click()
        tab.get_by_text("Study was read; the report is in the study.").wait_for()
    assert pair.reports(study) == 1
