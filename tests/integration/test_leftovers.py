"""A node that is killed while it writes a file: the next start removes what was half written, and goes on."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from pydicom import dcmread
from support import Orthanc, free_port, installed
from support.node import RunningNode, configured, peer_table
from support.web_archives import dicomweb_orthanc

installed("fastapi", "uvicorn")

from ainode.node import testing  # noqa: E402
from ainode.node.archive.dimse import Link  # noqa: E402
from ainode.node.archive.store import Outgoing, send  # noqa: E402
from ainode.node.domain import UID, JobState  # noqa: E402
from ainode.node.settings import Peer  # noqa: E402
from ainode.node.web.tokens import Tokens  # noqa: E402

PATIENT = {"PatientID": "7", "IssuerOfPatientID": "HOSPITAL", "PatientBirthDate": "19500101"}
ROUTES = """
[[route]]
name = "spine"
handler = "support.handler"
modality = ["DX"]

[route.priors]
from = "orthanc"
modality = ["DX"]
"""
# Kills the node, and the process that writes, before a file with this text in its path gets its final name.
KILLER = """
import os, signal, sys

os.environ.setdefault("TEST_NODE", str(os.getpid()))

def kill(event, arguments):
    if event == "os.rename" and os.environ.get("TEST_PLACE", "no such path") in str(arguments[0]):
        os.kill(int(os.environ["TEST_NODE"]), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
"""


def radiograph(folder: Path, name: str, day: str) -> tuple[str, Path]:
    image = testing.noise(512, 512, seed=1, SeriesDescription="read", StudyDate=day, **PATIENT)
    (path,) = testing.write([image], folder, study=name)
    return testing.uid(name), path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, Peer]]:
    """Run an Orthanc that has a radiograph of 2025, `prior`, and another of 2026, `pulled`."""
    folder = tmp_path_factory.mktemp("orthanc")
    with dicomweb_orthanc(folder) as (server, peer):
        for name, day in (("prior", "20250101"), ("pulled", "20260101")):
            server.call("POST", "/instances", radiograph(folder / name, name, day)[1].read_bytes())
        yield server, peer


@pytest.fixture
def node(archive: tuple[Orthanc, Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningNode]:
    """Return a node with a folder for the temporary files of its processes."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(KILLER)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    more = f"[web]\nenabled = true\nport = {free_port()}\n{peer_table(archive[1])}"
    node = configured(tmp_path / "node", routes=ROUTES, more=more)
    node.before = tmp_path / "hook"
    yield node
    node.stop()


def _send(node: RunningNode) -> str:
    study, path = radiograph(node.folder / "study", "sent", "20260101")
    send(Link(node.peer, "MODALITY", 60), [Outgoing.of(path)])
    return study


def _pull(node: RunningNode) -> str:
    study = testing.uid("pulled")
    port = node.config.read_text().partition("[web]")[2].split("port = ")[1].split()[0]
    with requests.Session() as session:
        address = f"http://127.0.0.1:{port}/studies/{study}/announce"
        token = Tokens(node.folder / "data").add("test")
        question = {"instances": 1, "peer": "orthanc"}
        # The node pulls as soon as the announcement is kept, and may be killed before it has answered.
        with suppress(requests.ConnectionError):
            session.post(address, json=question, headers={"Authorization": f"Bearer {token}"}, timeout=120)
    return study


def leftovers(node: RunningNode) -> list[str]:
    """Return the paths of what was half written."""
    data = node.folder / "data"
    temporary = [*data.glob("spool/tmp*/*"), *data.glob("priors/tmp/*"), *data.rglob("*.part")]
    return sorted(str(path) for path in {*temporary, *node.folder.with_name("temporary").iterdir()})


@pytest.mark.parametrize(
    ("place", "bring_study", "is_promised"),
    [
        ("spool/tmp/", _send, False),
        ("spool/tmp-web/", _pull, True),
        ("priors/tmp/", _send, True),
        ("/documents/", _send, True),
    ],
    ids=["received", "pulled", "prior", "composed"],
)
def test_what_a_killed_node_had_half_written_is_gone_after_the_next_start(
    place: str,
    bring_study: Callable[[RunningNode], str],
    node: RunningNode,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_promised: bool,
) -> None:
    monkeypatch.setenv("TEST_PLACE", place)
    node.start()
    assert node.process
    study = bring_study(node)
    assert node.process.wait(120) < 0
    assert any(place in path for path in leftovers(node))
    monkeypatch.delenv("TEST_PLACE")
    node.start()
    # The receiver's process cleans up before it accepts its first caller, and that is after `ready`.
    node.until(lambda: not leftovers(node), within_s=120)
    if not is_promised:
        assert bring_study(node) == study
    job, _ = node.read(study)
    assert job.state is JobState.REPORTED
    assert len(node.ledger.jobs(study=UID(study))) == 1
    assert {dcmread(path).StudyInstanceUID for path in node.folder.glob("data/documents/*/*.dcm")} == {study}
    node.stop()
    assert leftovers(node) == []
