"""Objects written by plain pydicom, by highdicom, and real ones."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from highdicom.sr.coding import CodedConcept
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ChestCADSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)
from support import shared
from support.locations import locations

from ainode.node.disk import sha256_of
from ainode.node.domain import UID, Instance, Location
from ainode.node.encoding import headers
from ainode.node.identity import MANUFACTURER, MODEL_NAME

FRAME, STUDY, SERIES = "1.2.3.9", "1.2.3", "1.2.3.1"
SPACING = (0.5, 0.75)  # rows, columns
ORIGIN = (-100.0, -80.0, 30.0)
NODULE = ("27925004", "SCT", "Nodule")
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # Label Map Segmentation Storage
LIVER = ("10200004", "SCT", "Liver")


def an_object(sop_class: str, modality: str, **values: Any) -> Dataset:  # noqa: ANN401 - any element
    data_set = Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class, generate_uid()
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = STUDY, generate_uid()
    data_set.Modality, data_set.Manufacturer = modality, "another"
    data_set.PatientID, data_set.PatientName = "T", "T^T"
    data_set.PatientBirthDate = data_set.PatientSex = data_set.AccessionNumber = data_set.StudyID = ""
    data_set.StudyDate, data_set.StudyTime, data_set.ReferringPhysicianName = "20260101", "120000", ""
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data_set


def an_instance(data_set: Dataset, folder: Path) -> Instance:
    path = folder / f"{data_set.SOPInstanceUID}.dcm"
    data_set.save_as(path, enforce_file_format=True)
    return headers.instance(path, sha256=sha256_of(path))


def a_slice(number: int = 0) -> Dataset:
    image = an_object(CTImageStorage, "CT", FrameOfReferenceUID=FRAME, SeriesInstanceUID=SERIES, InstanceNumber=number)
    image.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + 2 * number]
    image.ImageOrientationPatient, image.PixelSpacing = [1, 0, 0, 0, 1, 0], list(SPACING)
    image.SliceThickness, image.Rows, image.Columns, image.BitsAllocated = 2, 64, 48, 16
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsStored, image.HighBit, image.PixelData = 16, 15, bytes(2 * 64 * 48)
    image.ImageType, image.PositionReferenceIndicator = ["ORIGINAL", "PRIMARY", "AXIAL"], ""
    return image


def at(column: float, row: float, number: float = 0) -> tuple[float, float, float]:
    """Return the position of a voxel center, counted from 0."""
    return (ORIGIN[0] + column * SPACING[1], ORIGIN[1] + row * SPACING[0], ORIGIN[2] + 2 * number)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def content(kind: str, concept: tuple[str, str, str] | None = None, *below: Dataset, **values: Any) -> Dataset:  # noqa: ANN401
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", kind
    if concept:
        item.ConceptNameCodeSequence = [code(*concept)]
    if below:
        item.ContentSequence = list(below)
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def region(kind: str, points: Sequence[float], image: Dataset | None = None) -> Dataset:
    concept = ("111030", "DCM", "Image Region")
    if image is None:
        return content(
            "SCOORD3D", concept, GraphicType=kind, GraphicData=list(points), ReferencedFrameOfReferenceUID=FRAME
        )
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    below = content("IMAGE", None, ReferencedSOPSequence=[reference])
    return content("SCOORD", concept, below, GraphicType=kind, GraphicData=list(points))


def group(*regions: Dataset, finding: tuple[str, str, str] | None = NODULE, tracking: str = "1.2.3.77") -> Dataset:
    said = [content("UIDREF", ("112040", "DCM", "Tracking Unique Identifier"), UID=tracking)]
    if finding:
        said.append(content("CODE", ("121071", "DCM", "Finding"), ConceptCodeSequence=[code(*finding)]))
    return content("CONTAINER", ("125007", "DCM", "Measurement Group"), *said, *regions)


def a_report(*groups: Dataset, sop_class: str = Comprehensive3DSRStorage, **values: Any) -> Dataset:  # noqa: ANN401
    measured = content("CONTAINER", ("126010", "DCM", "Imaging Measurements"), *groups)
    root = content("CONTAINER", ("126000", "DCM", "Imaging Measurement Report"), measured)
    return an_object(sop_class, "SR", ValueType="CONTAINER", ContentSequence=root.ContentSequence, **values)


def found(folder: Path, *objects: Dataset) -> tuple[Location, ...]:
    return locations([an_instance(one, folder) for one in objects])


SQUARE = [0.0, 0, 5, 4, 0, 5, 4, 4, 5, 0, 4, 5, 0, 0, 5]
# An L whose corners' mean is not its center of area: (5/6, 5/6) of two by two.
L_SHAPE = [0.0, 0, 5, 2, 0, 5, 2, 1, 5, 1, 1, 5, 1, 2, 5, 0, 2, 5]
ELLIPSOID = [-5.0, 1, 1, 7, 1, 1, 1, -5, 1, 1, 7, 1, 1, 1, -5, 1, 1, 7]


@pytest.mark.parametrize(
    ("kind", "points", "expected"),
    [
        ("POINT", [1.5, -2.5, 30.25], (1.5, -2.5, 30.25)),
        ("MULTIPOINT", [0.0, 0, 0, 2, 4, 6], (1, 2, 3)),
        ("POLYLINE", SQUARE, (2, 2, 5)),
        ("POLYGON", L_SHAPE + L_SHAPE[:3], (5 / 6, 5 / 6, 5)),
        ("ELLIPSOID", ELLIPSOID, (1, 1, 1)),
    ],
)
def test_the_center_of_every_shape_in_space_is_found(
    kind: str, points: list[float], expected: tuple[float, ...], tmp_path: Path
) -> None:
    (location,) = found(tmp_path, a_report(group(region(kind, points))))
    assert location.position_mm == pytest.approx(expected, abs=1e-5)
    assert (location.source, location.frame_of_reference_uid, location.tracking_uid) == ("SR", FRAME, "1.2.3.77")


@pytest.mark.parametrize(
    ("kind", "points", "expected"),
    [
        ("POINT", [10.5, 20.5], at(10, 20)),
        ("CIRCLE", [10.5, 20.5, 15, 20], at(10, 20)),
        ("POLYLINE", [10, 20, 14, 20, 14, 28, 10, 28, 10, 20], at(11.5, 23.5)),
        ("ELLIPSE", [5.5, 10.5, 15.5, 10.5, 10.5, 8.5, 10.5, 12.5], at(10, 10)),
    ],
)
def test_pixels_of_an_image_become_positions(
    kind: str, points: list[float], expected: tuple[float, ...], tmp_path: Path
) -> None:
    image = a_slice()
    report = a_report(group(region(kind, points, image)), sop_class=ComprehensiveSRStorage)
    (location,) = found(tmp_path, report, image)
    assert location.position_mm == pytest.approx(expected, abs=1e-5)
    assert (location.frame_of_reference_uid, location.series_instance_uid) == (FRAME, SERIES)


def test_outlines_on_several_slices_are_one_lesion_weighted_by_area(tmp_path: Path) -> None:
    slices = [a_slice(number) for number in range(3)]
    squares = [(10, 30), (10, 20)]  # from, to: 400 and 100 pixels
    outlines = [
        region("POLYLINE", [low, low, high, low, high, high, low, high, low, low], image)
        for (low, high), image in zip(squares, slices[::2], strict=True)
    ]
    (location,) = found(tmp_path, a_report(group(*outlines)), *slices)
    assert location.position_mm == pytest.approx(at(18.5, 18.5, number=0.4), abs=1e-5)


def test_coordinates_outside_of_the_image_not_numbers_or_on_an_absent_image_are_skipped(tmp_path: Path) -> None:
    image, absent = a_slice(), a_slice()
    bad = [
        region("POINT", [49.0, 10], image),
        region("POINT", [-1.0, 10], image),
        region("POINT", [float("nan"), 10], image),
        region("POINT", [10.0, 10], absent),
        region("POINT", [float("inf"), 0, 0]),
        region("POINT", [0.0, 0, 1e7]),
        region("POINT", [0.0, 0]),
    ]
    report = a_report(*(group(one, tracking=f"1.2.{number}") for number, one in enumerate(bad)))
    assert found(tmp_path, report, image) == ()


NO_POSITIONS = [float("nan"), float("inf"), 1e7]


def left_out(folder: Path, caplog: pytest.LogCaptureFixture, *objects: Dataset) -> str:
    """Return the log lines about objects that point at nothing."""
    with caplog.at_level(logging.WARNING):
        assert found(folder, *objects) == ()
    return caplog.text


@pytest.mark.parametrize("number", NO_POSITIONS)
def test_a_mark_of_a_report_whose_coordinate_is_no_position_is_left_out_with_its_reason(
    number: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where other regions of the mark have positions: their center would be a guess."""
    report = a_report(group(region("POINT", [number, 0, 0]), region("POINT", [1.0, 2, 3])))
    line = left_out(tmp_path, caplog, report)
    assert f"SR {report.SOPInstanceUID}: 1 of 1 marks are left out: a coordinate is not finite, or more than" in line


def test_a_mark_on_a_pixel_that_is_no_number_is_left_out_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = a_slice()
    report = a_report(group(region("POINT", [float("nan"), 10], image), region("POINT", [10.0, 10], image)))
    assert "1 of 1 marks are left out" in left_out(tmp_path, caplog, report, image)


@pytest.mark.parametrize("number", NO_POSITIONS)
@pytest.mark.parametrize("kind", ["SEG", "RTSTRUCT"])
def test_a_drawn_mark_whose_coordinate_is_no_position_is_left_out_with_its_reason(
    kind: str, number: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with disable_value_validation():
        if kind == "SEG":
            drawn = a_segmentation("BINARY", segments=["Nodule 1"])
            plane = drawn.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
            plane.ImagePositionPatient = [0, 0, number]
        else:
            drawn = structures(["GTV"])
            drawn.ROIContourSequence[0].ContourSequence[1].ContourData[3] = number
        line = left_out(tmp_path, caplog, drawn)
    assert f"{kind} {drawn.SOPInstanceUID}: 1 of 1 marks are left out" in line


def test_of_several_items_those_that_say_lesion_count_and_of_one_alone_it_counts(tmp_path: Path) -> None:
    here, there = region("POINT", [1.0, 2, 3]), region("POINT", [4.0, 5, 6])
    both = a_report(group(here, finding=LIVER, tracking="1.2.1"), group(there, tracking="1.2.2"))
    assert [one.tracking_uid for one in found(tmp_path, both)] == ["1.2.2"]
    unnamed = [group(here, finding=None, tracking="1.2.1"), group(there, finding=None, tracking="1.2.2")]
    assert found(tmp_path, a_report(*unnamed)) == ()
    assert len(found(tmp_path, a_report(unnamed[0]))) == 1


def test_what_this_node_made_is_not_read_back(tmp_path: Path) -> None:
    own = a_report(group(region("POINT", [1.0, 2, 3])), Manufacturer=MANUFACTURER, ManufacturerModelName=MODEL_NAME)
    assert found(tmp_path, own) == ()


def test_what_this_node_made_is_read_where_that_is_asked_for_and_of_one_lesion_another_report_counts(
    tmp_path: Path,
) -> None:
    mine = {"Manufacturer": MANUFACTURER, "ManufacturerModelName": MODEL_NAME}
    own = a_report(
        group(region("POINT", [1.0, 2, 3])), group(region("POINT", [7.0, 8, 9]), tracking="1.2.3.78"), **mine
    )
    instances = [an_instance(one, tmp_path) for one in (own, a_report(group(region("POINT", [4.0, 5, 6]))))]
    assert [one.position_mm for one in locations(instances, own_reports=True)] == [(4, 5, 6), (7, 8, 9)]
    assert [one.position_mm for one in locations(instances)] == [(4, 5, 6)]


def test_a_report_of_ours_that_a_later_one_supersedes_does_not_count(tmp_path: Path) -> None:
    mine = {"Manufacturer": MANUFACTURER, "ManufacturerModelName": MODEL_NAME}
    first = a_report(group(region("POINT", [1.0, 2, 3]), tracking="1.2.3.1"), **mine)
    reference, series, study = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPInstanceUID = first.SOPInstanceUID
    series.ReferencedSOPSequence, study.ReferencedSeriesSequence = [reference], [series]
    second = a_report(
        group(region("POINT", [4.0, 5, 6]), tracking="1.2.3.2"), PredecessorDocumentsSequence=[study], **mine
    )
    instances = [an_instance(one, tmp_path) for one in (first, second)]
    assert [one.position_mm for one in locations(instances, own_reports=True)] == [(4, 5, 6)]


def test_the_center_of_a_cad_finding_counts_once_though_seen_on_two_slices(tmp_path: Path) -> None:
    image, other = a_slice(0), a_slice(2)

    def a_center(drawn_on: Dataset) -> Dataset:
        item = region("POINT", [10.5, 20.5], drawn_on)
        item.ConceptNameCodeSequence = [code("111010", "DCM", "Center")]
        nodule = [code("M-03010", "SRT", "Nodule")]
        return content("CODE", ("111059", "DCM", "Single Image Finding"), item, ConceptCodeSequence=nodule)

    nodule = [code("M-03010", "SRT", "Nodule")]
    feature = ("111015", "DCM", "Composite Feature")
    whole = content("CODE", feature, a_center(image), a_center(other), ConceptCodeSequence=nodule)
    (location,) = found(tmp_path, a_report(whole, sop_class=ChestCADSRStorage), image, other)
    assert location.position_mm == pytest.approx(at(10, 20, number=1))


def test_a_scoord_may_refer_to_its_image_by_the_place_of_another_item(tmp_path: Path) -> None:
    image = a_slice()
    drawn = region("POINT", [10.5, 20.5], image)
    reference = drawn.ContentSequence[0]
    drawn.ContentSequence = [content("IMAGE", None)]
    drawn.ContentSequence[0].ReferencedContentItemIdentifier = [1, 2]
    del drawn.ContentSequence[0].ValueType
    report = a_report(group(drawn))
    report.ContentSequence.append(reference)
    assert found(tmp_path, report, image)[0].position_mm == pytest.approx(at(10, 20))


def test_a_report_written_by_highdicom_is_read(tmp_path: Path) -> None:
    image = a_slice()
    finding = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid="1.2.5", identifier="left lower"),
        referenced_region=hd.sr.ImageRegion3D(
            graphic_type=hd.sr.GraphicTypeValues3D.POINT,
            graphic_data=np.array([[1.25, 2.5, 3.75]]),
            frame_of_reference_uid=FRAME,
        ),
        finding_type=CodedConcept("4147007", "SCT", "Mass"),
    )
    observer = hd.sr.ObserverContext(
        CodedConcept("121007", "DCM", "Device"), hd.sr.DeviceObserverIdentifyingAttributes(uid="1.2.6")
    )
    tree = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=CodedConcept("77477000", "SCT", "CT of thorax"),
        imaging_measurements=[finding],
    )
    report = hd.sr.Comprehensive3DSR(
        evidence=[image],
        content=tree[0],
        series_instance_uid="1.2.7",
        series_number=1,
        sop_instance_uid="1.2.8",
        instance_number=1,
        manufacturer="another",
    )
    (location,) = found(tmp_path, report, image)
    assert (location.position_mm, location.tracking_uid) == ((1.25, 2.5, 3.75), "1.2.5")


# Segmentations


def a_segmentation(kind: str, *, segments: Sequence[str] = ("Nodule 1", "Liver"), label_map: bool = False) -> Dataset:
    """Return segments of 3 x 2 pixels at column 10, 20, ..., row 5, on the slices 0 and 1 each."""
    frames, groups = [], []
    for number in range(1) if label_map else range(len(segments)):
        for place in (0, 1):
            frame = np.zeros((64, 48), np.uint8)
            for segment in range(len(segments)) if label_map else (number,):
                column = 10 * (segment + 1)
                full = {"FRACTIONAL": 200, "LABELMAP": segment + 1}.get(kind, 1)
                frame[5:7, column : column + 3] = full
                if kind == "FRACTIONAL":
                    frame[40, 40] = 60
            frames.append(frame)
            item, plane, identified = Dataset(), Dataset(), Dataset()
            plane.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + 2 * place]
            item.PlanePositionSequence = [plane]
            if not label_map:
                identified.ReferencedSegmentNumber = number + 1
                item.SegmentIdentificationSequence = [identified]
            groups.append(item)
    shared_group, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, orientation.ImageOrientationPatient = list(SPACING), [1, 0, 0, 0, 1, 0]
    shared_group.PixelMeasuresSequence, shared_group.PlaneOrientationSequence = [measures], [orientation]
    described = []
    for number, label in enumerate(segments, start=1):
        item = Dataset()
        item.SegmentNumber, item.SegmentLabel, item.TrackingUID = number, label, f"1.2.{number}"
        described.append(item)
    bits = 1 if kind == "BINARY" else 8
    pixels = np.stack(frames)
    return an_object(
        LABEL_MAP if label_map else SegmentationStorage,
        "SEG",
        FrameOfReferenceUID=FRAME,
        SegmentationType=kind,
        MaximumFractionalValue=200,
        SegmentSequence=described,
        SharedFunctionalGroupsSequence=[shared_group],
        PerFrameFunctionalGroupsSequence=groups,
        NumberOfFrames=len(frames),
        Rows=64,
        Columns=48,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        PixelRepresentation=0,
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelData=np.packbits(pixels.ravel(), bitorder="little").tobytes() if bits == 1 else pixels.tobytes(),
    )


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segment_called_nodule_is_at_its_center(kind: str, tmp_path: Path) -> None:
    (location,) = found(tmp_path, a_segmentation(kind, label_map=kind == "LABELMAP"))
    assert location.position_mm == pytest.approx(at(11, 5.5, number=0.5))
    assert (location.source, location.frame_of_reference_uid, location.tracking_uid) == ("SEG", FRAME, "1.2.1")


def test_the_same_tracked_lesion_in_report_and_segmentation_is_one_place(tmp_path: Path) -> None:
    report = a_report(group(region("POINT", [1.0, 2, 3]), tracking="1.2.1"))
    assert [one.source for one in found(tmp_path, a_segmentation("BINARY"), report)] == ["SR"]


def test_a_segmentation_written_by_highdicom_is_read(tmp_path: Path) -> None:
    slices = [a_slice(number) for number in range(3)]
    mask = np.zeros((3, 64, 48), np.uint8)
    mask[1:3, 30:33, 20:25] = 1
    seg = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=mask,
        segmentation_type="BINARY",
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=1,
                segment_label="a",
                segmented_property_category=CodedConcept("49755003", "SCT", "Morphologically altered structure"),
                segmented_property_type=CodedConcept("86049000", "SCT", "Neoplasm, Primary"),
                algorithm_type="MANUAL",
            )
        ],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="another",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
    )
    (location,) = found(tmp_path, seg)
    assert location.position_mm == pytest.approx(at(22, 31, number=1.5), abs=1e-4)
    assert location.series_instance_uid == SERIES


def test_a_real_liver_is_no_lesion_but_called_mass_it_lies_where_its_pixels_are(tmp_path: Path) -> None:
    path = shared("data/dicom/ct_abdomen/dcmqi_ct-3slice_with_SEG/liver.dcm")
    assert locations([headers.instance(path, sha256="")]) == ()
    renamed = dcmread(path)
    renamed.SegmentSequence[0].SegmentLabel = "Mass"
    (location,) = found(tmp_path, renamed)
    per_frame = renamed.PerFrameFunctionalGroupsSequence
    zs = [float(one.PlanePositionSequence[0].ImagePositionPatient[2]) for one in per_frame]
    x, y, _ = (float(one) for one in per_frame[0].PlanePositionSequence[0].ImagePositionPatient)
    frame, row, column = np.nonzero(renamed.pixel_array)
    spacing = 0.810547
    expected = (x + column.mean() * spacing, y + row.mean() * spacing, np.take(zs, frame).mean())
    assert location.position_mm == pytest.approx(expected, abs=1e-3)


# Structure sets


def structures(names: Sequence[str], **interpreted: str) -> Dataset:
    """Return squares of 4 mm at 10, 20, ... on the planes 0, 2 and 4 mm."""
    rois, contours, observed = [], [], []
    for number, name in enumerate(names, start=1):
        roi, drawn, seen = Dataset(), Dataset(), Dataset()
        roi.ROINumber = drawn.ReferencedROINumber = seen.ReferencedROINumber = number
        roi.ROIName, roi.ReferencedFrameOfReferenceUID = name, FRAME
        seen.RTROIInterpretedType = interpreted.get(name, "")
        low, high = 10.0 * number, 10.0 * number + 4
        drawn.ContourSequence = []
        for z in (0, 2, 4):
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
            contour.ContourData = [low, low, z, high, low, z, high, high, z, low, high, z]
            drawn.ContourSequence.append(contour)
        rois.append(roi)
        contours.append(drawn)
        observed.append(seen)
    return an_object(
        RTStructureSetStorage,
        "RTSTRUCT",
        StructureSetROISequence=rois,
        ROIContourSequence=contours,
        RTROIObservationsSequence=observed,
    )


def test_the_gross_tumor_volume_of_a_plan_is_at_its_center_and_organs_are_not(tmp_path: Path) -> None:
    (location,) = found(tmp_path, structures(["Lungs-GTV", "GTV_1", "Heart", "PTV"]))
    extent = location.extent
    assert location == Location((22.0, 22.0, 2.0), "RTSTRUCT", UID(FRAME), extent=extent)
    assert extent is not None
    assert extent.volume_mm3 == pytest.approx(3 * 2 * 4 * 4)


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["nodule_1", "LungNodule2", "spinal cord"], 2),
        (["Tumour bed"], 1),
        (["ROI"], 1),
        (["RING_GTV", "GTV-PTV margin", "muscle mass x", "massive"], 1),
        (["ROI", "other"], 0),
        (["Lungs - GTV"], 0),
        (["BODY minus GTV"], 0),
    ],
)
def test_a_region_is_judged_by_its_name(names: list[str], count: int, tmp_path: Path) -> None:
    assert len(found(tmp_path, structures(names))) == count


def test_a_lone_organ_is_no_lesion(tmp_path: Path) -> None:
    assert found(tmp_path, structures(["Lung_L"], Lung_L="ORGAN")) == ()


# Broken ones


def test_a_broken_object_is_skipped_and_logged_by_its_uid_and_spares_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = a_segmentation("BINARY")
    broken.PixelData = broken.PixelData[:50]
    del broken.PerFrameFunctionalGroupsSequence
    bomb = an_instance(a_report(), tmp_path)
    sequence, item = b"\x40\x00\x30\xa7SQ\0\0" + b"\xff" * 4, b"\xfe\xff\x00\xe0" + b"\xff" * 4
    content = bomb.path.read_bytes()
    bomb.path.write_bytes(content[: content.index(sequence[:6])] + 30_000 * (sequence + item))
    with caplog.at_level(logging.WARNING):
        others = [an_instance(one, tmp_path) for one in (broken, structures(["GTV"]))]
        intact = locations([bomb, *others])
    assert len(intact) == 1
    assert {bomb.ref.sop_instance_uid, broken.SOPInstanceUID} == {
        record.sop_instance_uid for record in caplog.records if hasattr(record, "sop_instance_uid")
    }
    assert "T^T" not in caplog.text


def test_odd_and_hostile_files_point_at_nothing_and_raise_nothing() -> None:
    folder = shared("data/dicom")
    for name in (
        "corrupt_odd/pydicom/test-SR.dcm",
        "corrupt_odd/pydicom/reportsi_with_empty_number_tags.dcm",
        "transfer_syntaxes/ct_chest_all_syntaxes/no-pixel-data.dcm",
        "transfer_syntaxes/pydicom-data/liver_rle.dcm",
        "transfer_syntaxes/pydicom-data/liver_deflate.dcm",
        "corrupt_odd/orthanc-tests_gpl/2026-05-06-Deeply-Nested-Sequence.dcm",
    ):
        assert locations([headers.instance(folder / name, sha256="")]) == (), name
