"""The size of a lesion is that of who drew or measured it: segmentation, structure set, report."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from highdicom.sr.coding import CodedConcept
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage, generate_uid
from support.locations import locations
from unit.node.imaging.test_positions import (
    a_report,
    a_slice,
    an_instance,
    code,
    content,
    found,
    group,
    region,
    structures,
)

from ainode.node.domain import Extent

LONG, SHORT, VOLUME = ("103339001", "Long axis"), ("103340004", "Short axis"), ("118565006", "Volume")


def extent_in(folder: Path, *objects: Dataset) -> Extent | None:
    (location,) = found(folder, *objects)
    return location.extent


def test_a_segmented_ellipsoid_has_its_axes_and_its_volume_on_pixels_that_are_not_square(tmp_path: Path) -> None:
    slices = [a_slice(number) for number in range(15)]
    z, y, x = np.mgrid[:15, :64, :48]
    # Half axes of 8, 11 and 7 mm along slices, rows and columns; pixels of 0.5 x 0.75 mm in slices of 2 mm.
    inside = ((z - 7) * 2 / 8) ** 2 + ((y - 32) * 0.5 / 11) ** 2 + ((x - 24) * 0.75 / 7) ** 2 < 1
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="nodule",
        segmented_property_category=CodedConcept("49755003", "SCT", "Morphologically altered structure"),
        segmented_property_type=CodedConcept("27925004", "SCT", "Nodule"),
        algorithm_type="MANUAL",
    )
    segmentation = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=inside.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[description],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="another",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
    )
    extent = extent_in(tmp_path, segmentation)
    assert extent is not None
    assert extent.long_axis_mm == pytest.approx(22, abs=0.7)
    assert extent.short_axis_mm == pytest.approx(14, abs=0.7)
    assert extent.volume_mm3 == pytest.approx(4 / 3 * np.pi * 8 * 11 * 7, rel=0.05)


def test_contours_of_a_ball_have_the_axes_and_the_volume_of_the_ball(tmp_path: Path) -> None:
    drawn = structures(["nodule"])
    turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    contours = []
    for height in np.arange(-9.0, 9.5, 1.5):
        radius = float(np.sqrt(10**2 - height**2))
        points = np.stack([radius * np.cos(turns), radius * np.sin(turns), np.full(60, height)], axis=1)
        contour = Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 60
        contour.ContourData = [round(float(value), 4) for value in points.ravel()]
        contours.append(contour)
    drawn.ROIContourSequence[0].ContourSequence = contours
    extent = extent_in(tmp_path, drawn)
    assert drawn.SOPClassUID == RTStructureSetStorage
    assert extent is not None
    assert (extent.long_axis_mm, extent.short_axis_mm) == (pytest.approx(20, abs=0.1), pytest.approx(20, abs=0.1))
    assert extent.volume_mm3 == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.05)


def measured(concept: tuple[str, str], value: float, unit: str) -> Dataset:
    number = Dataset()
    number.NumericValue, number.MeasurementUnitsCodeSequence = str(value), [code(unit, "UCUM", unit)]
    return content("NUM", (concept[0], "SCT", concept[1]), MeasuredValueSequence=[number])


@pytest.mark.parametrize(
    ("measurements", "extent"),
    [
        (((LONG, 1.7, "cm"), (SHORT, 12.5, "mm"), (VOLUME, 1.9, "ml")), Extent(17.0, 12.5, 1900.0)),
        (((LONG, 17, "mm"),), Extent(17.0)),
        (((("410668003", "Length"), 9.5, "mm"),), Extent(9.5)),
        (((SHORT, 12.5, "mm"),), None),
        (((LONG, 0, "mm"),), None),
        (((LONG, 17, "{pixels}"),), None),
    ],
    ids=["axes and volume", "long axis", "ruler", "short axis alone", "nothing", "pixels"],
)
def test_the_measurements_of_a_report_give_the_extent(
    measurements: tuple[tuple[tuple[str, str], float, str], ...], extent: Extent | None, tmp_path: Path
) -> None:
    report = a_report(group(region("POINT", [1.0, 2.0, 30.0]), *(measured(*entry) for entry in measurements)))
    assert extent_in(tmp_path, report) == extent


def test_a_point_has_no_extent(tmp_path: Path) -> None:
    assert extent_in(tmp_path, a_report(group(region("POINT", [1.0, 2.0, 30.0])))) is None


def test_the_node_measures_again_what_its_own_report_says(tmp_path: Path) -> None:
    own = a_report(group(region("POINT", [1.0, 2.0, 30.0]), measured(LONG, 17, "mm")))
    own.Manufacturer, own.ManufacturerModelName = "ainode project", "ainode"
    (location,) = locations([an_instance(own, tmp_path)], own_reports=True)
    assert location.extent is None
