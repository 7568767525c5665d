"""Images of two patients under one Study Instance UID are told apart without saying whose they are."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from support import a_file

from ainode.node.domain import Instance, Patient
from ainode.node.encoding import headers
from ainode.node.identity import MODEL_NAME
from ainode.node.imaging.patients import patient_contradiction, patient_notes

ANNA = Patient("ID-ALPHA", "", "19500101", name="Alpha^Anna", sex="F")


@pytest.fixture
def image(tmp_path: Path) -> Instance:
    path = tmp_path / "image.dcm"
    path.write_bytes(a_file())
    return headers.instance(path, sha256="00")


@pytest.mark.parametrize(
    ("other", "attribute"),
    [
        (Patient("ID-BETA", "", "19500101"), "Patient ID (0010,0020)"),
        (Patient("ID-ALPHA", "", "19800202"), "Patient's Birth Date (0010,0030)"),
        (replace(ANNA, sex="M"), "Patient's Sex (0010,0040)"),
    ],
)
def test_a_second_patient_is_told_by_the_attribute_and_never_by_the_value(
    image: Instance, other: Patient, attribute: str
) -> None:
    reason = patient_contradiction([replace(image, patient=ANNA), replace(image, patient=other)])
    assert attribute in reason
    assert not any(value in reason for value in ("ALPHA", "BETA", "19500101", "19800202"))


def test_issuers_count_where_both_are_stated(image: Instance) -> None:
    issuers = [replace(image, patient=replace(ANNA, issuer=issuer)) for issuer in ("", "HOSPITAL", "CLINIC")]
    assert "Issuer of Patient ID" in patient_contradiction(issuers)
    assert patient_contradiction(issuers[:2]) == ""


@pytest.mark.parametrize("written", ["1950.01.01", "00000000", "1950", "unknown"])
def test_a_birth_date_in_other_words_or_in_none_contradicts_no_date(image: Instance, written: str) -> None:
    other = replace(image, patient=replace(ANNA, birth_date=written))
    assert patient_contradiction([replace(image, patient=ANNA), other]) == ""


def test_issuers_in_qualifiers_count_where_both_are_stated(image: Instance, tmp_path: Path) -> None:
    instances = [image]
    for issuer in ("1.2.3", "1.2.4"):
        dataset = dcmread(image.path)
        qualifier = Dataset()
        qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = issuer, "ISO"
        dataset.IssuerOfPatientIDQualifiersSequence = [qualifier]
        dataset.save_as(path := tmp_path / f"{issuer}.dcm")
        instances.append(headers.instance(path, sha256="00"))
    assert "Issuer of Patient ID Qualifiers" in patient_contradiction(instances)
    assert patient_contradiction(instances[:2]) == ""
    assert not any("1.2.4" in str(value) for value in instances[2].header.values())


def test_a_value_that_is_not_stated_contradicts_none(image: Instance) -> None:
    assert patient_contradiction([replace(image, patient=ANNA), replace(image, patient=Patient())]) == ""


def test_a_document_of_this_node_under_the_former_patient_does_not_count(image: Instance) -> None:
    report = replace(image, patient=Patient("ID-BETA"), header={"ManufacturerModelName": MODEL_NAME})
    assert patient_contradiction([replace(image, patient=ANNA), report]) == ""


def test_the_patient_of_a_file_is_read_without_its_padding_and_stands_in_no_header(tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(a_file())
    dataset = dcmread(path)
    dataset.PatientID, dataset.IssuerOfPatientID, dataset.PatientBirthDate = " ID-ALPHA ", "HOSPITAL", "19500101"
    dataset.save_as(path)
    instance = headers.instance(path, sha256="00")
    assert instance.patient == Patient("ID-ALPHA", "HOSPITAL", "19500101", name=str(dataset.PatientName))
    assert not {"PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientName", "PatientSex"} & set(
        instance.header
    )
    assert "ALPHA" not in repr(instance)


@pytest.mark.parametrize("patient_ids", [("", ""), ("ID-ALPHA", "")])
def test_names_without_a_common_word_are_of_two_patients_where_no_patient_id_joins_them(
    image: Instance, patient_ids: tuple[str, str]
) -> None:
    names = ("Alpha^Anna", "Gamma^Berta")
    patients = [Patient(patient_id, name=name) for patient_id, name in zip(patient_ids, names, strict=True)]
    reason = patient_contradiction([replace(image, patient=patient) for patient in patients])
    assert "Patient's Name (0010,0010) have no word in common" in reason
    assert not any(word in reason for word in ("Alpha", "Gamma", "Anna", "Berta"))


@pytest.mark.parametrize("other", ["ANNA ALPHA", "Gamma^Anna", "Álpha^A.", "", "山田^花子", "Alpha^Anna=山田^花子"])
def test_names_that_share_a_word_or_cannot_be_compared_contradict_none(image: Instance, other: str) -> None:
    patients = [Patient(name="Alpha^Anna"), Patient(name=other)]
    assert patient_contradiction([replace(image, patient=patient) for patient in patients]) == ""


def test_an_equal_patient_id_joins_two_names(image: Instance) -> None:
    patients = [ANNA, replace(ANNA, name="Gamma^Berta")]
    assert patient_contradiction([replace(image, patient=patient) for patient in patients]) == ""


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([replace(ANNA, name="Gamma^Berta")], ["Patient's Name (0010,0010) in this study have no word in common"]),
        ([replace(ANNA, patient_id="")], ["1 of 2 objects of this study have no Patient ID (0010,0020)"]),
        ([replace(ANNA, name="Anna^Gamma"), replace(ANNA, name="")], []),
        ([Patient("ID-ALPHA")], []),
    ],
    ids=["other names under one ID", "no ID beside an ID", "a shared word", "no name"],
)
def test_a_doubt_whose_images_are_is_noted_and_names_no_value(
    image: Instance, others: list[Patient], words: list[str]
) -> None:
    instances = [replace(image, patient=patient) for patient in (ANNA, *others)]
    assert patient_contradiction(instances) == ""
    notes = patient_notes(instances)
    assert len(notes) == len(words)
    assert all(text in note for text, note in zip(words, notes, strict=True))
    assert not any(value.lower() in note.lower() for value in ("Alpha", "Anna", "Gamma", "Berta") for note in notes)


def test_studies_without_any_patient_id_and_documents_of_this_node_raise_no_doubt(image: Instance) -> None:
    report = replace(image, patient=replace(ANNA, name="Gamma^Berta"), header={"ManufacturerModelName": MODEL_NAME})
    assert patient_notes([replace(image, patient=Patient(name="Alpha^Anna"))] * 2) == ()
    assert patient_notes([replace(image, patient=ANNA), report]) == ()


@pytest.mark.parametrize("sex", ["", "O", "f"])
def test_a_sex_that_is_absent_other_or_written_small_contradicts_none(image: Instance, sex: str) -> None:
    patients = [ANNA, replace(ANNA, sex=sex)]
    assert patient_contradiction([replace(image, patient=patient) for patient in patients]) == ""


def test_a_name_that_was_corrected_makes_no_second_instance(image: Instance) -> None:
    corrected = replace(image, patient=replace(image.patient, name="Alpha^Anna", sex="F"))
    assert len(headers.study([image, corrected]).instances) == 1
