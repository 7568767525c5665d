"""A CT of chest and abdomen at the shipped routes: demonstration weights answer only where the route allows them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import bodies, free_port, installed
from support.node import RunningNode, configured, running, shipped_routes

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import UID, DeliveryState
from ainode.node.keeping.records import Job
from ainode.node.reading.weights import WITHHELD
from ainode.node.settings import Peer

installed("openvino", "safetensors", "scipy", "torch")
STUDY = "a CT of chest and abdomen"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Peer]:
    port = free_port()
    with testing.EmbeddedArchive(tmp_path / "archive", port):
        yield Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port)


def a_chest(folder: Path) -> list[Path]:
    """Return the slices of a chest and an abdomen with contrast: of a chest alone the tumor route says nothing."""
    values = np.concatenate([bodies.abdomen(0), bodies.chest(3, consolidations=1)])
    header = {"BodyPartExamined": "CHESTABDPELVIS", "ContrastBolusAgent": "APPLIED"}
    images = testing.ct(values, bodies.SPACING_MM, frame="chest", header=header)
    return testing.write(images, folder, study=STUDY)


def command(node: RunningNode, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ainode.node.commands.cli", *arguments, "--config", str(node.config)],
        capture_output=True,
        text=True,
        check=False,
    )


def finished(node: RunningNode) -> dict[str, Job]:
    node.read(testing.uid(STUDY), within_s=300)
    return {job.route: job for job in node.ledger.jobs(study=UID(testing.uid(STUDY)))}


def test_a_chest_ct_gets_no_live_tumor_answer_until_the_route_allows_demonstration_weights(
    archive: Peer, tmp_path: Path
) -> None:
    node = configured(tmp_path / "node", peers=[archive], routes=shipped_routes(allowed=False))
    with running(node):
        send(Link(node.peer, "CT1"), [Outgoing.of(path) for path in a_chest(tmp_path / "chest")])
        jobs = finished(node)
        tumor = jobs["ct-tumor"]
        assert tumor.state == "reported", tumor.reason
        assert tumor.destinations == ()
        assert [node.ledger.deliveries(job.id) for job in jobs.values()] == [()] * len(jobs)
        assert not list((tmp_path / "archive").glob("*.dcm"))
    for place in (tumor.withheld, node.log.read_text()):
        text = re.sub(r"\s+", " ", place)
        assert "ct_tumor/lung" in text
        assert "allow_demonstration = true" in text
    for name in ("check", "jobs"):
        lines = [line for line in command(node, name).stdout.splitlines() if "ct-tumor" in line]
        assert any(line.endswith(WITHHELD) for line in lines)
        assert all(len(line) < 400 for line in lines)
    # an answer that stays in the node is an answer still
    assert f"{json.loads(tumor.result)['verdict']['headline']}; read " in command(node, "jobs").stdout
    assert re.search(r"route ct-tumor\s+shadow", command(node, "check").stdout)
    refused = command(node, "retry", tumor.id)
    assert refused.returncode == 2, refused.stdout
    assert "allow_demonstration = true" in refused.stderr

    allowed = shipped_routes("lung_nodule", "ct_pneumonia", allowed=False) + shipped_routes("ct_tumor")
    (node.folder / "routes.toml").write_text(allowed.replace("DESTINATIONS", '["archive"]'))
    assert re.search(r"route ct-tumor\s+ready", command(node, "check").stdout)
    with running(node):
        released = command(node, "retry", tumor.id)
        assert released.returncode == 0, released.stderr
        deliveries = node.read(testing.uid(STUDY))
        jobs = finished(node)
        deliveries = node.ledger.deliveries(jobs["ct-tumor"].id)
        assert deliveries
        assert {delivery.state for delivery in deliveries} == {DeliveryState.CONFIRMED}
        assert len(list((tmp_path / "archive").glob("*.dcm"))) == len(deliveries)
        assert node.ledger.deliveries(jobs["ct-pneumonia"].id) == ()


def test_a_new_chest_ct_gets_its_tumor_answer_where_the_route_allows_demonstration_weights(
    archive: Peer, tmp_path: Path
) -> None:
    node = configured(tmp_path / "node", peers=[archive], routes=shipped_routes("ct_tumor"))
    with running(node):
        send(Link(node.peer, "CT1"), [Outgoing.of(path) for path in a_chest(tmp_path / "chest")])
        tumor = finished(node)["ct-tumor"]
        assert {delivery.state for delivery in node.ledger.deliveries(tumor.id)} == {DeliveryState.CONFIRMED}
        assert tumor.withheld == ""
