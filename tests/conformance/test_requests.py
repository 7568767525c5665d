"""Documents name the requests that their images came with, and the algorithm that read the images as equipment."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conformance.made import ALGORITHM, CONTEXT, EVERYTHING, a_result, source, sources_of
from conformance.test_ct_documents import a_slice
from pydicom import Dataset, dcmread
from support import instance_ref, judges

from ainode.node import reports
from ainode.node.domain import UID, Algorithm, DocumentKind
from ainode.node.reports.requests import requests_of


def an_item(**elements: object) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def a_code(value: str = "XTS") -> Dataset:
    return an_item(CodeValue=value, CodingSchemeDesignator="99RIS", CodeMeaning="X-ray thoracic spine")


def a_request(number: int = 1, **elements: Any) -> Dataset:  # noqa: ANN401  # any element
    usual = {
        "StudyInstanceUID": f"2.25.770{number}",
        "AccessionNumber": f"ACC-{number}",
        "IssuerOfAccessionNumberSequence": [an_item(LocalNamespaceEntityID="RIS1")],
        "RequestedProcedureID": f"RP-{number}",
        "RequestedProcedureDescription": "X-ray thoracic spine",
        "RequestedProcedureCodeSequence": [a_code()],
        "ScheduledProcedureStepID": f"SPS-{number}",
        "ScheduledProcedureStepDescription": "lateral",
    }
    return an_item(**{**usual, **elements})


def written(path: Path, *, boxes: int = 1) -> dict[DocumentKind, Dataset]:
    documents = reports.documents(a_result(path, boxes=boxes), sources_of(path), EVERYTHING)
    return {document.kind: dcmread(BytesIO(document.content)) for document in documents}


def test_a_report_names_every_request_of_its_images_once(tmp_path: Path) -> None:
    path = source(tmp_path, RequestAttributesSequence=[a_request(1), a_request(2)], AccessionNumber="")
    report = written(path)[DocumentKind.STRUCTURED_REPORT]
    requests = report.ReferencedRequestSequence
    named = [(item.RequestedProcedureID, item.AccessionNumber, item.StudyInstanceUID) for item in requests]
    assert named == [("RP-1", "ACC-1", "2.25.7701"), ("RP-2", "ACC-2", "2.25.7702")]
    assert requests[0].IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "RIS1"
    assert requests[0].RequestedProcedureCodeSequence[0].CodeValue == "XTS"
    assert "ScheduledProcedureStepID" not in requests[0]


def test_requests_of_two_series_of_the_study_are_all_named_and_none_of_an_earlier_study(tmp_path: Path) -> None:
    paths = []
    for number, study in ((1, "now"), (2, "now"), (3, "before")):
        path = a_slice(tmp_path / study / str(number), number=2)
        image = dcmread(path)
        image.RequestAttributesSequence = [a_request(number)]
        image.SeriesInstanceUID, image.SOPInstanceUID = f"2.25.88{number}", f"2.25.99{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(path)
        paths.append(path)
    refs = [instance_ref(path) for path in paths]
    requests = requests_of(tuple(refs), sources_of(*paths), {})
    assert [item.RequestedProcedureID for item in requests] == ["RP-1", "RP-2"]


@pytest.mark.parametrize("kind", [DocumentKind.SECONDARY_CAPTURE, DocumentKind.PRESENTATION_STATE])
def test_a_series_of_ours_has_the_request_attributes_of_its_source(kind: DocumentKind, tmp_path: Path) -> None:
    path = source(tmp_path, RequestAttributesSequence=[a_request()])
    (request,) = written(path)[kind].RequestAttributesSequence
    assert (request.RequestedProcedureID, request.ScheduledProcedureStepID) == ("RP-1", "SPS-1")


def test_captures_of_images_of_two_requests_are_two_series(tmp_path: Path) -> None:
    paths = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = source(folder, RequestAttributesSequence=[a_request(number)], StudyInstanceUID="2.25.1")
        paths.append(path)
    first, second = (a_result(path) for path in paths)
    both = replace(first, captures=first.captures + second.captures, evidence=first.evidence + second.evidence)
    documents = reports.documents(both, sources_of(*paths), CONTEXT)
    captures = [dcmread(BytesIO(document.content)) for document in documents[:-1]]
    assert len({capture.SeriesInstanceUID for capture in captures}) == 2
    assert [capture.RequestAttributesSequence[0].RequestedProcedureID for capture in captures] == [
        "RP-1",
        "RP-1",
        "RP-2",
    ]


def test_an_accession_number_alone_is_a_request_that_is_known_by_it(tmp_path: Path) -> None:
    written_documents = written(source(tmp_path, AccessionNumber="ACC-7"))
    (request,) = written_documents[DocumentKind.STRUCTURED_REPORT].ReferencedRequestSequence
    assert (request.AccessionNumber, request.RequestedProcedureID) == ("ACC-7", "")
    assert "RequestAttributesSequence" not in written_documents[DocumentKind.SECONDARY_CAPTURE]


@pytest.mark.parametrize(
    "elements",
    [
        {"AccessionNumber": ["ACC-1", "ACC-2"]},
        {"AccessionNumber": "", "RequestAttributesSequence": [a_request(AccessionNumber=["ACC-1", "ACC-2"])]},
    ],
    ids=["of the study", "of a request"],
)
def test_two_accession_numbers_in_the_one_element_are_two_requests(elements: dict[str, Any], tmp_path: Path) -> None:
    written_documents = written(source(tmp_path, **elements))
    requests = written_documents[DocumentKind.STRUCTURED_REPORT].ReferencedRequestSequence
    assert [request.AccessionNumber for request in requests] == ["ACC-1", "ACC-2"]
    for kind, document in written_documents.items():
        document.save_as(tmp_path / f"{kind}.dcm")
        assert judges.module_errors(tmp_path / f"{kind}.dcm") == []


def test_each_image_that_the_report_describes_names_its_request(tmp_path: Path) -> None:
    paths = []
    for number in (1, 2):
        (folder := tmp_path / str(number)).mkdir()
        uids = {"StudyInstanceUID": "2.25.1", "SeriesInstanceUID": "2.25.2", "SOPInstanceUID": f"2.25.3{number}"}
        paths.append(source(folder, AccessionNumber=f"ACC-{number}", **uids))
    first, second = (a_result(path) for path in paths)
    both = replace(
        first, evidence=first.evidence + second.evidence, key_images=first.key_images + second.key_images, captures=()
    )
    report = dcmread(BytesIO(reports.documents(both, sources_of(*paths), CONTEXT)[-1].content))
    assert [request.AccessionNumber for request in report.ReferencedRequestSequence] == ["ACC-1", "ACC-2"]


def test_images_that_nobody_requested_name_no_request(tmp_path: Path) -> None:
    written_documents = written(source(tmp_path, AccessionNumber="", RequestAttributesSequence=[Dataset()]))
    assert "ReferencedRequestSequence" not in written_documents[DocumentKind.STRUCTURED_REPORT]
    assert "RequestAttributesSequence" not in written_documents[DocumentKind.SECONDARY_CAPTURE]


def test_the_procedure_of_the_source_is_the_performed_procedure_of_the_report(tmp_path: Path) -> None:
    report = written(source(tmp_path, ProcedureCodeSequence=[a_code("XTS"), an_item(CodeValue="half")]))[
        DocumentKind.STRUCTURED_REPORT
    ]
    assert [code.CodeValue for code in report.PerformedProcedureCodeSequence] == ["XTS"]


HALF_FILLED: dict[str, dict[str, object]] = {
    "an issuer without an identifier": {"IssuerOfAccessionNumberSequence": [Dataset()]},
    "an issuer by a universal identifier without its type": {
        "IssuerOfAccessionNumberSequence": [an_item(UniversalEntityID="1.2.3")]
    },
    "a code without a scheme": {"RequestedProcedureCodeSequence": [an_item(CodeValue="XTS")]},
    "an identifier of 30 characters": {"RequestedProcedureID": "RP" * 15},
    "a study that is no UID": {"StudyInstanceUID": "none"},
    "an empty referenced study": {"ReferencedStudySequence": [Dataset()]},
    "half a referenced study": {"ReferencedStudySequence": [an_item(ReferencedSOPInstanceUID="1.2.3")]},
    "two procedure codes": {"RequestedProcedureCodeSequence": [a_code(), a_code("B")]},
    "a description of two values": {"RequestedProcedureDescription": ["spine", "lateral"]},
    "a description of two lines": {"RequestedProcedureDescription": "spine\r\nlateral"},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", HALF_FILLED)
def test_a_half_filled_request_costs_no_error(name: str, tmp_path: Path) -> None:
    path = source(tmp_path, RequestAttributesSequence=[a_request(**HALF_FILLED[name])])
    written_documents = written(path, boxes=2)
    for kind, document in written_documents.items():
        document.save_as(tmp_path / f"{kind}.dcm")
        assert judges.module_errors(tmp_path / f"{kind}.dcm") == []
    assert written_documents[DocumentKind.STRUCTURED_REPORT].ReferencedRequestSequence[0].AccessionNumber == "ACC-1"


def device_uids(document: Dataset) -> dict[str, str]:
    """Return the Device UID of each contributing equipment by its model name."""
    return {
        item.ManufacturerModelName: item.get("DeviceUID", "")
        for item in document.ContributingEquipmentSequence
        if item.get("ManufacturerModelName")
    }


def test_every_document_has_the_algorithm_as_equipment_of_its_own(tmp_path: Path) -> None:
    for document in written(source(tmp_path)).values():
        (item,) = (
            item
            for item in document.ContributingEquipmentSequence
            if item.get("ManufacturerModelName") == ALGORITHM.name
        )
        assert list(item.SoftwareVersions) == ["1.0.0", f"weights {'5' * 16}"]
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert item.DeviceUID


@pytest.mark.parametrize(
    "other",
    [
        replace(ALGORITHM, name="another"),
        replace(ALGORITHM, version="1.0.1"),
        replace(ALGORITHM, weights_sha256="6" * 64),
    ],
    ids=["name", "version", "weights"],
)
def test_the_device_uid_of_an_algorithm_hangs_on_name_version_and_weights(other: Algorithm, tmp_path: Path) -> None:
    path = source(tmp_path)

    def device_uid(algorithm: Algorithm) -> str:
        document = reports.documents(a_result(path, algorithm=algorithm), sources_of(path), CONTEXT)[-1]
        return device_uids(dcmread(BytesIO(document.content)))[algorithm.name]

    assert device_uid(ALGORITHM) != device_uid(other)
    assert device_uid(ALGORITHM) == device_uid(replace(ALGORITHM, parameters=()))


def test_the_observer_of_a_report_is_the_algorithm_on_this_installation(tmp_path: Path) -> None:
    report = written(source(tmp_path))[DocumentKind.STRUCTURED_REPORT]
    observer = {
        item.ConceptNameCodeSequence[0].CodeValue: item.get("UID") or item.get("TextValue")
        for item in report.ContentSequence
        if item.ValueType in {"UIDREF", "TEXT"}
    }
    # DCM: Device Observer UID, Name, Model Name, Serial Number
    assert observer["121012"] == device_uids(report)[ALGORITHM.name]
    assert (observer["121013"], observer["121015"], observer["121016"]) == (
        CONTEXT.device_name,
        ALGORITHM.name,
        UID(CONTEXT.device_uid),
    )
