"""Patient and study of a source that fills them half: documents leave without an error, and keep what is whole."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from conformance.made import CONTEXT, EVERYTHING, a_result, source, sources_of
from conformance.test_requests import a_code, an_item
from highdicom.base import get_module_attribute_map  # type: ignore[attr-defined]
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from support import judges

from ainode.node import reports
from ainode.node.reports.modules import patient_and_study

MODULES = ("patient", "general-study", "patient-study", "clinical-trial-subject", "clinical-trial-study")
VALUES: dict[str, Any] = {
    "CS": "AB",
    "UI": "1.2.3.4",
    "PN": "A^B",
    "DA": "20260101",
    "AS": "030Y",
    "DS": "1",
    "US": 1,
    "FD": 1.0,
    "IS": 1,
    "TM": "120000",
    "DT": "20260101120000",
    "FL": [1.0, 2.0, 3.0],
}
ISSUER = an_item(LocalNamespaceEntityID="HOSP-B", UniversalEntityID="1.2.3", UniversalEntityIDType="ISO")


def written(path: Path) -> list[Path]:
    documents = reports.documents(a_result(path, boxes=1), sources_of(path), EVERYTHING)
    paths = [path.with_name(f"{document.kind}-{number}.dcm") for number, document in enumerate(documents)]
    for place, document in zip(paths, documents, strict=True):
        place.write_bytes(document.content)
    return paths


def report_of(path: Path) -> Dataset:
    return dcmread(BytesIO(reports.documents(a_result(path), sources_of(path), CONTEXT)[-1].content))


def a_long_code() -> Dataset:
    with disable_value_validation():
        return a_code("XTS-01234567890123456789")


HALF: dict[str, dict[str, Any]] = {
    "another identifier without its type": {
        "OtherPatientIDsSequence": [an_item(PatientID="99-1", IssuerOfPatientID="HOSP-B")]
    },
    "another identifier without a value": {"OtherPatientIDsSequence": [an_item(PatientID="", TypeOfPatientID="TEXT")]},
    "another identifier without a whole issuer": {
        "OtherPatientIDsSequence": [
            an_item(
                PatientID="99-1",
                TypeOfPatientID="TEXT",
                IssuerOfPatientIDQualifiersSequence=[
                    an_item(UniversalEntityID="1.2.3", AssigningFacilitySequence=[Dataset()])
                ],
            )
        ]
    },
    "a subject of a trial": {
        "ClinicalTrialSponsorName": "S",
        "ClinicalTrialProtocolID": "P",
        "ClinicalTrialSubjectID": "1",
    },
    "a trial without a subject": {"ClinicalTrialSponsorName": "S", "ClinicalTrialProtocolID": "P"},
    "a trial without a sponsor": {"ClinicalTrialSiteID": "7", "ClinicalTrialSubjectID": "1"},
    "a trial with an approval of nobody": {
        "ClinicalTrialSponsorName": "S",
        "ClinicalTrialProtocolID": "P",
        "ClinicalTrialSubjectReadingID": "1",
        "ClinicalTrialProtocolEthicsCommitteeApprovalNumber": "4711",
    },
    "a time point without its identifier": {"ClinicalTrialTimePointDescription": "baseline"},
    "a qualifier without its type": {"IssuerOfPatientIDQualifiersSequence": [an_item(UniversalEntityID="1.2.3.4")]},
    "an issuer of an unknown type": {
        "IssuerOfAccessionNumberSequence": [an_item(UniversalEntityID="1.2.3", UniversalEntityIDType="OID")]
    },
    "an empty issuer": {"AccessionNumber": "A1", "IssuerOfAccessionNumberSequence": [Dataset()]},
    "two issuers": {"IssuerOfAdmissionIDSequence": [an_item(LocalNamespaceEntityID="A"), ISSUER]},
    "a code without a value": {"ProcedureCodeSequence": [an_item(CodeMeaning="X-ray thoracic spine")]},
    "a code without a scheme": {"AdmittingDiagnosesCodeSequence": [an_item(CodeValue="J18", CodeMeaning="Pneumonia")]},
    "a code that is too long": {"ProcedureCodeSequence": [a_long_code()]},
    "a code of half a context group": {
        "ReasonForVisitCodeSequence": [
            an_item(CodeValue="X", CodingSchemeDesignator="99R", CodeMeaning="x", ContextIdentifier="7")
        ]
    },
    "a code with an empty equivalent": {
        "ProcedureCodeSequence": [
            an_item(CodeValue="X", CodingSchemeDesignator="99R", CodeMeaning="x", EquivalentCodeSequence=[Dataset()])
        ]
    },
    "a physician without a code": {
        "ReferringPhysicianIdentificationSequence": [an_item(InstitutionName="Clinic", PersonTelephoneNumbers="1")]
    },
    "half a reference": {"ReferencedStudySequence": [an_item(ReferencedSOPInstanceUID="1.2.3")]},
    "half a reference to the patient": {"ReferencedPatientSequence": [an_item(ReferencedSOPClassUID="1.2.3")]},
    "sequences without items": {"OtherPatientIDsSequence": [], "ProcedureCodeSequence": []},
    "an animal": {"PatientSpeciesDescription": "Canis lupus familiaris"},
    "a breed of no species": {"PatientBreedDescription": "Beagle"},
    "a person without a role": {"ResponsiblePerson": "A^B"},
    "a role without a person": {"ResponsiblePersonRole": "PARENT"},
    "a date of no calendar": {"PatientBirthDateInAlternativeCalendar": "S36"},
    "an identity removed by no method": {"PatientIdentityRemoved": "YES"},
    "words that are not enumerated": {
        "PatientIdentityRemoved": "Y",
        "QualityControlSubject": "N",
        "SmokingStatus": "X",
    },
    "a description of 80 characters": {"StudyDescription": "x" * 80, "StudyID": "1" * 20},
    "a description of two values": {"StudyDescription": ["spine", "lateral"], "PatientWeight": [70, 71]},
    "a bell in a comment": {"PatientComments": "cough\a"},
    "a range of dates": {"StudyDate": "20260101-20260102", "StudyTime": "120000-130000"},
    "a frame of reference that is no UID": {"FrameOfReferenceUID": "none"},
    "two body parts": {"BodyPartExamined": ["TSPINE", "LSPINE"]},
    "two answers": {"RecognizableVisualFeatures": ["YES", "NO"], "LossyImageCompression": ["00", "01"]},
    "two numbers": {"SliceThickness": [1, 2], "KVP": [80, 100], "SeriesNumber": [1, 2], "InstanceNumber": [1, 2]},
    "an orientation of no direction": {"PatientOrientation": ["UNKNOWN", "UNKNOWN"]},
    "rows and columns of one direction": {"PatientOrientation": ["L", "L"]},
    "a direction to both sides": {"PatientOrientation": ["LR", "F"]},
    "a scanner of two manufacturers": {
        "Manufacturer": ["A", "B"],
        "ManufacturerModelName": ["A", "B"],
        "InstitutionName": ["North", "South"],
        "StationName": ["A", "B"],
    },
    "a bell in the scanner": {"Manufacturer": "A\aB", "InstitutionName": "C\aD"},
    "attributes that are younger than validators": {"IssuerOfClinicalTrialSiteID": "X"},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("elements", HALF.values(), ids=HALF)
def test_documents_of_a_half_filled_header_have_no_error(elements: dict[str, Any], tmp_path: Path) -> None:
    path = source(tmp_path, **elements)
    documents = written(path)
    assert [line for document in documents for line in judges.module_errors(document)] == []
    assert judges.set_errors(documents, [path]) == []


def test_another_identifier_stays_without_its_type(tmp_path: Path) -> None:
    other = an_item(PatientID="99-1", IssuerOfPatientID="HOSP-B")
    (item,) = report_of(source(tmp_path, OtherPatientIDsSequence=[other])).OtherPatientIDsSequence
    assert (item.PatientID, item.IssuerOfPatientID, item.TypeOfPatientID) == ("99-1", "HOSP-B", "TEXT")


def test_a_sequence_is_whole_or_absent_for_a_shorter_one_contradicts_the_source(tmp_path: Path) -> None:
    path = source(tmp_path, ProcedureCodeSequence=[an_item(CodeMeaning="X-ray thoracic spine"), a_code()])
    documents = written(path)
    assert judges.set_errors(documents, [path]) == []
    assert all("ProcedureCodeSequence" not in dcmread(document) for document in documents)


def test_a_subject_of_a_trial_stays_and_its_site_is_empty(tmp_path: Path) -> None:
    report = report_of(
        source(tmp_path, ClinicalTrialSponsorName="S", ClinicalTrialProtocolID="P", ClinicalTrialSubjectID="1")
    )
    assert (report.ClinicalTrialSubjectID, report.ClinicalTrialSiteID) == ("1", "")


WHOLE = {
    "IssuerOfAccessionNumberSequence": [ISSUER],
    "IssuerOfAdmissionIDSequence": [ISSUER],
    "IssuerOfPatientIDQualifiersSequence": [
        an_item(
            UniversalEntityID="1.2.3",
            UniversalEntityIDType="ISO",
            IdentifierTypeCode="MR",
            AssigningFacilitySequence=[ISSUER],
            AssigningJurisdictionCodeSequence=[a_code()],
        )
    ],
    "OtherPatientIDsSequence": [an_item(PatientID="1", IssuerOfPatientID="A", TypeOfPatientID="RFID")],
    "ProcedureCodeSequence": [a_code(), a_code("B")],
    "ReferringPhysicianIdentificationSequence": [
        an_item(
            PersonIdentificationCodeSequence=[a_code()], InstitutionName="Clinic", PersonTelephoneNumbers=["1", "2"]
        )
    ],
    "ReferencedStudySequence": [an_item(ReferencedSOPClassUID="1.2.3", ReferencedSOPInstanceUID="1.2.4")],
    "PatientWeight": "70.5",
    "PregnancyStatus": 4,
    "AdditionalPatientHistory": "cough",
    "ResponsiblePerson": "A^B",
    "ResponsiblePersonRole": "PARENT",
    "PatientIdentityRemoved": "NO",
    "EthnicGroup": "X",
}


def test_what_is_whole_stays_as_it_is(tmp_path: Path) -> None:
    path = source(tmp_path, **WHOLE)
    image, report = dcmread(path), report_of(path)
    for keyword in WHOLE:
        assert report[keyword] == image[keyword], keyword


def modules() -> dict[str, Any]:
    """Return the attributes of the modules, each with those of its items."""
    tree: dict[str, Any] = {}
    for module in MODULES:
        for attribute in get_module_attribute_map()[module]:
            branch = tree
            for keyword in attribute["path"]:
                branch = branch.setdefault(keyword, {})
            branch.setdefault(attribute["keyword"], {})
    return tree


def variants(keyword: str, items: dict[str, Any], depth: int = 0) -> Iterator[DataElement]:
    """Yield the attribute with a value, without, and as a sequence with one attribute in its item each time."""
    tag, vr = tag_for_keyword(keyword), dictionary_VR(keyword)
    assert tag is not None
    if vr != "SQ":
        yield DataElement(tag, vr, VALUES.get(vr, "text"))
        yield DataElement(tag, vr, None if vr in {"US", "FD", "FL"} else "")
        return
    yield DataElement(tag, vr, [])
    yield DataElement(tag, vr, [Dataset()])
    for name, below in items.items() if depth < 2 else ():
        if tag_for_keyword(name):
            for element in variants(name, below, depth + 1):
                yield DataElement(tag, vr, [Dataset({element.tag: element})])


def test_no_attribute_of_patient_and_study_alone_makes_an_error(tmp_path: Path) -> None:
    path = source(tmp_path)
    report, header = report_of(path), dcmread(path)
    roots = [variants(keyword, items) for keyword, items in modules().items() if keyword != "StudyInstanceUID"]
    errors = []
    for number, elements in enumerate(zip_longest(*roots)):
        half = deepcopy(header)
        half.update({element.tag: element for element in elements if element})
        for keyword in ("PatientSex", "PatientID"):
            half[keyword] = header[keyword]
        document = deepcopy(report)
        document.update(patient_and_study(half))
        place = tmp_path / f"{number}.dcm"
        document.save_as(place, enforce_file_format=True)
        errors += judges.module_errors(place)
    assert sorted(set(errors)) == []


def test_a_station_name_that_is_too_long_does_not_cost_the_scanner(tmp_path: Path) -> None:
    with disable_value_validation():
        path = source(tmp_path, Manufacturer="Scanners & Co", StationName="A station name of the second floor")
    scanner, *_ = report_of(path).ContributingEquipmentSequence
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Acquisition Equipment"
    assert (scanner.Manufacturer, "StationName" in scanner) == ("Scanners & Co", False)


def test_two_captures_of_a_person_without_a_role_are_one_series(tmp_path: Path) -> None:
    path = source(tmp_path, ResponsiblePerson="A^B")
    result = a_result(path)
    twice = replace(result, captures=result.captures * 2)
    captures = reports.documents(twice, sources_of(path), CONTEXT)[:-1]
    assert len(captures) == 3
    assert len({capture.ref.series_instance_uid for capture in captures}) == 1
