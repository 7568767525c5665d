"""Segmentation and contours of a nodule lie where the nodule lies, however the axial CT was scanned."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom.seg
import highdicom.sr
import numpy as np
import pytest
from conformance.made import CONTEXT, a_finding, a_result
from conformance.test_outlines import DIAMETER, MM
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from support import installed, instance_ref

installed("torch", "openvino", "safetensors", "scipy")

from ainode import weights  # noqa: E402  # after the packages were seen to be here
from ainode.handlers.lung_nodule.outlines import outline_of, segmented  # noqa: E402
from ainode.handlers.lung_nodule.places import Place, Spot, places_in  # noqa: E402
from ainode.handlers.lung_nodule.selecting import stack_at  # noqa: E402
from ainode.handlers.lung_nodule.sizes import Size  # noqa: E402
from ainode.models.nodule_outline.card import read_card  # noqa: E402
from ainode.models.nodule_outline.model import OutlineModel  # noqa: E402
from ainode.models.running.runtime import Execution  # noqa: E402
from ainode.node import reports, testing  # noqa: E402
from ainode.node.domain import DocumentKind, Location, Measurement, OutOfScope, SyntheticImage, Value, refs  # noqa: E402
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.imaging.extents import extent_of, mask_layer  # noqa: E402
from ainode.node.imaging.geometry import Stack, stack  # noqa: E402

CENTER = np.array((-31.0, 22.0, 117.0))
"""LPS mm"""
HALF_AXES = np.array((9.0, 6.0, 7.5))
"""of an ellipsoid, towards left, back and head: an exchange of axes would show"""
SLICES, ROWS, COLUMNS = 40, 72, 80
TILT = np.radians(20)
Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """How a CT is scanned: the unit vectors along rows, along columns and from slice to slice; mm."""

    row: tuple[float, float, float]
    column: tuple[float, float, float]
    step: tuple[float, float, float]
    spacing_mm: tuple[float, float, float] = (1.25, 0.8, 0.8)


GEOMETRIES: Mapping[str, Geometry] = {
    "axial": Geometry((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "from the head to the feet": Geometry((1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "prone, pixels that are not square": Geometry((-1, 0, 0), (0, -1, 0), (0, 0, 1), (1.25, 0.6, 1.0)),
    "turned in the plane": Geometry((0, 1, 0), (-1, 0, 0), (0, 0, 1), (1.25, 0.9, 0.7)),
    "oblique": Geometry(
        (1, 0, 0), (0, float(np.cos(TILT)), float(np.sin(TILT))), (0, -float(np.sin(TILT)), float(np.cos(TILT)))
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OutlineModel:
    path = Path(next(iter(weights.__path__))) / read_card().file
    return OutlineModel.load(path, execution=Execution(tmp_path_factory.mktemp("cache"), "torch-cpu"))


def scanned(geometry: Geometry, folder: Path) -> tuple[Path, ...]:
    """Write a CT of the ellipsoid in lung, off the middle of the volume."""
    slice_mm, row_mm, column_mm = geometry.spacing_mm
    row, column, step = (np.asarray(axis, np.float64) for axis in (geometry.row, geometry.column, geometry.step))
    first = CENTER - 18.3 * slice_mm * step - 33.4 * row_mm * column - 42.2 * column_mm * row
    rows, columns = np.mgrid[:ROWS, :COLUMNS][..., None]
    random = np.random.default_rng(0)
    images = []
    for number in range(SLICES):
        origin = first + number * slice_mm * step
        positions = origin + rows * row_mm * column + columns * column_mm * row
        distance = (np.sqrt((((positions - CENTER) / HALF_AXES) ** 2).sum(-1)) - 1) * HALF_AXES.mean()
        values = -850 + 890 * np.clip(0.5 - distance / 0.8, 0, 1) + random.normal(0, 15, distance.shape)
        header: dict[str, Value] = {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
            "Modality": "CT",
            "BodyPartExamined": "CHEST",
            "FrameOfReferenceUID": "2.25.9",
            "ImagePositionPatient": tuple(float(round(value, 5)) for value in origin),
            "ImageOrientationPatient": tuple(float(round(value, 9)) for value in (*row, *column)),
            "PixelSpacing": (row_mm, column_mm),
            "SliceThickness": slice_mm,
            "RescaleIntercept": -1024.0,
            "RescaleSlope": 1.0,
        }
        stored = np.clip(np.rint(values) + 1024, 0, 4095).astype("<u2")
        images.append(SyntheticImage(ROWS, COLUMNS, stored.tobytes(), header))
    random.shuffle(images)  # type: ignore[arg-type]
    return testing.write(images, folder, study="places")


def place_in(model: OutlineModel, paths: tuple[Path, ...]) -> Place:
    slices = stack(headers.instance(path, sha256="") for path in paths)
    assert isinstance(slices, Stack)
    x, y, z = (CENTER + np.array((2.0, -1.5, 1.0))).tolist()  # as a person misses the middle
    (place,) = places_in(slices, [Spot(slices, Location((x, y, z), "request"))], model.outline)
    return place


@pytest.mark.parametrize("name", GEOMETRIES)
def test_segmentation_and_contours_lie_at_the_nodule(name: str, model: OutlineModel, tmp_path: Path) -> None:
    paths = scanned(GEOMETRIES[name], tmp_path / "ct")
    place = place_in(model, paths)
    by_uid = {instance_ref(path).sop_instance_uid: path for path in paths}
    key = by_uid[place.key_slice.sop_instance_uid]
    size = Measurement(DIAMETER, 15.0, MM, (place.key_slice,), of_outline=True)
    finding = replace(a_finding(1, place.key_slice), tracking_identifier="nodule 1", outline=outline_of(place))
    finding = replace(finding, measurements=(*finding.measurements, size), region=None)
    result = replace(
        a_result(key),
        findings=(finding,),
        captures=(),
        evidence=refs(place.slices.instances),
        segmented=segmented({"nodule 1": place}, model.card.threshold).segmented,
    )
    kind = DocumentKind.SEGMENTATION_FRACTIONAL
    documents = reports.documents(result, by_uid, replace(CONTEXT, optional=(kind,)))
    files = {}
    for document in documents:
        files[document.kind] = tmp_path / f"{document.kind}.dcm"
        files[document.kind].write_bytes(document.content)
    assert_at_the_nodule(contour_points(files[DocumentKind.STRUCTURED_REPORT]))
    assert_at_the_nodule(segmented_points(files[kind]))
    measures = dcmread(files[kind]).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(place.slices.spacing_mm[0])
    (group,) = highdicom.sr.srread(
        files[DocumentKind.STRUCTURED_REPORT]
    ).content.get_volumetric_roi_measurement_groups()
    assert_sized_as_measured(place, dcmread(files[kind]))
    (segment,) = dcmread(files[kind]).SegmentSequence
    assert (segment.TrackingID, segment.TrackingUID) == (group.tracking_identifier, group.tracking_uid)


def assert_sized_as_measured(place: Place, segmentation: Dataset) -> None:
    """Check that volume and axes of the report are what its segmentation holds, to anyone who counts pixels."""
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    row_mm, column_mm = (float(value) for value in measures.PixelSpacing)
    masks = segmentation.pixel_array > 0
    assert isinstance(place.size, Size)
    voxel_mm3 = float(measures.SpacingBetweenSlices) * row_mm * column_mm
    assert place.size.volume_mm3 == pytest.approx(masks.sum() * voxel_mm3)
    steps = np.array((0.0, row_mm, 0.0)), np.array((column_mm, 0.0, 0.0))
    read_back = extent_of([mask_layer(mask, np.array((0.0, 0.0, number)), *steps) for number, mask in enumerate(masks)])
    assert read_back is not None
    assert place.size.long_axis_mm == pytest.approx(read_back.long_axis_mm, abs=0.05)
    assert place.size.short_axis_mm == pytest.approx(read_back.short_axis_mm, abs=0.2)


def contour_points(report: Path) -> Vectors:
    (group,) = highdicom.sr.srread(report).content.get_volumetric_roi_measurement_groups()
    return np.concatenate([item.value for item in group.roi if item.ValueType == "SCOORD3D"])


def segmented_points(path: Path) -> Vectors:
    """Return the positions of the segmented pixels by the functional groups of their frames (PS3.3 C.7.6.2.1.1)."""
    dataset = dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientation = np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, np.float64).reshape(2, 3)
    row_mm, column_mm = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    points = []
    for frame, groups in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.asarray(groups.PlanePositionSequence[0].ImagePositionPatient, np.float64)
        rows, columns = np.nonzero(frame)
        points.append(origin + columns[:, None] * column_mm * orientation[0] + rows[:, None] * row_mm * orientation[1])
    return np.concatenate(points)


def assert_at_the_nodule(points: Vectors) -> None:
    low, high = points.min(axis=0), points.max(axis=0)
    assert (low + high) / 2 == pytest.approx(CENTER, abs=1.0)
    assert (high - low) / 2 == pytest.approx(HALF_AXES, abs=1.5)


def test_slices_that_are_not_axial_are_refused_in_words(tmp_path: Path) -> None:
    sagittal = Geometry((0, 1, 0), (0, 0, -1), (-1, 0, 0))
    study = headers.study(headers.instance(path, sha256="") for path in scanned(sagittal, tmp_path))
    x, y, z = CENTER
    answer = stack_at(study.series, Location((float(x), float(y), float(z)), "request"))
    assert isinstance(answer, OutOfScope)
    assert answer.code == "not-axial"
