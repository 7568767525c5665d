"""Presentation states and segmentations go to the destinations that ask for them, and to no other."""

import json
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from support import free_port, orthanc
from support.attentive import HEAT, SIDE
from support.node import RunningNode, configured, running

from ainode.node import settings, testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import UID, DeliveryState, SyntheticImage, Value
from ainode.node.offline.replay_lines import replay
from ainode.node.settings import Peer

ROUTE = """
[[route]]
name = "attention"
handler = "support.attentive"
modality = ["CT"]
body_part = ["CHEST"]
companions = ["SEG", "PR", "SR"]
destinations = DESTINATIONS
"""
ALWAYS = {"OT": 4, "SR": 1}


def a_ct(folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Write three slices."""
    header: dict[str, Value] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "Modality": "CT",
        "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "BodyPartExamined": "CHEST",
        "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "PixelSpacing": (0.7, 0.7),
        "SliceThickness": 2.0,
        "FrameOfReferenceUID": "1.2.3.4",
        "RescaleIntercept": -1024,
        "RescaleType": "HU",
        "WindowCenter": 40,
        "WindowWidth": 400,
    }
    images = [
        SyntheticImage(SIDE, SIDE, bytes(2 * SIDE**2), header | {"ImagePositionPatient": (0.0, 0.0, 2.0 * number)})
        for number in range(3)
    ]
    return testing.uid("ct"), testing.write(images, folder / "ct", study="ct")


def modalities(held: list[Dataset]) -> Counter[str]:
    return Counter(str(one.Modality) for one in held)


def deliver(node: RunningNode, paths: tuple[Path, ...]) -> None:
    assert [one.error for one in send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])] == [None] * 3


def test_each_destination_gets_what_it_asks_for_and_results_that_come_back_are_not_read(tmp_path: Path) -> None:
    port = free_port()
    plain = Peer(name="plain", ae_title="ARCHIVE", host="127.0.0.1", port=free_port())
    labels = plain.model_copy(
        update={"name": "labels", "ae_title": "LABELS", "port": free_port(), "segmentation": "labelmap"}
    )
    with (
        orthanc(tmp_path / "orthanc", modalities={"ainode": ("AINODE", port)}) as server,
        testing.EmbeddedArchive(tmp_path / "plain", plain.port) as plain_archive,
        testing.EmbeddedArchive(tmp_path / "labels", labels.port, ae_title="LABELS") as labels_archive,
    ):
        wishful = server.peer.model_copy(update={"presentation_state": True, "segmentation": "fractional"})
        node = configured(tmp_path / "node", peers=[wishful, plain, labels], routes=ROUTE)
        node.config.write_text(node.config.read_text().replace(f"port = {node.port}", f"port = {port}", 1))
        node.port = port
        study, paths = a_ct(tmp_path)
        with running(node):
            deliver(node, paths)
            job, deliveries = node.read(study)
            assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}
            held = {uid: dcmread(BytesIO(server.download(one))) for uid, one in server.instances_of(study).items()}
            assert modalities(list(held.values())) == {**ALWAYS, "PR": 1, "SEG": 1}
            assert modalities([dcmread(path) for path in plain_archive.files()]) == ALWAYS
            assert modalities([dcmread(path) for path in labels_archive.files()]) == {**ALWAYS, "SEG": 1}
            (fractional,) = (one for one in held.values() if one.Modality == "SEG")
            assert all(np.array_equal(frame, HEAT) for frame in fractional.pixel_array)
            assert len(node.ledger.documents(job.id)) == 8

            for path in paths:
                server.call("POST", "/instances", path.read_bytes())
            (parent,) = json.loads(server.call("GET", "/studies"))
            server.call("POST", "/modalities/ainode/store", parent.encode())
            node.until(lambda: len(node.catalog.instances(UID(study))) == 3 + len(held), within_s=120)
            node.until(lambda: not node.catalog.unrouted(), within_s=120)
            assert len(node.ledger.jobs(study=UID(study))) == 1

        # A destination that changes its wishes changes no document of what was read.
        text = node.config.read_text()
        node.config.write_text(text.replace('"fractional"', '"labelmap"').replace("presentation_state = true", ""))
        same, lines = replay(study, settings.load(node.config), None)
        assert same, lines
        assert lines[-1] == "documents: 8 of 8 byte-identical"
