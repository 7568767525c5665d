"""A synthetic abdomen through a whole node: its region comes back in report, capture and segmentation, at the truth."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from support import free_port, installed
from support.judges import instance_errors, module_errors, set_errors, template_errors, tree_errors
from support.node import configured, running, shipped_routes

from ainode.models.pancreas_tumor.demonstration import demonstration_abdomen
from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import DeliveryState, JobState
from ainode.node.keeping.records import Job
from ainode.node.reading import registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from ainode.node.settings import Peer

installed("openvino", "safetensors", "scipy", "torch")
SEED = 0
NEAR_MM = 15.0


@dataclass(frozen=True, slots=True)
class Found:
    """A study that was sent, and what the archive holds of it."""

    job: Job
    slices: tuple[Path, ...]
    documents: tuple[Path, ...]

    def of(self, modality: str) -> list[Path]:
        return [path for path in self.documents if dcmread(path, stop_before_pixels=True).Modality == modality]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    folder = tmp_path_factory.mktemp("pancreas")
    handler = registry.handler("pancreas_tumor", ModelEnvironment(WeightStore(folder / "site"), folder / "networks"))
    study = "an abdomen"
    slices = testing.write(handler.demonstration(SEED).images, folder / "sent", study=study)
    port = free_port()
    with testing.EmbeddedArchive(folder / "archive", port):
        archive = Peer(
            name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port, confirm="query", segmentation="fractional"
        )
        node = configured(folder / "node", peers=[archive], routes=shipped_routes("pancreas_tumor"))
        with running(node):
            send(Link(node.peer, "CT1"), [Outgoing.of(path) for path in slices])
            job, deliveries = node.read(testing.uid(study), within_s=300)
            assert job.state is JobState.REPORTED, job.reason
            assert {delivery.state for delivery in deliveries} == {DeliveryState.CONFIRMED}
            paths = tuple(folder / "archive" / f"{one.document.ref.sop_instance_uid}.dcm" for one in deliveries)
            yield Found(job, slices, paths)


def truth_mm() -> tuple[float, float, float]:
    """Return the middle of the phantom's tumor as x, y, z in the patient."""
    middle = demonstration_abdomen(SEED).tumor_mm
    assert middle is not None
    return middle[2], middle[1], middle[0]


def test_the_surest_region_lies_at_the_tumor_and_has_a_longest_axis_and_no_probability(found: Found) -> None:
    values = json.loads(found.job.result)
    assert values["verdict"]["presence"] == "indeterminate"
    assert values["verdict"]["probability"] is None
    region = values["findings"][0]
    (axis,) = region["measurements"]
    assert (axis["name"], axis["unit"]) == ("Long axis", "mm")
    radius = demonstration_abdomen(SEED).radius_mm
    assert radius < axis["value"] < 3 * radius
    image = next(
        one
        for one in (dcmread(path, stop_before_pixels=True) for path in found.slices)
        if one.SOPInstanceUID == region["region"]["sop_instance_uid"]
    )
    column, row = np.mean(region["region"]["points"], axis=0)
    x, y, z = (float(value) for value in image.ImagePositionPatient)
    dy, dx = (float(value) for value in image.PixelSpacing)
    place = (x + (column - 0.5) * dx, y + (row - 0.5) * dy, z)
    assert np.linalg.norm(np.subtract(place, truth_mm())) < NEAR_MM


def test_the_segmentation_lies_at_the_tumor_and_names_the_lesion_of_the_report(found: Found) -> None:
    (outlines,) = [dataset for path in found.of("SEG") if (dataset := dcmread(path)).ContentLabel == "PANCREAS_REGIONS"]
    segmentation = highdicom.seg.Segmentation.from_dataset(outlines)
    description = segmentation.get_segment_description(1)
    assert description.segmented_property_type.value == "108369006"
    (report,) = found.of("SR")
    tree = highdicom.sr.Comprehensive3DSR.from_dataset(dcmread(report)).content
    assert isinstance(tree, highdicom.sr.MeasurementReport)
    groups = tree.get_planar_roi_measurement_groups(tracking_uid=description.tracking_uid)
    assert groups
    assert tree.get_volumetric_roi_measurement_groups(tracking_uid=description.tracking_uid)
    volume = segmentation.get_volume(segment_numbers=[1], combine_segments=True)
    middle = volume.map_indices_to_reference(np.argwhere(volume.array).mean(axis=0, keepdims=True))[0]
    assert np.linalg.norm(middle - truth_mm()) < NEAR_MM


def test_independent_judges_find_no_error(found: Found) -> None:
    assert [error for path in found.documents for error in module_errors(path)] == []
    assert [error for path in found.of("SR") for error in (*tree_errors(path), *template_errors(path))] == []
    # As of every segmentation, PixelMed misses a Laterality that only a paired part needs.
    errors = [error for path in found.of("SEG") for error in instance_errors(path)]
    assert [error for error in errors if "GeneralSeriesModule/Laterality" not in error] == []
    assert [error for error in set_errors(found.documents, found.slices) if "AccessionNumber" not in error] == []
