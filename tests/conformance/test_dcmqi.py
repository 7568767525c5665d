"""dcmqi, by which 3D Slicer opens segmentations and reports, reads the same places, names and numbers."""

from pathlib import Path

import numpy as np
import pytest
from conformance.made import CONTEXT, old_archive
from conformance.test_ct_documents import a_slice, read
from conformance.test_outlines import outlined as outlined_nodule
from conformance.test_segmentations import FRACTIONAL, LABELMAP, a_map, made, outlined, slices
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from support import instance_ref, judges

from ainode.node import reports
from ainode.node.domain import DocumentContext, DocumentKind, Finding

SimpleITK = pytest.importorskip("SimpleITK")
Voxels = dict[tuple[float, ...], int]
"""value by position in the patient, in mm"""
BLUE, ORANGE = (86, 180, 233), (230, 159, 0)


def voxels(paths: list[Path]) -> Voxels:
    """Return the voxels of volumes that are not 0."""
    values_by_place: Voxels = {}
    for path in paths:
        volume = SimpleITK.ReadImage(str(path))
        values = SimpleITK.GetArrayFromImage(volume)
        for z, y, x in np.argwhere(values).tolist():
            place = volume.TransformIndexToPhysicalPoint((x, y, z))
            values_by_place[tuple(round(value, 2) for value in place)] = int(values[z, y, x])
    return values_by_place


def marked(paths: list[Path], maps: list[NDArray[np.uint8]]) -> Voxels:
    """Return the pixels of axial slices that are not 0, by PS3.3 C.7.6.2.1.1."""
    values_by_place: Voxels = {}
    for path, values in zip(paths, maps, strict=True):
        image = dcmread(path, stop_before_pixels=True)
        left, top, z = (float(value) for value in image.ImagePositionPatient)
        down, along = (float(value) for value in image.PixelSpacing)
        for row, column in np.argwhere(values).tolist():
            values_by_place[round(left + column * along, 2), round(top + row * down, 2), round(z, 2)] = int(
                values[row, column]
            )
    return values_by_place


def saved(segmentation: Dataset, folder: Path) -> Path:
    segmentation.save_as(path := folder / "segmentation.dcm")
    return path


@pytest.mark.parametrize("kind", [FRACTIONAL, LABELMAP])
def test_every_voxel_of_an_outline_lies_where_its_pixel_lies_and_has_the_name_of_its_segment(
    kind: DocumentKind, tmp_path: Path
) -> None:
    segmentation, paths, maps = outlined(tmp_path / "study", kind)
    description, volumes = judges.dcmqi_segments(saved(segmentation, tmp_path), tmp_path / "read")
    assert voxels(volumes) == marked(paths, maps)
    assert {SimpleITK.ReadImage(str(path)).GetSpacing()[2] for path in volumes} == {7.0}
    segments = {item["labelID"]: item for group in description["segmentAttributes"] for item in group}
    assert {number: item["SegmentLabel"] for number, item in segments.items()} == {1: "lung", 2: "infection"}
    assert segments[1]["SegmentedPropertyTypeCodeSequence"]["CodeValue"] == "39607008"


def test_two_outlines_of_a_binary_segmentation_have_two_colors(tmp_path: Path) -> None:
    segmentation, _, _ = outlined(tmp_path / "study", FRACTIONAL)
    description, _ = judges.dcmqi_segments(saved(segmentation, tmp_path), tmp_path / "read")
    colors = [item["recommendedDisplayRGBValue"] for group in description["segmentAttributes"] for item in group]
    assert np.abs(np.subtract(colors, (BLUE, ORANGE))).max() <= 2


def test_the_saliency_has_its_values_at_its_pixels(tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "study", 1)
    values = a_map(0)
    (segmentation,) = made({path: values})
    _, volumes = judges.dcmqi_segments(saved(segmentation, tmp_path), tmp_path / "read")
    assert voxels(volumes) == marked([path], [values])


def numbers_of(findings: tuple[Finding, ...]) -> set[tuple[str, str, float, str]]:
    """Return what was measured: the finding, the concept, the value, the unit."""
    return {
        (finding.tracking_identifier, number.concept.value, number.value, number.unit.value)
        for finding in findings
        for number in finding.measurements
    }


@pytest.mark.parametrize("context", [CONTEXT, old_archive()], ids=["3d", "comprehensive"])
def test_the_numbers_of_a_report_are_those_that_were_measured(context: DocumentContext, tmp_path: Path) -> None:
    path = a_slice(tmp_path / "now")
    result = outlined_nodule(path)
    documents = reports.documents(result, {instance_ref(path).sop_instance_uid: path}, context)
    groups = judges.dcmqi_measurements(read(documents[-1], tmp_path)[1], tmp_path)["Measurements"]
    numbers = {
        (group["TrackingIdentifier"], item["quantity"]["CodeValue"], float(item["value"]), item["units"]["CodeValue"])
        for group in groups
        for item in group["measurementItems"]
    }
    threshold = "122411"
    assert {number for number in numbers if number[1] != threshold} == numbers_of(result.findings)
    (finding,) = result.findings
    assert {group["Finding"]["CodeValue"] for group in groups} == {finding.concept.value}
    assert {group["FindingSite"]["CodeValue"] for group in groups} == {finding.site.value}
    assert {group["Laterality"]["CodeMeaning"] for group in groups} == {"Left"}
    answers = [
        item["conceptValue"]["CodeMeaning"]
        for group in groups
        for item in group["qualitativeEvaluations"]
        if item["conceptCode"]["CodeMeaning"] == "Malignant"
    ]
    assert answers == ["Present"] * len(groups)
