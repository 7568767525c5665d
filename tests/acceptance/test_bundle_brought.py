"""A MONAI bundle from its ZIP file to a real archive: imported, sent by C-STORE, back as SEG and report."""

import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import torch
from integration.test_bundles import NAME, OFFSET, expected_labels, mr_bundle, slices
from pydicom import dcmread
from support import orthanc
from support.monai_bundles import network, oblique_volume
from support.node import configured, running
from unit.models.test_hostile_bundles import PLAIN_LOGGING

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import DeliveryState

ROUTE = f"""
[[route]]
name = "organs"
handler = "{NAME}"
modality = ["MR"]
destinations = DESTINATIONS
"""


def public_bundle(folder: Path) -> Path:
    """Return a ZIP file as public bundles are: with pickled weights, a logging.conf, code beside it."""
    bundle = mr_bundle(folder / "bundle")
    (bundle / "models/model.safetensors").unlink()
    torch.save(network().state_dict(), bundle / "models/model.pt")
    (bundle / "configs/logging.conf").write_text(PLAIN_LOGGING)
    (bundle / "scripts").mkdir()
    (bundle / "scripts/__init__.py").write_text("raise SystemExit('code of a bundle ran')")
    path = folder / "organs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part in sorted(bundle.rglob("*")):
            archive.write(part, part.relative_to(bundle.parent))
    return path


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False)


@pytest.mark.long
def test_a_public_bundle_comes_back_from_an_archive_as_its_own_labels(tmp_path: Path) -> None:
    file = public_bundle(tmp_path)
    values, affine = oblique_volume()
    stored = np.rint(np.clip(values + OFFSET, 0, 4095)).astype(np.float32)
    paths = testing.write(slices(stored, affine), tmp_path / "study", study="brought")
    with orthanc(tmp_path / "orthanc") as server:
        # This archive knows the class of segmentations; that of label maps is newer.
        labeled = server.peer.model_copy(update={"segmentation": "fractional"})
        node = configured(tmp_path / "node", peers=[labeled], routes=ROUTE)
        importing = ["-m", "ainode.node.commands.cli", "model", "import", file, "--name", NAME, "--config", node.config]
        refused = run(*importing)
        assert refused.returncode == 2
        assert "models/model.pt: pickled weights" in refused.stderr
        weights = tmp_path / "model.safetensors"
        run("-m", "ainode.models.bundles.weights", tmp_path / "bundle/models/model.pt", weights)
        done = run(*importing, "--weights", weights, "--licence", "Apache-2.0", "--body-part", "any")
        assert done.returncode == 0, done.stderr
        assert "left out, and not read: " in done.stdout
        with running(node):
            sent = send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
            assert {outcome.error for outcome in sent} == {None}
            _, deliveries = node.read(testing.uid("brought"), within_s=300)
            assert {delivery.state for delivery in deliveries} == {DeliveryState.CONFIRMED}
            stored_objects = [
                dcmread(BytesIO(server.download(name))) for name in server.instances_of(testing.uid("brought")).values()
            ]
    (segmentation,) = (hd.seg.Segmentation.from_dataset(item) for item in stored_objects if item.Modality == "SEG")
    uids = [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]
    labels = segmentation.get_pixels_by_source_instance(
        uids, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    weights.rename(tmp_path / "bundle/models/model.safetensors")
    np.testing.assert_array_equal(labels, expected_labels(tmp_path, paths))
    (report,) = (item for item in stored_objects if item.Modality == "SR")
    codes = {str(element.value) for element in report.iterall() if element.keyword == "CodeValue"}
    assert {"78961009", "10200004"} <= codes
