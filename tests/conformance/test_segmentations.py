"""Saliency as Segmentations: the same numbers at the same places, in objects that other programs find no error in."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.made import CONTEXT, a_result, source, sources_of
from conformance.test_ct_documents import a_slice
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import UID as DicomUID  # noqa: N811 - ours is another UID
from pydicom.uid import SegmentationStorage
from support import instance_ref, judges
from support.locations import locations

from ainode.node import reports
from ainode.node.disk import sha256_of
from ainode.node.domain import (
    UID,
    Capture,
    Code,
    Document,
    DocumentKind,
    LabelMap,
    Result,
    Saliency,
    Segment,
    Segmented,
)
from ainode.node.encoding import headers

FRACTIONAL, LABELMAP = DocumentKind.SEGMENTATION_FRACTIONAL, DocumentKind.SEGMENTATION_LABELMAP
SIDE = 64
Map = NDArray[np.uint8]


def slices(folder: Path, count: int, *, frame: str = "1.2.3.4") -> list[Path]:
    """Write slices of one series, 7 mm apart."""
    paths = [a_slice(folder / str(number), side=SIDE, number=number) for number in range(2, 2 + count)]
    for number, path in enumerate(paths):
        made = dcmread(path)
        made.ImagePositionPatient = [-180.0, -170.5, -66.0 - 7 * number]
        made.FrameOfReferenceUID, made.SeriesInstanceUID = frame, f"2.25.9{frame[-1]}"
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = DicomUID(f"2.25.9{frame[-1]}{number}")
        made.save_as(path)
    return paths


def a_map(seed: int, rows: int = SIDE, columns: int = SIDE) -> Map:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns)).astype(np.uint8)


def looked(maps: Mapping[Path, Map], *, at: Path | None = None) -> tuple[Result, dict[UID, Path]]:
    """Return a result with one capture for each image; its study is that of `at`, or of the first."""
    captures = tuple(
        Capture(instance_ref(path), "Attention", (), Saliency(values.shape[0], values.shape[1], values.tobytes()))
        for path, values in maps.items()
    )
    refs = tuple(capture.image for capture in captures)
    result = replace(a_result(at or next(iter(maps))), captures=captures, evidence=refs, key_images=refs)
    return result, {ref.sop_instance_uid: path for ref, path in zip(refs, maps, strict=True)}


def made(maps: Mapping[Path, Map], kind: DocumentKind = FRACTIONAL) -> list[Dataset]:
    """Return the segmentations of one kind, read by pydicom."""
    documents = reports.documents(*looked(maps), replace(CONTEXT, optional=(kind,)))
    return [dcmread(BytesIO(one.content)) for one in documents if one.kind is kind]


def frames(segmentation: Dataset) -> dict[str, tuple[Map, Dataset]]:
    """Return pixels and functional groups of each frame by the image that it says it was made of."""
    groups = segmentation.PerFrameFunctionalGroupsSequence
    pixels = segmentation.pixel_array.reshape(len(groups), segmentation.Rows, segmentation.Columns)
    images = [one.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID for one in groups]
    return {image: (frame, group) for image, frame, group in zip(images, pixels, groups, strict=True)}


def test_a_fractional_segmentation_holds_the_saliency_of_every_slice_as_it_is(tmp_path: Path) -> None:
    maps = {path: a_map(number) for number, path in enumerate(slices(tmp_path / "study", 3))}
    (segmentation,) = made(maps)
    assert (segmentation.SegmentationType, segmentation.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert segmentation.MaximumFractionalValue == 255
    found = frames(segmentation)
    assert len(found) == len(maps)
    for path, values in maps.items():
        assert np.array_equal(found[instance_ref(path).sop_instance_uid][0], values)


@pytest.mark.parametrize("kind", [FRACTIONAL, LABELMAP])
def test_every_frame_lies_where_its_slice_lies(kind: DocumentKind, tmp_path: Path) -> None:
    maps = {path: a_map(number) for number, path in enumerate(slices(tmp_path / "study", 3))}
    (segmentation,) = made(maps, kind)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for path in maps:
        image = dcmread(path)
        _, group = frames(segmentation)[image.SOPInstanceUID]
        assert group.PlanePositionSequence[0].ImagePositionPatient == image.ImagePositionPatient
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == image.ImageOrientationPatient
        assert shared.PixelMeasuresSequence[0].PixelSpacing == image.PixelSpacing
        assert shared.PixelMeasuresSequence[0].SliceThickness == image.SliceThickness
        assert segmentation.FrameOfReferenceUID == image.FrameOfReferenceUID
        assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == image.SeriesInstanceUID


def test_key_slices_apart_are_not_said_to_be_a_volume_of_thick_slices(tmp_path: Path) -> None:
    (segmentation,) = made({path: a_map(0) for path in slices(tmp_path / "study", 3)})
    assert "SpacingBetweenSlices" not in segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "DimensionOrganizationType" not in segmentation


def test_a_label_map_marks_what_reaches_half_of_the_scale(tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "study", 1)
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[0, :4] = (127, 128, 255, 1)
    (segmentation,) = made({path: values}, LABELMAP)
    assert segmentation.SegmentationType == "LABELMAP"
    assert segmentation.pixel_array.reshape(SIDE, SIDE)[0, :4].tolist() == [0, 1, 1, 0]
    assert segmentation.pixel_array.sum() == 2
    assert {one.SegmentNumber: one.SegmentLabel for one in segmentation.SegmentSequence}[1] == "model attention"


def test_a_coarse_saliency_is_stretched_over_the_whole_image(tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "study", 1)
    (segmentation,) = made({path: np.array([[0, 255]], np.uint8)})
    rows = segmentation.pixel_array.reshape(SIDE, SIDE).astype(int)
    assert (rows == rows[0]).all()
    assert (np.diff(rows[0]) >= 0).all()
    assert (rows[0, 0], rows[0, -1]) == (0, 255)
    assert abs(rows[0, SIDE // 2 - 1 : SIDE // 2 + 1].mean() - 127.5) <= 1


def test_of_two_captures_of_one_slice_the_stronger_saliency_counts_at_every_pixel(tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "study", 1)
    result, sources = looked({path: a_map(1)})
    other = replace(result.captures[0], saliency=Saliency(SIDE, SIDE, a_map(2).tobytes()))
    result = replace(result, captures=(*result.captures, other))
    documents = reports.documents(result, sources, replace(CONTEXT, optional=(FRACTIONAL,)))
    (segmentation,) = (dcmread(BytesIO(one.content)) for one in documents if one.kind is FRACTIONAL)
    assert np.array_equal(segmentation.pixel_array.reshape(SIDE, SIDE), np.maximum(a_map(1), a_map(2)))


def test_two_frames_of_reference_are_two_objects_in_two_series(tmp_path: Path) -> None:
    first, second = slices(tmp_path / "study", 2), slices(tmp_path / "study" / "more", 1, frame="1.2.3.5")
    for path in second:
        again = dcmread(path)
        again.StudyInstanceUID = dcmread(first[0]).StudyInstanceUID
        again.save_as(path)
    found = made({path: a_map(0) for path in (*first, *second)})
    assert [(one.FrameOfReferenceUID, one.NumberOfFrames) for one in found] == [("1.2.3.4", 2), ("1.2.3.5", 1)]
    assert found[1].SeriesNumber == found[0].SeriesNumber + 1
    assert len({one.SeriesInstanceUID for one in found}) == 2


ONE_SCAN = {
    "numbers that an archive wrote in other digits": {
        "ImageOrientationPatient": ["1.0", "0.0", "0.0", "0.0", "1.0", "0.0"],
        "PixelSpacing": ["0.7000", "0.70"],
        "SliceThickness": "5.00",
    },
    "axes that a scanner computed anew": {"ImageOrientationPatient": [1, 1e-6, 0, -1e-6, 1, 2e-6]},
}


@pytest.mark.parametrize("elements", ONE_SCAN.values(), ids=ONE_SCAN)
@pytest.mark.parametrize("kind", [FRACTIONAL, LABELMAP])
def test_slices_of_one_scan_are_one_segmentation(elements: dict[str, Any], kind: DocumentKind, tmp_path: Path) -> None:
    paths = slices(tmp_path / "study", 4)
    common = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": ["0.7", "0.7"], "SliceThickness": "5"}
    for number, path in enumerate(paths):
        changed = dcmread(path)
        for keyword, value in (common | (elements if number % 2 else {})).items():
            setattr(changed, keyword, value)
        changed.save_as(path)
    (segmentation,) = made({path: a_map(number) for number, path in enumerate(paths)}, kind)
    found = frames(segmentation)
    assert len(found) == len(paths)
    for path in paths:
        image = dcmread(path)
        _, group = found[image.SOPInstanceUID]
        assert group.PlanePositionSequence[0].ImagePositionPatient == image.ImagePositionPatient


@pytest.mark.parametrize("elements", [{"SliceThickness": "6"}, {"ImageOrientationPatient": [1, 0, 0, 0, 0.8, 0.6]}])
def test_slices_of_two_geometries_are_two_segmentations(elements: dict[str, Any], tmp_path: Path) -> None:
    paths = slices(tmp_path / "study", 2)
    other = dcmread(paths[1])
    for keyword, value in elements.items():
        setattr(other, keyword, value)
    other.save_as(paths[1])
    assert len(made({path: a_map(0) for path in paths})) == 2


def test_a_segmentation_says_what_it_shows_and_who_made_it(tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "study", 1)
    (segmentation,) = made({path: a_map(0)})
    (segment,) = segmentation.SegmentSequence
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "130404"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("spine_radiograph", "1.0.0")
    assert {f"weights sha256={'5' * 64}", "weights status=demonstration"} <= set(
        algorithm.AlgorithmParameters.split(",")
    )
    assert (segmentation.ContentDescription, segmentation.ContentQualification) == ("RESEARCH USE ONLY", "RESEARCH")
    assert segmentation.SeriesDescription.endswith("(RUO)")


def test_nothing_is_made_where_there_is_nothing_to_show(tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "study", 1)
    assert made({path: np.full((SIDE, SIDE), 127, np.uint8)}, LABELMAP) == []
    result, sources = looked({path: a_map(0)})
    bare = replace(result, captures=(replace(result.captures[0], saliency=None),))
    documents = reports.documents(bare, sources, replace(CONTEXT, optional=(FRACTIONAL, LABELMAP)))
    assert [one.kind for one in documents] == [DocumentKind.SECONDARY_CAPTURE, DocumentKind.STRUCTURED_REPORT]


def test_images_of_earlier_studies_and_of_several_frames_are_left_out(tmp_path: Path) -> None:
    (now,), (before,) = slices(tmp_path / "now", 1), slices(tmp_path / "before", 1, frame="1.2.3.5")
    moving = dcmread(slices(tmp_path / "now" / "b", 1, frame="1.2.3.6")[0])
    moving.StudyInstanceUID, moving.NumberOfFrames, moving.PixelData = (
        dcmread(now).StudyInstanceUID,
        2,
        2 * moving.PixelData,
    )
    moving.save_as(tmp_path / "moving.dcm")
    (segmentation,) = made({now: a_map(0), before: a_map(1), tmp_path / "moving.dcm": a_map(2)})
    assert list(frames(segmentation)) == [dcmread(now).SOPInstanceUID]


def test_images_that_lie_nowhere_are_left_out(tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "study", 1)
    image = dcmread(path)
    del image.FrameOfReferenceUID
    image.save_as(path)
    assert made({path: a_map(0)}) == []
    assert made({source(tmp_path, FrameOfReferenceUID="1.2.3.4"): a_map(0)}) == []


def test_optional_documents_change_no_byte_of_the_others_and_come_out_the_same_again(tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "study", 1)
    everything = replace(CONTEXT, optional=tuple(kind for kind in DocumentKind if kind.is_optional))
    plain, full, again = (
        reports.documents(a_result(path, boxes=2), sources_of(path), context)
        for context in (CONTEXT, everything, everything)
    )
    assert plain == tuple(one for one in full if not one.kind.is_optional)
    assert full == again
    assert [one.kind for one in full if one.kind.is_optional] == list(everything.optional)
    assert full[-1].kind is DocumentKind.STRUCTURED_REPORT
    assert len({one.ref.sop_instance_uid for one in full}) == len({one.ref.series_instance_uid for one in full}) == 6


# Independent judges


def written(document: Document, folder: Path) -> Path:
    path = folder / f"{document.kind}.dcm"
    path.write_bytes(document.content)
    return path


def as_fractional(labelmap: Dataset) -> Dataset:
    """Return a label map of one segment as the fractional object of the same content, which judges of 2022 know."""
    labelmap.SOPClassUID = labelmap.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    labelmap.SegmentationType, labelmap.SegmentationFractionalType = "FRACTIONAL", "OCCUPANCY"
    labelmap.MaximumFractionalValue = 1
    labelmap.SegmentSequence = [one for one in labelmap.SegmentSequence if one.SegmentNumber]
    del labelmap.PixelPaddingValue
    number = Dataset()
    number.ReferencedSegmentNumber = 1
    labelmap.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence = [number]
    return labelmap


@pytest.mark.parametrize("kind", [FRACTIONAL, LABELMAP])
def test_the_validators_find_no_error(kind: DocumentKind, tmp_path: Path) -> None:
    paths = slices(tmp_path / "study", 3)
    documents = reports.documents(
        *looked({path: a_map(number) for number, path in enumerate(paths)}), replace(CONTEXT, optional=(kind,))
    )
    path = written(next(one for one in documents if one.kind is kind), tmp_path)
    if kind is LABELMAP:
        # What dciodvfy of 2022 says of the class itself, which is younger.
        assert [line for line in judges.module_errors(path) if "SegmentNumber of 0" not in line] == [
            "Error - Information Object Not found"
        ]
        as_fractional(dcmread(path)).save_as(path)
    assert judges.module_errors(path) == []
    assert judges.set_errors([path], paths) == []
    # A chest has no side, and dciodvfy forbids the attribute that PixelMed misses.
    assert [line for line in judges.instance_errors(path) if "GeneralSeriesModule/Laterality" not in line] == []


def test_the_validators_find_no_error_in_outlines_with_the_distance_of_their_slices(tmp_path: Path) -> None:
    segmentation, paths, _ = outlined(tmp_path, FRACTIONAL)
    segmentation.save_as(path := tmp_path / "segmentation.dcm")
    assert judges.module_errors(path) == []
    assert judges.set_errors([path], paths) == []
    assert [line for line in judges.instance_errors(path) if "GeneralSeriesModule/Laterality" not in line] == []


# What others, and we, take it for


def test_our_own_segmentation_is_no_nodule_that_somebody_pointed_at(tmp_path: Path) -> None:
    paths = slices(tmp_path / "study", 3)
    documents = reports.documents(
        *looked({path: a_map(number) for number, path in enumerate(paths)}),
        replace(CONTEXT, optional=(FRACTIONAL, LABELMAP)),
    )
    own = [written(one, tmp_path) for one in documents if one.kind.is_optional]
    instances = [headers.instance(path, sha256=sha256_of(path)) for path in (*paths, *own)]
    assert locations(instances) == locations(instances, own_reports=True) == ()
    # The same of another maker is the only drawn item of the study, and so a lesion.
    other = dcmread(own[0])
    other.ManufacturerModelName = "another"
    other.save_as(own[0])
    changed = headers.instance(own[0], sha256=sha256_of(own[0]))
    assert [one.source for one in locations([*instances[:3], changed], own_reports=True)] == ["SEG"]


def outlined(
    folder: Path, kind: DocumentKind, *, unplaced: Collection[int] = ()
) -> tuple[Dataset, list[Path], list[Map]]:
    """Return the segmentation of two segments on three slices, the slices, and the labels of each.

    The slices of the numbers `unplaced` name no frame of reference.
    """
    paths = slices(folder, 3)
    for number in unplaced:
        image = dcmread(paths[number])
        del image.FrameOfReferenceUID
        image.save_as(paths[number])
    maps = [np.zeros((SIDE, SIDE), np.uint8) for _ in paths]
    maps[0][10:20, 30:50], maps[0][12:14, 32:36], maps[2][40:44, 5:9] = 1, 2, 2
    refs = [instance_ref(path) for path in paths]
    labels = tuple(LabelMap(ref, SIDE, SIDE, values.tobytes()) for ref, values in zip(refs, maps, strict=True))
    code = Code("39607008", "SCT", "Lung")
    category = Code("91723000", "SCT", "Anatomical Structure")
    segments = tuple(Segment(name, category, code) for name in ("lung", "infection"))
    result = replace(
        a_result(paths[0]),
        captures=(),
        evidence=tuple(refs),
        segmented=Segmented("LUNG_INFECTION", segments, labels, slice_distance_mm=7.0),
    )
    documents = reports.documents(result, sources_of(*paths), replace(CONTEXT, optional=(kind,)))
    contents = [document.content for document in documents if document.kind is kind]
    return (dcmread(BytesIO(contents[0])) if contents else Dataset()), paths, maps


@pytest.mark.parametrize("kind", [FRACTIONAL, LABELMAP])
def test_outlines_say_how_far_apart_the_slices_lie_though_the_slice_between_them_has_no_mark(
    tmp_path: Path, kind: DocumentKind
) -> None:
    segmentation, paths, _ = outlined(tmp_path, kind)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert len(frames(segmentation)) == 2
    assert measures.SliceThickness == dcmread(paths[0]).SliceThickness != 7
    assert measures.SpacingBetweenSlices == 7


@pytest.mark.parametrize("kind", [FRACTIONAL, LABELMAP])
def test_what_is_marked_on_an_image_that_lies_nowhere_is_left_out_without_a_fault(
    tmp_path: Path, kind: DocumentKind, caplog: pytest.LogCaptureFixture
) -> None:
    segmentation, paths, _ = outlined(tmp_path / "two", kind, unplaced=[0])
    assert list(frames(segmentation)) == [dcmread(paths[2]).SOPInstanceUID]
    nothing, _, _ = outlined(tmp_path / "none", kind, unplaced=[0, 2])
    assert "PixelData" not in nothing
    assert not caplog.records


@pytest.mark.parametrize("kind", [FRACTIONAL, LABELMAP])
def test_outlines_lie_on_the_pixels_and_slices_that_they_were_made_on(tmp_path: Path, kind: DocumentKind) -> None:
    segmentation, paths, maps = outlined(tmp_path, kind)
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence][-2:] == ["lung", "infection"]
    frames = np.atleast_3d(segmentation.pixel_array).reshape(-1, SIDE, SIDE)
    read_maps = {str(dcmread(path).SOPInstanceUID): np.zeros((SIDE, SIDE), np.uint8) for path in paths}
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        source_image = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        is_binary = "SegmentIdentificationSequence" in groups
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber if is_binary else 1
        read_maps[source_image] = np.maximum(read_maps[source_image], frame * number)
    for path, labels in zip(paths, maps, strict=True):
        assert (read_maps[str(dcmread(path).SOPInstanceUID)] == labels).all()
