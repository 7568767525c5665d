"""A node that takes up changed routes and peers while an association sends; a wrong file changes nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support import storescp
from support.node import ROOT, SPINE, RunningNode, configured, peer_table, running
from support.studies import associate, statuses, written

from ainode.node.domain import UID, JobState
from ainode.node.settings import Peer

OTHER = SPINE.replace('name = "spine"', 'name = "other"').replace("DESTINATIONS", "[]")


def reload(node: RunningNode) -> "subprocess.CompletedProcess[str]":
    """Run the command of an operator."""
    command = [sys.executable, "-m", "ainode.node.commands.cli", "reload", "--config", str(node.config)]
    paths = os.pathsep.join(map(str, (ROOT / ".ns", ROOT / "tests")))
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def routes_of(node: RunningNode, study: str) -> set[str]:
    return {job.route for job in node.ledger.jobs(study=UID(study)) if job.state is JobState.REPORTED}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("reload")
    with pytest.MonkeyPatch.context() as patch, running_with_secret(folder, patch) as started:
        yield started


@contextmanager
def running_with_secret(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[RunningNode]:
    """Yield a node that has a variable which this process has not."""
    patch.setenv("SECRET_OF_THE_START", "secret")
    node = configured(folder / "node", routes=SPINE.replace("DESTINATIONS", "[]"))
    # `ainode reload` waits a minute longer than this for its answer, which a busy machine needs.
    node.config.write_text(node.config.read_text().replace("stop_limit_s = 2.0", "stop_limit_s = 120.0"))
    with running(node) as started:
        patch.undo()
        yield started


@pytest.mark.parametrize(
    ("name", "before", "after", "words"),
    [
        ("routes.toml", 'handler = "', 'handler = "absent_', "absent_"),
        ("routes.toml", "[[route]]", "[[route]", "routes.toml: is not TOML"),
        ("node.toml", "port = ", "port = 7", "is too large"),
    ],
)
def test_wrong_files_change_nothing_and_say_why(
    node: RunningNode, name: str, before: str, after: str, words: str
) -> None:
    path = node.folder / name
    text = path.read_text()
    refusals = node.log.read_text().count("action=reload_refused")
    path.write_text(text.replace(before, after, 1))
    try:
        done = reload(node)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        node.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr] - it runs
        node.until(lambda: node.log.read_text().count("action=reload_refused") > refusals, within_s=120)
    finally:
        path.write_text(text)
    assert f"reload refused: {node.folder}" in node.log.read_text()


def test_a_new_peer_gets_documents_and_a_port_of_the_node_needs_a_restart(node: RunningNode, tmp_path: Path) -> None:
    routes = node.folder / "routes.toml"
    texts = node.config.read_text(), routes.read_text()
    assert node.log.read_text().count("action=ready") == 1
    with storescp(tmp_path / "archive") as archive:
        first = written(tmp_path, "first")
        assert statuses(node, first.paths) == [0]
        node.until(lambda: routes_of(node, first.uid) == {"spine"}, within_s=120)
        peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=archive.port, confirm="none")
        node.config.write_text(f"{texts[0]}\n{peer_table(peer)}")
        routes.write_text(texts[1].replace("destinations = []", 'destinations = ["pacs"]'))
        done = reload(node)
        assert (done.returncode, done.stdout) == (
            0,
            """[[peer]] pacs: new
[[route]] spine destinations: nothing before, pacs now
the node works with 1 route and 1 peer
""",
        ), done.stderr
        study = written(tmp_path, "sent")
        assert statuses(node, study.paths) == [0]
        node.until(lambda: bool(archive.files()), within_s=120)
        node.config.write_text(node.config.read_text().replace("[node]", '[node]\nname = "renamed"', 1))
        refused = reload(node)
        assert refused.returncode == 2
        assert "[node] changed, which a reload does not take up; restart the node" in refused.stderr
    node.config.write_text(texts[0])
    routes.write_text(texts[1])


@pytest.mark.parametrize(("variable", "status"), [("SECRET_OF_THE_START", 0), ("SECRET_OF_LATER", 2)])
def test_a_peer_has_the_secrets_of_the_start_whatever_the_shell_that_asks_has(
    node: RunningNode, variable: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_LATER", "secret")
    text = node.config.read_text()
    keys = 'deliver = "dicomweb"\nretrieve = "dicomweb"\ndicomweb = "http://127.0.0.1:9/"'
    try:
        node.config.write_text(f'{text}\n[[peer]]\nname = "new"\n{keys}\ntoken_env = "{variable}"\n')
        done = reload(node)
        assert done.returncode == status, done.stderr
        assert ("the environment has no SECRET_OF_LATER" in done.stderr) == (status == 2)
        assert ("a restart gives it others" in done.stderr) == (status == 2)
    finally:
        node.config.write_text(text)
        assert reload(node).returncode == 0


def test_an_association_goes_on_through_a_reload_and_its_study_is_read_once_by_the_new_routes(
    node: RunningNode, tmp_path: Path
) -> None:
    starts = node.log.read_text().count("action=ready")
    study = written(tmp_path, "long", instances=12)
    process, receivers = node.process.pid if node.process else 0, node.receivers
    association = associate(node, study.paths[0])
    for path in study.paths[:4]:
        assert association.send_c_store(path).Status == 0
    routes = node.folder / "routes.toml"
    routes.write_text(routes.read_text() + OTHER)
    node.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr] - it runs
    for path in study.paths[4:]:
        time.sleep(0.5)
        assert association.send_c_store(path).Status == 0
    node.until(lambda: node.log.read_text().count("action=ready") == starts + 1, within_s=120)
    association.release()
    node.until(lambda: routes_of(node, study.uid) == {"spine", "other"}, within_s=120)
    assert [len(job.content) for job in node.ledger.jobs(study=UID(study.uid))] == [12, 12]
    assert (psutil.Process(process).is_running(), node.receivers) == (True, receivers)
    assert node.process
    node.process.terminate()
    assert node.process.wait(120) == 0
    assert not any(receiver.is_running() for receiver in receivers)


def test_without_a_node_a_reload_says_how_one_starts(tmp_path: Path) -> None:
    done = reload(configured(tmp_path / "node"))
    assert done.returncode == 1
    assert "no node runs on" in done.stderr
