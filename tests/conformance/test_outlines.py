"""What was measured on an outline stands in the report with the outline, in the patient."""

from dataclasses import replace
from pathlib import Path

import highdicom.sr
import numpy as np
import pytest
from conformance.made import CONTEXT, a_finding, a_result, box, old_archive
from conformance.test_ct_documents import a_slice, read
from support import instance_ref, judges

from ainode.node import reports
from ainode.node.domain import (
    UID,
    Capture,
    Code,
    DocumentContext,
    LabelMap,
    Measurement,
    Outline,
    Position,
    Result,
    Segment,
    Segmented,
    Verdict,
)
from ainode.node.reports.labels import FINDING_COLOR

MM = Code("mm", "UCUM", "mm")
DIAMETER = Code("81827009", "SCT", "Diameter")
LEFT = Code("7771000", "SCT", "Left")
MALIGNANT = Code("21594007", "SCT", "Malignant")


def square(z: float) -> tuple[Position, ...]:
    return ((0.0, 0.0, z), (9.0, 0.0, z), (9.0, 9.0, z), (0.0, 9.0, z), (0.0, 0.0, z))


def outlined(path: Path) -> Result:
    """Return a nodule with a box, a diameter of its outline and a side."""
    image = instance_ref(path)
    outline = Outline(UID("1.2.3.4"), image.series_instance_uid, (square(-66.0), square(-65.0), square(-64.0)))
    finding = a_finding(1, image, region=box(image, 1))
    diameter = Measurement(DIAMETER, 9.0, MM, (image,), of_outline=True)
    finding = replace(
        finding,
        measurements=(*finding.measurements, diameter),
        verdict=Verdict.of(0.89, 0.5, about=MALIGNANT),
        laterality=LEFT,
        outline=outline,
    )
    return replace(a_result(path), findings=(finding,))


def report_of(path: Path, context: DocumentContext, folder: Path) -> Path:
    documents = reports.documents(outlined(path), {instance_ref(path).sop_instance_uid: path}, context)
    return read(documents[-1], folder)[1]


def test_a_number_of_an_outline_stands_with_its_contours(tmp_path: Path) -> None:
    path = a_slice(tmp_path / "now")
    tree = highdicom.sr.srread(report_of(path, CONTEXT, tmp_path)).content
    (group,) = tree.get_volumetric_roi_measurement_groups()
    assert [item.name.value for item in group.get_measurements()] == [DIAMETER.value]
    contours = [contour.value for contour in group.roi if contour.ValueType == "SCOORD3D"]
    assert np.array_equal(contours, [square(-66.0), square(-65.0), square(-64.0)])
    (site,) = group.finding_sites
    assert (site.value.value, site.laterality.value) == ("421060004", LEFT.value)
    planar = tree.get_planar_roi_measurement_groups()
    assert {item.tracking_uid for item in planar} == {group.tracking_uid}
    assert all(DIAMETER.value not in {number.name.value for number in item.get_measurements()} for item in planar)


def test_an_archive_without_3d_reports_gets_the_number_without_the_outline(tmp_path: Path) -> None:
    path = a_slice(tmp_path / "now")
    tree = highdicom.sr.srread(report_of(path, old_archive(), tmp_path)).content
    assert tree.get_volumetric_roi_measurement_groups() == []
    names = [
        number.name.value for item in tree.get_planar_roi_measurement_groups() for number in item.get_measurements()
    ]
    assert DIAMETER.value in names


def test_a_capture_shows_the_pixels_of_the_segmentation_of_its_own_finding_and_of_no_other(tmp_path: Path) -> None:
    path = a_slice(tmp_path / "now")
    result, image = outlined(path), instance_ref(path)
    names = result.findings[0].tracking_identifier, "another"
    labels = np.zeros((512, 512), np.uint8)
    labels[100:121, 200:231], labels[300:320, 300:320] = 1, 2
    segments = tuple(Segment(name, MALIGNANT, MALIGNANT, finding=name) for name in names)
    capture = Capture(image, "Nodule", (), None, result.findings)
    shown = replace(
        result,
        captures=(capture,),
        segmented=Segmented("NODULES", segments, (LabelMap(image, 512, 512, labels.tobytes()),)),
    )
    (document, *_) = reports.documents(shown, {image.sop_instance_uid: path}, CONTEXT)
    marked = read(document, tmp_path)[0].pixel_array[:512, 520:1032]
    edge = (marked == FINDING_COLOR).all(axis=2)
    assert edge[100, 200:231].all()
    assert edge[120, 200:231].all()
    assert edge[100:121, [200, 230]].all()
    assert not edge[101:120, 201:230].any()
    assert not edge[295:325, 295:325].any()


@pytest.mark.parametrize("context", [CONTEXT, old_archive()], ids=["3d", "comprehensive"])
def test_the_validators_find_no_error_in_a_report_with_an_outline(context: DocumentContext, tmp_path: Path) -> None:
    report = report_of(a_slice(tmp_path / "now"), context, tmp_path)
    assert [*judges.module_errors(report), *judges.tree_errors(report), *judges.template_errors(report)] == []


@pytest.mark.parametrize(
    "contours",
    [(square(1.0),), (square(1.0), square(2.0)[:-1]), (square(1.0), (square(2.0)[0],) * 4)],
    ids=["a single contour", "an open contour", "a point"],
)
def test_contours_without_a_volume_are_no_outline(contours: tuple[tuple[Position, ...], ...]) -> None:
    with pytest.raises(ValueError, match="contour"):
        Outline(UID("1.2"), UID("1.2.3"), contours)
