"""A Prometheus reads a whole node, and the shipped alerts fire by what happens to it."""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from support import free_port, installed, program
from support.node import ROOT, RunningNode, RunningWorker, configured, running
from support.postgresql import postgresql
from support.studies import statuses, stored, written
from support.waiting import until

installed("fastapi", "uvicorn", "requests")

import requests  # noqa: E402

from ainode.node.settings import Peer  # noqa: E402
from ainode.node.web.tokens import Tokens  # noqa: E402

SHIPPED = ROOT / "docker" / "prometheus"
LIMITS = "[delivery]\nattempts = 1\n\n[audit]\nenabled = false"
HANDLER = "support.steady"
STEADY = f"""
[[route]]
name = "steady"
handler = "{HANDLER}"
modality = ["DX", "CR"]
"""


@dataclass(frozen=True)
class Watched:
    """A node, and the Prometheus that reads it every second."""

    node: RunningNode
    page_address: str
    token: str
    prometheus: str

    def page(self, token: str = "", path: str = "/metrics") -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return requests.get(f"{self.page_address}{path}", headers=headers, timeout=120)

    def known(self, expression: str) -> list[dict[str, str]]:
        """Return the labels of what Prometheus finds."""
        return [entry["metric"] for entry in self._found(expression)]

    def node_started_at(self) -> float:
        """Return when the node started that Prometheus read last, in seconds since 1970; 0 before the first."""
        return max((float(entry["value"][1]) for entry in self._found("process_start_time_seconds")), default=0.0)

    def _found(self, expression: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.prometheus}/api/v1/query", params={"query": expression}, timeout=120).json()
        return list(answer["data"]["result"])

    def until_well(self, expression: str) -> None:
        """Wait until Prometheus finds something and no alert fires: one does while an answer comes too late."""
        self.node.until(
            lambda: bool(self.known(expression)) and not self.known('ALERTS{alertstate="firing"}'), within_s=120
        )

    def until_fires(self, alert: str) -> None:
        """Wait until an alert fires or has fired, or fail with those that do."""
        fired = f'max_over_time(ALERTS{{alertname="{alert}", alertstate="firing"}}[10m])'
        until(lambda: self.known(fired), within_s=240, shown=lambda: self.known("ALERTS"))


@contextmanager
def prometheus(folder: Path, target: int, token: str) -> Iterator[str]:
    """Start Prometheus with the shipped files: it scrapes and judges every second, and late is what is a second old."""
    rules = (SHIPPED / "alerts.yml").read_text(encoding="utf-8")
    rules = re.sub(r"(oldest_seconds.* > )\d+", r"\g<1>1", rules)
    (folder / "alerts.yml").write_text(re.sub(r"^( +for: ).*$", r"\g<1>0s", rules, flags=re.MULTILINE))
    (folder / "token").write_text(token)
    text = (SHIPPED / "prometheus.yml").read_text(encoding="utf-8").replace("15s", "1s")
    text = text.replace("/run/secrets/metrics_token", str(folder / "token")).replace("node:8080", f"127.0.0.1:{target}")
    (folder / "prometheus.yml").write_text(text)
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until(lambda: _is_ready(port), shown=(folder / "log").read_text)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _is_ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=5).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    program("prometheus")
    folder, port = tmp_path_factory.mktemp("watched"), free_port()
    nowhere = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())
    node = configured(
        folder / "node",
        peers=[nowhere],
        more=f"[web]\nenabled = true\nport = {port}\n\n[console]\nenabled = false\n\n{LIMITS}",
    )
    node.config.write_text(
        node.config.read_text().replace("[node]", "[node]\nmax_associations = 1\nmax_object_bytes = 1048576", 1)
    )
    token = Tokens(node.folder / "data").add("prometheus", for_metrics=True)
    (folder / "prometheus").mkdir()
    with running(node), prometheus(folder / "prometheus", port, token) as address:
        yield Watched(node, f"http://127.0.0.1:{port}", token, address)


def test_the_token_of_prometheus_reads_the_metrics_and_nothing_else(watched: Watched) -> None:
    assert watched.page().status_code == 200
    assert watched.page("ainode_wrong").status_code == 401
    refused = watched.page(path="/studies/1.2.3")
    assert (refused.status_code, refused.json()["detail"]) == (403, "the token of prometheus reads /metrics alone")


def test_the_shipped_alerts_fire_by_what_happens_to_a_node(watched: Watched, tmp_path: Path) -> None:
    node = watched.node
    watched.until_well("up == 1")

    study = written(tmp_path, "alerts")
    assert statuses(node, study.paths) == [0]
    node.read(study.uid)
    watched.until_fires("DeadLetters")

    large = written(tmp_path, "too large", side=2048)
    assert statuses(node, large.paths) == [0xA700]
    watched.until_fires("ObjectsRefused")

    caller = AE("MODALITY")
    caller.add_requested_context(Verification)
    first = caller.associate("127.0.0.1", node.port, ae_title="AINODE")
    assert first.send_c_echo().Status == 0
    watched.until_fires("AssociationsFull")
    first.release()
    assert caller.associate("127.0.0.1", node.port, ae_title="SOMEBODY").is_rejected
    watched.until_fires("CallersRefused")

    everything = watched.page().text
    exported = set(re.findall(r"^(ainode_\w+?)(?:_bucket)?[{ ]", everything, flags=re.MULTILINE))
    node.until(
        lambda: exported <= {m["__name__"].removesuffix("_bucket") for m in watched.known('{__name__=~"ainode_.+"}')},
        within_s=120,
    )
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=everything, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert 'ainode_c_store_answers_total{status="0000"} 1' in everything
    assert "ainode_instances_received_total 1" in everything
    assert study.uid not in everything

    node.stop()
    watched.until_fires("NodeDown")


@pytest.fixture
def obedient(tmp_path: Path) -> Iterator[Watched]:
    """Yield a node whose handler does what a study says, and whose archive is away."""
    program("prometheus")
    port = free_port()
    (tmp_path / "prometheus").mkdir()
    nowhere = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())
    pages = f"[web]\nenabled = true\nport = {port}\n\n[console]\nenabled = false\n\n[audit]\nenabled = false"
    node = configured(tmp_path / "node", peers=[nowhere], more=pages, silence_s=3.0)
    token = Tokens(node.folder / "data").add("prometheus", for_metrics=True)
    with running(node), prometheus(tmp_path / "prometheus", port, token) as address:
        yield Watched(node, f"http://127.0.0.1:{port}", token, address)


def test_the_alerts_of_parts_of_the_disk_and_of_what_waits_is_refused_or_killed_fire_on_a_node(
    obedient: Watched, tmp_path: Path
) -> None:
    node = obedient.node
    obedient.until_well("ainode_part_up == 1")

    node.stop()
    min_free_bytes = shutil.disk_usage(node.folder).free * 3 // 4
    node.config.write_text(node.config.read_text().replace("min_free_bytes = 0", f"min_free_bytes = {min_free_bytes}"))
    node.start()
    obedient.until_fires("DiskLow")

    slow = [written(tmp_path, f"slow {number}", order="slow") for number in range(2)]
    assert stored(node, *slow) == [0, 0]
    obedient.until_fires("StudiesNotRouted")
    obedient.until_fires("ReadingsLate")
    obedient.until_fires("DocumentsLate")

    assert stored(node, written(tmp_path, "crash", order="crash")) == [0]
    obedient.until_fires("ReaderKilled")

    refused = [written(tmp_path, f"decline {number}", order="decline") for number in range(15)]
    assert stored(node, refused[0]) == [0]
    # A counter whose first value is 15 has not grown: Prometheus has to see the first of them.
    node.until(lambda: bool(obedient.known('ainode_answers_total{answer="refused"} == 1')), within_s=120)
    assert stored(node, *refused[1:]) == [0] * 14
    obedient.until_fires("ManyRefusals")

    (receiver,) = node.receivers
    receiver.suspend()
    try:
        obedient.until_fires("PartDown")
    finally:
        receiver.resume()

    for _ in range(3):
        before = obedient.node_started_at()
        node.stop()
        node.start()
        node.until(partial(is_started_after, obedient, before), within_s=120)
    obedient.until_fires("NodeRestarts")


def is_started_after(watched: Watched, moment: float) -> bool:
    return watched.node_started_at() > moment


def test_the_alert_of_a_receiver_fires_while_it_cannot_start_and_ends_when_it_can(tmp_path: Path) -> None:
    program("prometheus")
    port = free_port()
    (tmp_path / "prometheus").mkdir()
    node = configured(tmp_path / "node", more=f"[web]\nenabled = true\nport = {port}\n\n[console]\nenabled = false")
    node.config.write_text(node.config.read_text().replace("[node]", "[node]\nreceivers = 2", 1))
    obstacle = node.folder / "data" / "spool" / "tmp-1"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("a file where the second receiver has its folder")
    token = Tokens(node.folder / "data").add("prometheus", for_metrics=True)
    with running(node), prometheus(tmp_path / "prometheus", port, token) as address:
        watched = Watched(node, f"http://127.0.0.1:{port}", token, address)
        watched.until_fires("ReceiverEnds")
        assert not watched.known('ALERTS{alertname="PartDown"}'), "the first receiver serves"
        obstacle.unlink()
        node.until(lambda: not watched.known('ALERTS{alertname="ReceiverEnds"}'), within_s=60)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Watched]:
    """Yield a node on PostgreSQL that leaves its only handler to workers."""
    program("prometheus")
    port = free_port()
    (tmp_path / "prometheus").mkdir()
    with postgresql() as url:
        workers = f'[workers]\nbeat_s = 0.25\ndead_after_s = 8.0\nhandlers = ["{HANDLER}"]'
        pages = f"[web]\nenabled = true\nport = {port}\n\n[console]\nenabled = false"
        more = f'[database]\nurl = "{url}"\n\n{workers}\n\n{pages}\n\n{LIMITS}'
        node = configured(tmp_path / "node", routes=STEADY, more=more)
        node.database = url
        token = Tokens(node.folder / "data").add("prometheus", for_metrics=True)
        with running(node), prometheus(tmp_path / "prometheus", port, token) as address:
            yield Watched(node, f"http://127.0.0.1:{port}", token, address)


def test_the_alerts_of_workers_fire_while_one_is_lost_and_its_studies_wait_and_end_when_it_is_back(
    shared: Watched, tmp_path: Path
) -> None:
    node, worker = shared.node, RunningWorker(shared.node, "reader", HANDLER)
    worker.start()
    node.until(lambda: bool(shared.known(f'ainode_executor_reads{{name="reader",handler="{HANDLER}"}}')), within_s=120)
    assert shared.page(path="/ready").json()["attention"] == ""
    worker.end(signal.SIGKILL)

    shared.until_fires("NobodyReads")
    assert not shared.known('ALERTS{alertname="WorkerLost"}'), "nothing waits"
    study = written(tmp_path, "waits")
    assert statuses(node, study.paths) == [0]
    shared.until_fires("WorkerLost")
    state = shared.page(path="/ready").json()
    assert (state["status"], state["attention"]) == ("ready", f"no process reads with {HANDLER}, 1 reading waits")

    worker.start()
    try:
        node.read(study.uid)
        node.until(lambda: not shared.known('ALERTS{alertname=~"WorkerLost|NobodyReads"}'), within_s=120)
        assert shared.page(path="/ready").json()["attention"] == ""
    finally:
        assert worker.end() == 0
