"""Reports and captures of CT: the plane of the slice, earlier studies, codes of our own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conformance.made import CONTEXT, EVERYTHING, a_finding, a_result, box
from pydicom import Dataset, dcmread
from support import instance_ref, judges

from ainode.node import reports, testing
from ainode.node.domain import UID, Code, Document, DocumentKind, Measurement, Result, SyntheticImage, Value

ATTENTION = Code("attention-weight", "99AINODE", "Attention weight")
NO_UNITS = Code("1", "UCUM", "no units")
PLANE = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")


def a_slice(folder: Path, *, side: int = 512, date: str = "20260101", number: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, Value] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "Modality": "CT",
        "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "BodyPartExamined": "CHEST",
        "ImagePositionPatient": (-180.0, -170.5, -66.0),
        "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "PixelSpacing": (0.7, 0.7),
        "SliceThickness": 1.0,
        "FrameOfReferenceUID": "1.2.3.4",
        "RescaleIntercept": -1024,
        "RescaleType": "HU",
        "StudyDate": date,
        "KVP": 120,
        "AcquisitionNumber": 1,
    }
    pixels = np.random.default_rng(0).integers(0, 2000, (side, side)).astype("<u2").tobytes()
    study = folder.parent.name if number > 1 else folder.name
    made = testing.dataset(SyntheticImage(side, side, pixels, header), study=study, number=number)
    for keyword in ("ImagerPixelSpacing", "PatientOrientation", "ImageLaterality", "PresentationLUTShape"):
        del made[keyword]
    path = folder / "slice.dcm"
    made.save_as(path, enforce_file_format=True)
    return path


def read(document: Document, folder: Path) -> tuple[Dataset, Path]:
    path = folder / f"{document.kind}.dcm"
    path.write_bytes(document.content)
    return dcmread(path), path


def over_time(now: Path, before: Path) -> tuple[Result, dict[UID, Path]]:
    """A nodule with a region now, and an attention weight for each of two dates."""
    current, prior = instance_ref(now), instance_ref(before)
    weights = tuple(Measurement(ATTENTION, value, NO_UNITS, (ref,)) for value, ref in ((0.7, current), (0.3, prior)))
    found = a_finding(1, current, region=box(current, 1))
    found = replace(found, measurements=(*found.measurements, *weights), evidence=(current, prior))
    result = replace(a_result(now), findings=(found,), evidence=(current, prior), key_images=(current, prior))
    return result, {current.sop_instance_uid: now, prior.sop_instance_uid: before}


def by_kind(documents: tuple[Document, ...], kind: DocumentKind) -> Document:
    return next(document for document in documents if document.kind is kind)


def test_a_capture_of_a_slice_lies_in_the_plane_of_the_slice(tmp_path: Path) -> None:
    path = a_slice(tmp_path / "now")
    documents = reports.documents(a_result(path), {instance_ref(path).sop_instance_uid: path}, CONTEXT)
    capture, _ = read(by_kind(documents, DocumentKind.SECONDARY_CAPTURE), tmp_path)
    source = dcmread(path)
    assert {keyword: capture[keyword].value for keyword in PLANE} == {k: source[k].value for k in PLANE}
    assert capture.SourceImageSequence[0].SpatialLocationsPreserved == "YES"


def test_an_enlarged_capture_claims_no_plane_and_states_the_size_of_its_pixels(tmp_path: Path) -> None:
    path = a_slice(tmp_path / "now", side=128)
    documents = reports.documents(a_result(path), {instance_ref(path).sop_instance_uid: path}, CONTEXT)
    capture, _ = read(by_kind(documents, DocumentKind.SECONDARY_CAPTURE), tmp_path)
    assert "ImagePositionPatient" not in capture
    spacing = dcmread(path).PixelSpacing
    assert list(capture.PixelSpacing) == pytest.approx([value / 4 for value in spacing])


def test_an_earlier_study_is_other_evidence_and_the_report_belongs_to_the_current_one(tmp_path: Path) -> None:
    now, before = a_slice(tmp_path / "now"), a_slice(tmp_path / "before", date="20250101")
    result, sources = over_time(now, before)
    report, _ = read(by_kind(reports.documents(result, sources, CONTEXT), DocumentKind.STRUCTURED_REPORT), tmp_path)

    def studies(items: list[Dataset]) -> list[str]:
        return [item.StudyInstanceUID for item in items]

    assert studies(report.CurrentRequestedProcedureEvidenceSequence) == [dcmread(now).StudyInstanceUID]
    assert studies(report.PertinentOtherEvidenceSequence) == [dcmread(before).StudyInstanceUID]
    assert report.StudyInstanceUID == dcmread(now).StudyInstanceUID


def test_each_attention_weight_is_inferred_from_the_image_of_its_date(tmp_path: Path) -> None:
    now, before = a_slice(tmp_path / "now"), a_slice(tmp_path / "before", date="20250101")
    result, sources = over_time(now, before)
    report, _ = read(by_kind(reports.documents(result, sources, CONTEXT), DocumentKind.STRUCTURED_REPORT), tmp_path)

    def numbers(item: Dataset) -> list[tuple[float, str]]:
        found = [pair for child in item.get("ContentSequence", ()) for pair in numbers(child)]
        if item.get("ValueType") == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == ATTENTION.value:
            image = item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            found.append((float(item.MeasuredValueSequence[0].NumericValue), image))
        return found

    assert sorted(numbers(report), reverse=True) == [
        (0.7, dcmread(now).SOPInstanceUID),
        (0.3, dcmread(before).SOPInstanceUID),
    ]


def test_our_own_codes_are_identified_where_they_are_used_and_only_there(tmp_path: Path) -> None:
    now, before = a_slice(tmp_path / "now"), a_slice(tmp_path / "before", date="20250101")
    result, sources = over_time(now, before)
    with_ours, _ = read(by_kind(reports.documents(result, sources, CONTEXT), DocumentKind.STRUCTURED_REPORT), tmp_path)
    assert [one.CodingSchemeDesignator for one in with_ours.CodingSchemeIdentificationSequence] == ["99AINODE"]
    documents = reports.documents(a_result(now), {instance_ref(now).sop_instance_uid: now}, CONTEXT)
    without, _ = read(by_kind(documents, DocumentKind.STRUCTURED_REPORT), tmp_path)
    assert "CodingSchemeIdentificationSequence" not in without


def test_a_number_of_several_slices_has_no_error(tmp_path: Path) -> None:
    slices = [a_slice(tmp_path / "study" / str(number), number=number) for number in (2, 3, 4)]
    images = tuple(instance_ref(path) for path in slices)
    found = a_finding(0, images[0])
    found = replace(found, measurements=(replace(found.measurements[0], inferred_from=images),), evidence=images)
    result = replace(a_result(slices[0]), findings=(found,), captures=(), evidence=images, key_images=images)
    sources = {image.sop_instance_uid: path for image, path in zip(images, slices, strict=True)}
    _, path = read(by_kind(reports.documents(result, sources, CONTEXT), DocumentKind.STRUCTURED_REPORT), tmp_path)
    assert [*judges.module_errors(path), *judges.tree_errors(path), *judges.template_errors(path)] == []


_UNSEEN = {DocumentKind.SEGMENTATION_LABELMAP, DocumentKind.ASSESSMENT, DocumentKind.OBJECT}
"""kinds that no reading here makes"""


@pytest.mark.parametrize("kind", [kind for kind in DocumentKind if not kind.is_message and kind not in _UNSEEN])
def test_documents_over_two_dates_have_no_errors(kind: DocumentKind, tmp_path: Path) -> None:
    now, before = a_slice(tmp_path / "now"), a_slice(tmp_path / "before", date="20250101")
    result, sources = over_time(now, before)
    context = replace(EVERYTHING, optional=(*EVERYTHING.optional, DocumentKind.PDF))
    _, path = read(by_kind(reports.documents(result, sources, context), kind), tmp_path)
    assert judges.module_errors(path) == []
    assert judges.set_errors([path], [now]) == []
    if kind is DocumentKind.STRUCTURED_REPORT:
        assert judges.tree_errors(path) == []
        assert judges.template_errors(path) == []
