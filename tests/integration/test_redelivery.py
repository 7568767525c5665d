"""Results that somebody deleted in an archive: they come back when somebody asks, and not by a mere resend."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from support import Orthanc, free_port, installed, orthanc
from support.node import ROOT, SPINE, RunningNode, configured, running

from ainode.node import testing
from ainode.node.archive import store
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing
from ainode.node.domain import UID, DeliveryState
from ainode.node.keeping.records import Delivery

installed("fastapi", "uvicorn")
STUDY = testing.uid("redelivery")


@contextmanager
def delivered(folder: Path, deliver: str) -> Iterator[tuple[RunningNode, Orthanc, int, Path]]:
    """Run a node that has delivered the results of a study to an Orthanc, beside the image that Orthanc has."""
    (image,) = testing.write(
        [testing.noise(512, 512, seed=5, BodyPartExamined="TSPINE")], folder / "image", study="redelivery"
    )
    web_port = free_port()
    with orthanc(folder / "archive") as server:
        address = f"http://127.0.0.1:{server.http_port}"
        peer = server.peer.model_copy(update={"orthanc": address, "deliver": deliver})
        web = f"[web]\nenabled = true\nport = {web_port}"
        with running(configured(folder / "node", peers=[peer], more=web)) as node:
            server.call("POST", "/instances", image.read_bytes())
            store.send(Link(node.peer, "MODALITY"), [Outgoing.of(image)])
            node.read(STUDY)
            yield node, server, web_port, image


def results(node: RunningNode) -> tuple[Delivery, ...]:
    (job,) = node.ledger.jobs(study=UID(STUDY))
    return node.ledger.deliveries(job.id)


def ainode(node: RunningNode, *arguments: str) -> str:
    command = [sys.executable, "-m", "ainode.node.commands.cli", *arguments, "--config", str(node.config)]
    environment = {"PYTHONPATH": f"{ROOT / '.ns'}:{ROOT / 'tests'}"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def delete(server: Orthanc) -> None:
    query = json.dumps({"Level": "Study", "Query": {"StudyInstanceUID": STUDY}}).encode()
    for identifier in json.loads(server.call("POST", "/tools/find", query)):
        server.call("DELETE", f"/studies/{identifier}")
    assert server.instances_of(STUDY) == {}


def returned(node: RunningNode, server: Orthanc) -> None:
    """Wait until every result is confirmed anew, and compare what the archive has with what was made."""
    uids = {delivery.document.ref.sop_instance_uid for delivery in results(node)}
    node.until(lambda: uids <= server.instances_of(STUDY).keys(), within_s=120)
    node.until(lambda: {delivery.state for delivery in results(node)} == {DeliveryState.CONFIRMED}, within_s=120)


def test_a_person_asks_by_the_command_and_one_that_is_there_is_not_sent(tmp_path: Path) -> None:
    with delivered(tmp_path, "dimse") as (node, server, _, image):
        first = results(node)
        delete(server)
        # a mere resend, to the archive and to the node, changes nothing
        server.call("POST", "/instances", image.read_bytes())
        store.send(Link(node.peer, "MODALITY"), [Outgoing.of(image)])
        node.until(lambda: node.catalog.is_routed(UID(STUDY)), within_s=120)
        (job,) = node.ledger.jobs(study=UID(STUDY))
        assert results(node) == first
        # one of the documents was restored by hand
        kept = first[0].document
        server.call("POST", "/instances", kept.path.read_bytes())
        assert "sends what is missing" in ainode(node, "deliver", job.id)
        returned(node, server)
        sent_again = [delivery.sent_at for delivery in results(node)]
        assert [at == before.sent_at for at, before in zip(sent_again, first, strict=True)] == [
            True,
            *[False] * (len(first) - 1),
        ]
        (job_after,) = node.ledger.jobs(study=UID(STUDY))
        assert job_after == job
        assert "confirmed" in ainode(node, "jobs", STUDY)


def test_read_with_ai_brings_back_byte_for_byte_what_was_deleted(tmp_path: Path) -> None:
    with delivered(tmp_path, "orthanc") as (node, server, web_port, image):
        delete(server)
        server.call("POST", "/instances", image.read_bytes())
        token = ainode(node, "token", "add", "viewer").split()[-1]
        answer = requests.post(
            f"http://127.0.0.1:{web_port}/studies/{STUDY}/read",
            json={"peer": "orthanc"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=120,
        )
        assert answer.status_code == 202
        assert answer.json()["delivered"] is False
        states = {one["state"] for one in answer.json()["jobs"][0]["documents"][0]["deliveries"]}
        assert states == {"checking"}
        returned(node, server)
        held = server.instances_of(STUDY)
        for delivery in results(node):
            document = delivery.document
            assert server.download(held[document.ref.sop_instance_uid]) == document.path.read_bytes()
        assert len(held) == len(results(node)) + 1
        assert len(node.ledger.jobs(study=UID(STUDY))) == 1


def test_documents_of_a_shadow_that_a_person_sends_are_proved_by_the_node_and_told_as_sent(tmp_path: Path) -> None:
    (image,) = testing.write(
        [testing.noise(512, 512, seed=5, BodyPartExamined="TSPINE")], tmp_path / "image", study="redelivery"
    )
    with orthanc(tmp_path / "archive") as server:
        shadow = SPINE.replace('name = "spine"', 'name = "spine"\nmode = "shadow"')
        with running(configured(tmp_path / "node", peers=[server.peer], routes=shadow)) as node:
            store.send(Link(node.peer, "MODALITY"), [Outgoing.of(image)])
            job, deliveries = node.read(STUDY)
            assert deliveries == ()
            assert "its route is a shadow" in ainode(node, "jobs", STUDY)
            folder = node.folder / "data" / "documents" / job.id
            sent = ainode(node, "send", str(folder), server.peer.name)
            assert f"job {job.id}: written down as sent to {server.peer.name}" in sent
            returned(node, server)
            assert {delivery.proof for delivery in results(node)} == {"query"}
            assert "its route is a shadow" not in ainode(node, "jobs", STUDY)
            assert f"Confirmed by {server.peer.name}" in ainode(node, "trace", STUDY)
            # A file that is no document of the node leaves nothing.
            assert "written down" not in ainode(node, "send", str(image), server.peer.name)
            assert server.peer.name in ainode(node, "deliver", job.id)
