"""A node before its first study: the networks of its live routes are converted, and memory holds none of them."""

import os
from pathlib import Path

import psutil
import pytest
from support import installed
from support.faults import RAISE, write_handler
from support.node import SPINE, RunningNode, configured, running, shipped_routes

installed("openvino", "torch")

PREPARED = '[reader]\nprepare = true\nnetworks = "{}"'
MODULE = "site_handlers.unready"


def readers(node: RunningNode) -> list[psutil.Process]:
    """Return the processes of handlers of a node."""
    assert node.process
    children = psutil.Process(node.process.pid).children(recursive=True)
    return [child for child in children if any("reading.serving" in word for word in child.cmdline())]


@pytest.fixture(autouse=True)
def _by_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let node.toml say what the environment of the tests says otherwise."""
    for name in ("AINODE_READER__NETWORKS", "AINODE_READER__PREPARE"):
        monkeypatch.delenv(name)


@pytest.mark.timeout(600)
def test_the_networks_of_live_routes_are_converted_at_the_start_without_any_study(tmp_path: Path) -> None:
    networks = tmp_path / "networks"
    live = shipped_routes("ct_pneumonia")
    shadow = shipped_routes("spine_radiograph").replace('mode = "live"', 'mode = "shadow"')
    assert 'mode = "shadow"' in shadow
    node = configured(tmp_path / "node", routes=live + shadow, more=PREPARED.format(networks))
    with running(node):
        node.until(lambda: "handler ct_pneumonia prepared" in node.log.read_text(), within_s=500)
        assert len(list(networks.glob("*/graph.xml"))) == 4
        origins = "".join(path.read_text() for path in networks.glob("*/made_from.txt"))
        assert origins.count("ct_pneumonia") == 4
        node.until(lambda: not readers(node), within_s=120)
        assert node.ledger.jobs() == ()
        assert "handler spine_radiograph" not in node.log.read_text()


def test_a_handler_that_cannot_prepare_costs_a_line_of_the_log_alone(tmp_path: Path) -> None:
    write_handler(tmp_path, "unready", prepare=RAISE)
    routes = SPINE.replace("support.handler", MODULE)
    node = configured(tmp_path / "node", routes=routes, more=PREPARED.format(tmp_path / "networks"))
    node.before = tmp_path
    with running(node):
        node.until(lambda: "not prepared: " in node.log.read_text(), within_s=120)
        assert "ValueError in prepare() (unready.py, line" in node.log.read_text()
        node.until(lambda: not readers(node), within_s=120)
        assert node.process
        os.kill(node.process.pid, 0)


def test_a_node_that_is_told_so_prepares_nothing(tmp_path: Path) -> None:
    write_handler(tmp_path, "unready", prepare=RAISE)
    routes = SPINE.replace("support.handler", MODULE)
    more = PREPARED.format(tmp_path / "networks").replace("true", "false")
    node = configured(tmp_path / "node", routes=routes, more=more)
    node.before = tmp_path
    with running(node):
        assert not readers(node)
    assert "prepared" not in node.log.read_text()
