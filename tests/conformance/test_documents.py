"""What the documents say: to whom they belong, what was found where, by which model, and the same each time."""

import hashlib
import json
import logging
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import highdicom.sr
import numpy as np
import pytest
from conformance.made import ALGORITHM, CONTEXT, a_finding, a_result, box, old_archive, saved, source, sources_of
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pypdf import PdfReader
from support import instance_ref, shared

from ainode.node import reports, testing
from ainode.node.domain import UID, Algorithm, Document, DocumentContext, DocumentKind, InstanceRef, OutOfScope, Region
from ainode.node.errors import ReportError
from ainode.node.identity import MODEL_NAME

PATIENT_AND_STUDY = [
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "IssuerOfPatientID",
    "OtherPatientIDsSequence",
    "AccessionNumber",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ReferringPhysicianName",
]


def _made(path: Path, *, boxes: int = 1) -> list[Dataset]:
    return [_read(one) for one in reports.documents(a_result(path, boxes=boxes), sources_of(path), CONTEXT)]


def _read(document: Document) -> Dataset:
    return dcmread(BytesIO(document.content))


def _items(item: Dataset, value_type: str) -> list[Dataset]:
    """Return every content item of a type, in the order of the document."""
    children = item.get("ContentSequence", ())
    below = [found for child in children for found in _items(child, value_type)]
    return ([item] if item.get("ValueType") == value_type else []) + below


def _regions(report: Dataset) -> list[Dataset]:
    """Return the regions of findings; what lies below a number is the border of the image it was inferred from."""
    return [item for item in _items(report, "SCOORD") if item.RelationshipType == "CONTAINS"]


def _decoded(data_set: Dataset, keyword: str) -> object:
    data_set.decode()
    value = data_set.get(keyword)
    return [item.to_json_dict() for item in value] if keyword.endswith("Sequence") and value else str(value or "")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", ["", "ISO 2022 IR 87"]])
def test_patient_and_study_are_those_of_the_source_in_every_character_set(
    charset: str | list[str], tmp_path: Path
) -> None:
    japanese = isinstance(charset, list)
    other = Dataset()
    other.PatientID, other.TypeOfPatientID = "山田-7" if japanese else "Ü-7", "TEXT"
    path = source(
        tmp_path,
        SpecificCharacterSet=charset,
        PatientName="Yamada^Tarou=山田^太郎" if japanese else "Müller^Jörg",
        PatientAge="042Y",
        StudyDescription="Wirbelsäule" if not japanese else "胸椎",
        IssuerOfPatientID="Klinik",
        OtherPatientIDsSequence=[other],
    )
    for document in _made(path):
        for keyword in PATIENT_AND_STUDY:
            assert _decoded(document, keyword) == _decoded(dcmread(path), keyword), keyword


def test_boxes_come_back_at_the_pixels_where_they_were_put(tmp_path: Path) -> None:
    path = source(tmp_path)
    image = instance_ref(path)
    expected = [np.array(box(image, number).points, dtype=np.float32) for number in (1, 2)]
    report = _made(path, boxes=2)[-1]

    plain = [np.array(item.GraphicData, dtype=np.float32).reshape(-1, 2) for item in _regions(report)]
    assert np.array_equal(plain, expected)

    tree = highdicom.sr.Comprehensive3DSR.from_dataset(report).content
    assert isinstance(tree, highdicom.sr.MeasurementReport)
    groups = tree.get_planar_roi_measurement_groups()
    assert np.array_equal([group.roi.value for group in groups if group.roi], expected)


def test_a_finding_with_a_region_is_a_group_to_see_and_a_group_to_read(tmp_path: Path) -> None:
    path = source(tmp_path)
    groups = [one for one in _items(_made(path, boxes=2)[-1], "CONTAINER") if "ContentTemplateSequence" in one][1:]
    templates = [one.ContentTemplateSequence[0].TemplateIdentifier for one in groups]
    numbers = [len(_items(one, "NUM")) for one in groups]
    tracked = [one.ContentSequence[1].UID for one in groups]
    assert list(zip(templates, numbers, strict=True)) == [("1501", 1), *[("1410", 0), ("1501", 1)] * 2]
    assert tracked[1] == tracked[2] != tracked[3] == tracked[4]


def test_every_number_names_the_image_it_was_inferred_from(tmp_path: Path) -> None:
    path = source(tmp_path)
    numbers = _items(_made(path, boxes=2)[-1], "NUM")[2:]  # after rows and columns of the image library
    for number in [one for one in numbers if one.RelationshipType == "CONTAINS"]:
        (inferred,) = number.ContentSequence
        assert inferred.RelationshipType == "INFERRED FROM"
        (image,) = _items(inferred, "IMAGE")
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == dcmread(path).SOPInstanceUID


def test_a_report_says_which_model_and_weights_made_it_and_that_nobody_verified_it(tmp_path: Path) -> None:
    report = _made(source(tmp_path))[-1]
    texts = {item.TextValue for item in _items(report, "TEXT")}
    assert {"spine_radiograph", "1.0.0", "threshold=0.449", f"weights sha256={'5' * 64}"} <= texts
    assert "weights status=demonstration" in texts
    flags = (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag, report.ContentQualification)
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED", "RESEARCH")
    assert report.SeriesDescription == "AI Spine radiograph 1.0.0 (RUO)"
    assert report.ManufacturerModelName == MODEL_NAME


def test_a_capture_says_that_it_is_derived_and_from_what(tmp_path: Path) -> None:
    path = source(
        tmp_path,
        LossyImageCompression="01",
        LossyImageCompressionRatio="12.5",
        LossyImageCompressionMethod="ISO_10918_1",
    )
    capture = _made(path)[0]
    assert list(capture.ImageType) == ["DERIVED", "SECONDARY"]
    assert (capture.ConversionType, capture.BurnedInAnnotation) == ("WSD", "YES")
    assert (capture.LossyImageCompression, capture.LossyImageCompressionRatio) == ("01", 12.5)
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == dcmread(path).SOPInstanceUID
    assert (capture.BodyPartExamined, capture.ManufacturerModelName) == ("TSPINE", MODEL_NAME)


@pytest.mark.parametrize(("side", "kept"), [(600, "YES"), (2049, "NO"), (300, "NO")])
def test_a_capture_says_whether_its_pixels_are_those_of_the_source(side: int, kept: str, tmp_path: Path) -> None:
    capture = _made(source(tmp_path, rows=side, columns=256))[0]
    assert capture.SourceImageSequence[0].SpatialLocationsPreserved == kept
    assert capture.Rows < 2400


def test_a_monochrome1_image_gives_the_capture_of_its_twin() -> None:
    twins = [shared(f"data/dicom/spine/drr_from_R01-001/tspine_lat_mono{number}.dcm") for number in (1, 2)]
    first, second = (_made(path)[0].pixel_array.astype(int) for path in twins)
    assert np.abs(first - second).max() <= 1


def test_a_rerun_gives_the_same_bytes(tmp_path: Path) -> None:
    path = source(tmp_path)
    runs = [
        [hashlib.sha256(one.content).hexdigest() for one in reports.documents(result, sources_of(path), CONTEXT)]
        for result in (a_result(path, boxes=2), a_result(path, boxes=2))
    ]
    assert runs[0] == runs[1]


def _uids(path: Path, *, algorithm: Algorithm = ALGORITHM, context: DocumentContext = CONTEXT) -> set[UID]:
    made = reports.documents(a_result(path, boxes=1, algorithm=algorithm), sources_of(path), context)
    return {one.ref.sop_instance_uid for one in made}


@pytest.mark.parametrize(
    ("algorithm", "context"),
    [
        (replace(ALGORITHM, parameters=(("threshold", "0.5"),)), CONTEXT),
        (replace(ALGORITHM, weights_sha256="6" * 64), CONTEXT),
        (ALGORITHM, replace(CONTEXT, configuration_hash="other")),
        (ALGORITHM, replace(CONTEXT, software_versions=("ainode 0.2.0",))),
        (ALGORITHM, old_archive()),
    ],
    ids=["threshold", "weights", "configuration", "software", "SOP class"],
)
def test_what_changes_the_content_changes_the_uids(
    algorithm: Algorithm, context: DocumentContext, tmp_path: Path
) -> None:
    path = source(tmp_path)
    assert _uids(path).isdisjoint(_uids(path, algorithm=algorithm, context=context))


def test_a_study_that_comes_again_later_has_the_uids_it_had(tmp_path: Path) -> None:
    path = source(tmp_path)
    assert _uids(path) == _uids(path, context=replace(CONTEXT, created=CONTEXT.created + timedelta(days=400)))


def test_a_superseding_report_names_its_predecessor(tmp_path: Path) -> None:
    path = source(tmp_path)
    earlier = reports.documents(a_result(path), sources_of(path), CONTEXT)[-1].ref
    context = replace(CONTEXT, predecessors=(earlier,))
    report = _read(reports.documents(a_result(path), sources_of(path), context)[-1])
    (study,) = report.PredecessorDocumentsSequence
    named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == earlier.sop_instance_uid != report.SOPInstanceUID


def test_a_report_names_the_one_of_an_earlier_study_that_it_goes_on_from(tmp_path: Path) -> None:
    path = source(tmp_path)
    earlier = replace(instance_ref(path), study_instance_uid=UID("2.25.7"), sop_instance_uid=UID("2.25.8"))
    result = replace(a_result(path), continues=(earlier,))
    report = _read(reports.documents(result, sources_of(path), CONTEXT)[-1])
    (study,) = report.PredecessorDocumentsSequence
    assert study.StudyInstanceUID == "2.25.7"
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.8"


def test_an_archive_without_3d_reports_gets_the_same_in_a_comprehensive_report(tmp_path: Path) -> None:
    path = source(tmp_path)
    report = _read(reports.documents(a_result(path, boxes=2), sources_of(path), old_archive())[-1])
    assert report.SOPClassUID.name == "Comprehensive SR Storage"
    assert len(_regions(report)) == 2


def test_a_number_of_a_whole_image_is_shown_on_its_border(tmp_path: Path) -> None:
    path = source(tmp_path, rows=300, columns=200)
    (border,) = [item for item in _items(_made(path, boxes=0)[-1], "SCOORD") if item.RelationshipType != "CONTAINS"]
    assert list(border.GraphicData) == [0, 0, 200, 0, 200, 300, 0, 300, 0, 0]


def test_all_instances_read_are_evidence_also_those_that_no_finding_shows(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path)
    more = tuple(replace(result.evidence[0], sop_instance_uid=UID(f"2.25.{number}")) for number in range(300))
    report = _read(reports.documents(replace(result, evidence=result.evidence + more), sources_of(path), CONTEXT)[-1])
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 301


@pytest.mark.parametrize(
    ("offset", "clock"),
    [("-0530", ("20260303", "233607")), ("+0000", ("20260304", "050607"))],
    ids=["west", "Greenwich"],
)
def test_times_are_on_the_clock_of_the_source_where_it_has_one(
    offset: str, clock: tuple[str, str], tmp_path: Path
) -> None:
    for document in _made(source(tmp_path, TimezoneOffsetFromUTC=offset)):
        assert document.TimezoneOffsetFromUTC == offset
        assert (document.ContentDate, document.ContentTime) == clock


def test_the_report_comes_after_its_captures(tmp_path: Path) -> None:
    path = source(tmp_path)
    kinds = [one.kind for one in reports.documents(a_result(path), sources_of(path), CONTEXT)]
    assert kinds == [DocumentKind.SECONDARY_CAPTURE, DocumentKind.STRUCTURED_REPORT]


def test_a_study_out_of_scope_is_told_why_and_gets_no_number(tmp_path: Path) -> None:
    path = source(tmp_path)
    reason = OutOfScope("a spine was expected, HAND was found", "wrong-body-part", (instance_ref(path),))
    report = _read(reports.documents_out_of_scope(reason, sources_of(path), CONTEXT)[0])
    assert [one for one in _items(report, "NUM") if one.RelationshipType == "CONTAINS"] == []
    assert "Not analyzed: a spine was expected, HAND was found" in [one.TextValue for one in _items(report, "TEXT")]


def _pointing(path: Path) -> Path:
    """Write a report that points into the image at `path`, as others do."""
    image = dcmread(path)
    image.FrameOfReferenceUID = "2.25.9"
    report = testing.pointing_report([image], [(0.0, 0.0, 0.0)])
    report.save_as(path.with_name("pointing.dcm"), enforce_file_format=True)
    return path.with_name("pointing.dcm")


def test_the_reason_for_not_reading_rests_on_an_image_and_not_on_the_report_before_it(tmp_path: Path) -> None:
    path = source(tmp_path)
    other = _pointing(path)
    reason = OutOfScope("no position", "no-position", (instance_ref(other), instance_ref(path)))
    report = _read(reports.documents_out_of_scope(reason, sources_of(path, other), CONTEXT)[0])
    (image,) = _items(report, "IMAGE")
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == instance_ref(path).sop_instance_uid
    alone = replace(reason, evidence=(instance_ref(other),))
    report = _read(reports.documents_out_of_scope(alone, sources_of(other), CONTEXT)[0])
    assert _items(report, "IMAGE") == []
    assert "Not analyzed: no position" in [one.TextValue for one in _items(report, "TEXT")]


def test_other_words_for_not_reading_are_another_document(tmp_path: Path) -> None:
    path = source(tmp_path)
    words = ("no position, no earlier study", "no position, 1 earlier study", "no position, 1 earlier study")
    reasons = (OutOfScope(said, "no-position", (instance_ref(path),)) for said in words)
    one, other, again = (reports.documents_out_of_scope(reason, sources_of(path), CONTEXT)[0] for reason in reasons)
    assert one.ref.sop_instance_uid != other.ref.sop_instance_uid
    assert other == again


def test_a_region_outside_its_image_is_refused_and_not_moved(tmp_path: Path) -> None:
    path = source(tmp_path, rows=64, columns=64)
    image = instance_ref(path)
    outside = a_finding(1, image, region=Region.box(image, left=10, top=10, right=70, bottom=20))
    with pytest.raises(ReportError, match="outside its 64 x 64 pixels"):
        reports.documents(replace(a_result(path), findings=(outside,)), sources_of(path), CONTEXT)


def test_a_finding_on_an_image_that_is_no_evidence_is_refused(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path)
    elsewhere = InstanceRef(result.study_instance_uid, UID("2.25.7"), result.evidence[0].sop_class_uid, UID("2.25.8"))
    with pytest.raises(ReportError, match="cannot be encoded"):
        reports.documents(replace(result, findings=(a_finding(0, elsewhere),)), sources_of(path), CONTEXT)


def test_a_missing_source_is_an_error_that_names_the_instance(tmp_path: Path) -> None:
    path = source(tmp_path)
    with pytest.raises(ReportError, match=instance_ref(path).sop_instance_uid):
        reports.documents(a_result(path), {}, CONTEXT)


def test_no_log_and_no_warning_quotes_the_patient(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data_set = dcmread(source(tmp_path))
    with disable_value_validation():
        data_set.PatientName, data_set.PatientID = "SECRETNAME", "SECRETNUMBER" * 8
        data_set.PatientBirthDate = "SECRETDATE"
        path = saved(data_set, tmp_path)
    result, sources = a_result(path), sources_of(path)
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    made = reports.documents(result, sources, CONTEXT)
    assert "SECRET" not in caplog.text
    assert len(made) == 2


def test_what_people_and_programs_read_has_no_patient_in_it(tmp_path: Path) -> None:
    path = source(tmp_path, PatientName="SECRET^NAME", PatientID="SECRET")
    result = a_result(path, boxes=1)
    assert "SECRET" not in reports.result_json(result, CONTEXT) + reports.report_text(result)


def test_a_printed_report_has_the_same_bytes_each_time_and_its_captures(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path, boxes=1)
    captures = reports.documents(result, sources_of(path), CONTEXT)[:1]
    printed = reports.report_pdf(result, captures)
    assert printed == reports.report_pdf(result, captures)
    assert len(printed) > len(reports.report_pdf(result)) > 1000


@pytest.mark.parametrize("words", [400, 1000, 4000])
def test_a_value_longer_than_a_page_is_printed_on_several(words: int, tmp_path: Path) -> None:
    said = [f"word{number}" for number in range(words)]
    algorithm = replace(ALGORITHM, parameters=(("priors left out", " ".join(said)),))
    printed = reports.report_pdf(a_result(source(tmp_path), algorithm=algorithm))
    assert set(said) <= set(" ".join(page.extract_text() for page in PdfReader(BytesIO(printed)).pages).split())


def test_a_result_without_findings_is_printed_without_that_heading(tmp_path: Path) -> None:
    result = replace(a_result(source(tmp_path)), findings=())
    assert reports.report_pdf(result).startswith(b"%PDF")
    assert "Findings" not in reports.report_text(result)


def test_a_reason_is_printed_as_it_is() -> None:
    reason = OutOfScope("fewer than <5 slices> & no scout", "too-few")
    assert reports.report_pdf(reason).startswith(b"%PDF")
    assert reason.reason in reports.report_text(reason)
    assert json.loads(reports.result_json(reason, CONTEXT))["out_of_scope"]["code"] == "too-few"


def test_a_box_is_told_to_programs_at_its_pixels(tmp_path: Path) -> None:
    result = a_result(source(tmp_path), boxes=1)
    told = json.loads(reports.result_json(result, CONTEXT))["findings"][1]["region"]["points"]
    assert [tuple(point) for point in told] == list(box(result.evidence[0], 1).points)
