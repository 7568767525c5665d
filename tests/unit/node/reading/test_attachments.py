import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from support.programs import CONTEXT

from ainode.node import testing
from ainode.node.domain import (
    RESEARCH_USE_ONLY,
    UID,
    Algorithm,
    Attachment,
    Code,
    Document,
    Instance,
    Result,
    WeightsStatus,
)
from ainode.node.encoding import headers
from ainode.node.encoding.part10 import head, parse
from ainode.node.errors import HandlerError
from ainode.node.reading.attachments import KINDS, attached_documents
from ainode.node.reports.series import program_series_description, series_description

SC, SR, PDF, CT = KINDS["SC"][0], KINDS["SR"][0], KINDS["PDF"][0], "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Instance, ...]:
    paths = testing.write([testing.noise(16, 16, seed=seed) for seed in range(2)], tmp_path, study="attached")
    return tuple(headers.instance(path, sha256="") for path in paths)


def an_object(sources: tuple[Instance, ...], kind: str = SC, **values: object) -> Dataset:
    """Return a new object of the study and patient of the images."""
    image = dcmread(sources[0].path)
    dataset = Dataset()
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID"):
        setattr(dataset, keyword, image[keyword].value)
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = kind, generate_uid(), generate_uid()
    if kind == SC:
        dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.PixelRepresentation = 4, 4, 16, 0
        dataset.PixelData = bytes(32)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def encoded(dataset: Dataset) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def attached(content: bytes, *kinds: str) -> Attachment:
    return Attachment(content, kinds or tuple(KINDS))


def made(attachments: Sequence[Attachment], sources: tuple[Instance, ...]) -> tuple[Document, ...]:
    """Return the documents of a program that wrote these objects."""
    algorithm = Algorithm("tool", "1.0", "", WeightsStatus.SITE)
    code = Code("1", "99TEST", "any")
    study = sources[0].ref.study_instance_uid
    result = Result(study, algorithm, "Coverage", code, (), (), (), (), attachments=tuple(attachments))
    return attached_documents(result, sources, CONTEXT)


def test_an_object_of_the_study_leaves_with_a_meta_group_of_the_node(sources: tuple[Instance, ...]) -> None:
    content = b"#!/bin/sh" + encoded(an_object(sources))[9:]
    (document,) = made([attached(content)], sources)
    assert document.kind == "object"
    assert document.content[:128] == bytes(128)
    assert dcmread(io.BytesIO(document.content)).PixelData == bytes(32)


def test_private_elements_stay_behind_at_every_depth(sources: tuple[Instance, ...]) -> None:
    dataset = an_object(sources)
    dataset.add_new(0x00091010, "LO", "private")
    item = Dataset()
    item.add_new(0x00091011, "LO", "private")
    dataset.ReferencedImageSequence = [item]
    (document,) = made([attached(encoded(dataset))], sources)
    assert b"private" not in document.content


def test_an_object_says_that_it_is_for_research_beside_what_the_program_wrote_of_equipment(
    sources: tuple[Instance, ...],
) -> None:
    (document,) = made([attached(encoded(an_object(sources)))], sources)
    (mark,) = dcmread(io.BytesIO(document.content)).ContributingEquipmentSequence
    assert (mark.ManufacturerModelName, mark.ContributionDescription) == ("ainode", RESEARCH_USE_ONLY)
    purpose = mark.PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning) == (
        *("109102", "DCM"),
        "Processing Equipment",
    )
    scanner = Dataset()
    scanner.Manufacturer = "Scanner"
    content = encoded(
        an_object(sources, ContributingEquipmentSequence=[scanner], DerivationDescription="odd \x01 word")
    )
    (document,) = made([attached(content)], sources)
    dataset = dcmread(io.BytesIO(document.content))
    assert [item.Manufacturer for item in dataset.ContributingEquipmentSequence] == ["Scanner", "ainode project"]
    assert dataset.DerivationDescription == "odd \x01 word"
    assert made([attached(content)], sources) == (document,)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _content(code: str, **values: object) -> dict[str, object]:
    """Return the attributes of a report that states something of its subject or procedure."""
    name = _item(CodeValue=code, CodingSchemeDesignator="DCM", CodeMeaning="concept")
    item = _item(ConceptNameCodeSequence=[name], **values)
    return {"ContentSequence": [_item(ContentSequence=[item])]}


def _evidence(keyword: str, study: str) -> dict[str, object]:
    return {keyword: [_item(StudyInstanceUID=study)]}


CHANGES: dict[str, tuple[dict[str, object], str]] = {
    "another patient": ({"PatientID": "other"}, "PatientID is not that of the images"),
    "another name": ({"PatientName": "Other^One"}, "PatientName is not"),
    "no patient": ({"PatientID": None}, "PatientID is not"),
    "another Accession Number": ({"AccessionNumber": "other"}, "AccessionNumber is not"),
    "another Study Date": ({"StudyDate": "19990101"}, "StudyDate is not"),
    "another description": ({"StudyDescription": "other"}, "StudyDescription is not"),
    "another identifier": ({"OtherPatientIDs": ["other"]}, "OtherPatientIDs is not"),
    "a comment on a patient": ({"PatientComments": "other"}, "PatientComments is not"),
    "another name in a sequence": (
        {"RequestAttributesSequence": [_item(PatientName="Other^One")]},
        "PatientName is not that of the images",
    ),
    "another Accession Number in a sequence": (
        {"RequestAttributesSequence": [_item(AccessionNumber="other")]},
        "AccessionNumber is not",
    ),
    "a verified report": ({"VerificationFlag": "VERIFIED"}, "a person verified or approved it"),
    "a verifying observer": (
        {"VerifyingObserverSequence": [_item(VerifyingOrganization="X")]},
        "a person verified or approved it",
    ),
    "an approved object": ({"ApprovalStatus": "APPROVED"}, "a person verified or approved it"),
    "another subject's name": (_content("121029", PersonName="Other^One"), "PatientName is not"),
    "a person who observes": (_content("121008", PersonName="Other^One"), "PersonName is not"),
    "another subject's identifier": (_content("121030", TextValue="other"), "PatientID is not"),
    "another subject's birth": (_content("121031", Date="19010101"), "PatientBirthDate is not"),
    "another subject's sex": (_content("121032", ConceptCodeSequence=[_item(CodeValue="X")]), "PatientSex is not"),
    "another subject's age": (
        _content("121033", MeasuredValueSequence=[_item(NumericValue="99")]),
        "PatientAge is not",
    ),
    "another species": (
        _content("121034", ConceptCodeSequence=[_item(CodeValue="448771007")]),
        "PatientSpecies is not",
    ),
    "a procedure of another study": (_content("121018", UID="1.2.3"), "StudyInstanceUID is not"),
    "another order in the content": (_content("121020", TextValue="other"), "PlacerOrderNumberImaging.* is not"),
    "another trial": ({"ClinicalTrialSubjectID": "other"}, "ClinicalTrialSubjectID is not"),
    "another visit": ({"CurrentPatientLocation": "other"}, "CurrentPatientLocation is not"),
    "another request": (
        {"ReferencedRequestSequence": [_item(RequestedProcedureID="other")]},
        "RequestedProcedureID is not",
    ),
    "another order": (
        {"ReferencedRequestSequence": [_item(PlacerOrderNumberImagingServiceRequest="other")]},
        "PlacerOrderNumberImagingServiceRequest is not",
    ),
    "another person": ({"OperatorsName": "Other^One"}, "OperatorsName is not"),
    "evidence of another study": (
        _evidence("CurrentRequestedProcedureEvidenceSequence", "1.2.3"),
        "StudyInstanceUID is not",
    ),
    "a predecessor of another study": (_evidence("PredecessorDocumentsSequence", "1.2.3"), "StudyInstanceUID is not"),
    "a reference to another study": (
        {"ReferencedStudySequence": [_item(ReferencedSOPInstanceUID="1.2.3")]},
        "ReferencedStudySequence is not",
    ),
    "encrypted attributes": (
        {"EncryptedAttributesSequence": [_item(EncryptedContent=b"xx")]},
        "encrypted attributes, into which nobody can look",
    ),
    "a signature": ({"DigitalSignaturesSequence": [_item(CertificateOfSigner=b"xx")]}, "a digital signature"),
    "another study": ({"StudyInstanceUID": "1.2.3"}, "it is of another study"),
    "an image class": ({"SOPClassUID": CT}, "SOP Class CT Image Storage is none that"),
    "no UID": ({"SeriesInstanceUID": ""}, "one of its UIDs is missing"),
}


def refuse(sources: tuple[Instance, ...], values: dict[str, object], reason: str) -> None:
    objects = [attached(encoded(an_object(sources, **changes))) for changes in ({}, values)]
    with pytest.raises(HandlerError, match=f"object 2 of 2 that the program made: .*{reason}.*; nothing was sent"):
        made(objects, sources)


@pytest.mark.parametrize("change", CHANGES)
def test_an_object_that_does_not_fit_the_study_is_refused(sources: tuple[Instance, ...], change: str) -> None:
    refuse(sources, *CHANGES[change])


def test_an_object_that_takes_something_of_an_image_is_refused(sources: tuple[Instance, ...]) -> None:
    uid, series_uid = sources[1].ref.sop_instance_uid, sources[0].ref.series_instance_uid
    refuse(sources, {"SOPInstanceUID": uid}, "SOP Instance UID of an image that was read")
    refuse(sources, {"SeriesInstanceUID": series_uid}, "in a series of the images")
    pixels = dcmread(sources[1].path).PixelData
    refuse(sources, {"PixelData": pixels}, "pixels of an image that was read, unchanged")


def test_an_object_may_state_what_the_images_state_of_patient_and_study(sources: tuple[Instance, ...]) -> None:
    image = dcmread(sources[1].path)
    image.AccessionNumber, image.PatientComments, image.StudyDescription = "A1", "comment", "study"
    image.save_as(sources[1].path)
    item = _item(AccessionNumber="A1", PatientName=str(image.PatientName))
    stated = {"AccessionNumber": "A1", "PatientComments": "comment", "RequestAttributesSequence": [item]}
    assert made([attached(encoded(an_object(sources, StudyID="", **stated)))], sources)


def test_an_overlay_leaves_in_a_presentation_state_alone(sources: tuple[Instance, ...]) -> None:
    image = _item(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=sources[0].ref.sop_instance_uid)
    state = an_object(sources, KINDS["GSPS"][0], ReferencedImageSequence=[image])
    picture = an_object(sources)
    for dataset in (state, picture):
        dataset.add_new(0x60023000, "OW", b"mark")
    assert made([attached(encoded(state))], sources)
    with pytest.raises(HandlerError, match="an overlay beside its pixels"):
        made([attached(encoded(picture))], sources)


def test_a_report_may_repeat_of_its_subject_and_procedure_what_the_images_state(
    sources: tuple[Instance, ...],
) -> None:
    image = dcmread(sources[1].path)
    image.PatientAge, image.OperatorsName, image.PatientSex = "045Y", ["One^Who", "Two^Who"], image.PatientSex or "F"
    image.RequestAttributesSequence = [_item(RequestedProcedureID="R1", StudyInstanceUID="1.2.3")]
    image.PlacerOrderNumberImagingServiceRequest = "P1"
    image.save_as(sources[1].path)
    own = sources[0].ref.study_instance_uid
    values: list[tuple[str, dict[str, object]]] = [
        ("121018", {"UID": own}),
        ("121020", {"TextValue": "P1"}),
        ("121029", {"PersonName": str(image.PatientName)}),
        ("121008", {"PersonName": "Two^Who"}),
        ("121030", {"TextValue": image.PatientID}),
        ("121031", {"Date": image.PatientBirthDate}),
        ("121032", {"ConceptCodeSequence": [_item(CodeValue=image.PatientSex)]}),
        ("121033", {"MeasuredValueSequence": [_item(NumericValue="45")]}),
        ("121034", {"ConceptCodeSequence": [_item(CodeValue="337915000")]}),
    ]
    stated = _evidence("CurrentRequestedProcedureEvidenceSequence", own) | _evidence(
        "PertinentOtherEvidenceSequence", "1.2.3"
    )
    stated |= {"VerificationFlag": "UNVERIFIED", "ReferencedRequestSequence": [_item(RequestedProcedureID="R1")]}
    stated["ContentCreatorName"] = "A^Program"
    for code, value in values:
        content = {key: item for key, item in _content(code, **value).items() if key == "ContentSequence"}
        assert made([attached(encoded(an_object(sources, SR, **stated, **content)))], sources)


def test_an_image_class_leaves_where_the_description_lists_it(sources: tuple[Instance, ...]) -> None:
    dataset = an_object(sources, CT)
    (document,) = made([attached(encoded(dataset), CT)], sources)
    assert document.ref.sop_class_uid == CT


def test_a_report_with_pixels_in_it_is_refused(sources: tuple[Instance, ...]) -> None:
    icon = Dataset()
    icon.BitsAllocated, icon.PixelRepresentation, icon.PixelData = 16, 0, bytes(32)
    with pytest.raises(HandlerError, match="it has pixels, which its kind has no place for"):
        made([attached(encoded(an_object(sources, SR, IconImageSequence=[icon])))], sources)


@pytest.mark.parametrize(("document", "is_refused"), [(b"%PDF-1.7 ", False), (b"MZ program", True)])
def test_an_encapsulated_document_is_a_pdf(sources: tuple[Instance, ...], document: bytes, *, is_refused: bool) -> None:
    values = {"EncapsulatedDocument": document, "MIMETypeOfEncapsulatedDocument": "application/pdf"}
    attachments = [attached(encoded(an_object(sources, PDF, **values)))]
    if is_refused:
        with pytest.raises(HandlerError, match="its document is no PDF"):
            made(attachments, sources)
    else:
        assert len(made(attachments, sources)) == 1


@pytest.mark.parametrize("part", [10, 200, -10])
def test_a_file_that_is_cut_off_or_none_is_refused(sources: tuple[Instance, ...], part: int) -> None:
    with pytest.raises(
        HandlerError,
        match=r"object 1 of 1 that the program made: it (is no whole|cannot be read|names no Transfer Syntax)",
    ):
        made([attached(encoded(an_object(sources))[:part])], sources)


def test_a_meta_group_that_states_another_object_is_made_anew(sources: tuple[Instance, ...]) -> None:
    content = encoded(an_object(sources))
    origin, begin = parse(content)
    other = head(replace(origin, sop_class_uid=UID(SR), sop_instance_uid=UID("1.2.3"))) + content[begin:]
    (document,) = made([attached(other)], sources)
    assert parse(document.content)[0] == replace(origin, calling_ae_title="")


def test_two_objects_with_one_uid_are_refused(sources: tuple[Instance, ...]) -> None:
    content = encoded(an_object(sources))
    with pytest.raises(HandlerError, match="two of the program's objects have one SOP Instance UID"):
        made([attached(content), attached(content)], sources)


def of_patient(tmp_path: Path, name: str = "Mustermann^Jan", patient_id: str = "PX-4711") -> tuple[Instance, ...]:
    image = testing.noise(16, 16, PatientName=name, PatientID=patient_id, SeriesDescription="thin, PX-4711")
    paths = testing.write([image], tmp_path / "named", study="attached")
    return tuple(headers.instance(path, sha256="") for path in paths)


def left(sources: tuple[Instance, ...], dataset: Dataset) -> Dataset:
    """Return an object as it leaves."""
    (document,) = made([attached(encoded(dataset))], sources)
    return dcmread(io.BytesIO(document.content))


@pytest.mark.parametrize(
    ("keyword", "text", "instead"),
    [
        ("ImageComments", "scan of Jan Mustermann, left", "the program's words name the patient, and are left out"),
        ("SeriesDescription", "lungs of PX4711", "AI Coverage 1.0, program: the program's words name the... (RUO)"),
        ("StudyComments", "nothing of anybody", "nothing of anybody"),
        ("ProtocolName", "10^3 cells", "10^3 cells"),
    ],
)
def test_a_text_of_an_object_that_quotes_the_patient_is_left_out(
    tmp_path: Path, keyword: str, text: str, instead: str
) -> None:
    sources = of_patient(tmp_path)
    assert left(sources, an_object(sources, **{keyword: text}))[keyword].value == instead


def test_a_text_of_a_report_of_an_object_is_looked_at_at_every_depth_and_its_subject_stays(tmp_path: Path) -> None:
    sources = of_patient(tmp_path)
    subject = _item(ValueType="TEXT", TextValue="PX-4711", ConceptNameCodeSequence=[_code("121030", "Subject ID")])
    words = _item(ValueType="TEXT", TextValue="Mustermann has a nodule", ConceptNameCodeSequence=[_code("121071", "F")])
    report = an_object(sources, SR, ContentSequence=[_item(ContentSequence=[subject, words])])
    first, second = left(sources, report).ContentSequence[0].ContentSequence
    assert first.TextValue == "PX-4711"
    assert second.TextValue == "the program's words name the patient, and are left out"


@pytest.mark.parametrize(
    "text",
    [
        *("compared with Doe^John", "Patient ID: 99881", "patient's name = John Doe", "DOB: 1.2.1950"),
        *("Name: Doe, Jane born 1950-01-01", "lungs; NAME: DOE, JANE", "Nom: Dupont, Anne-Marie"),
        *("Naam: de Vries, Piet", "Имя: Иванова, Анна", "ФАМИЛИЯ: Иванова", "Surname = Doe"),
        *("Patientenname: Doe", "Geburtsdatum: 1.2.1950", "Nom du patient : Dupont", "Nombre de la paciente: Ana"),
        *("Nome da paciente: Ana", "Data di nascita: 1.2.1950", "Naam patiënt: Piet", "Дата рождения: 1.2.50"),
    ],
)
def test_an_object_whose_text_states_another_patient_is_refused(tmp_path: Path, text: str) -> None:
    sources = of_patient(tmp_path)
    values: dict[str, object] = {"SpecificCharacterSet": "ISO_IR 192", "ImageComments": text}
    refuse(sources, values, "its ImageComments states a patient who is not that of the images")


@pytest.mark.parametrize(("tag", "vr"), [(0x00204000, "OB"), (0x0020FFFE, "OB"), (0x0020FFFE, "UN")])
def test_bytes_in_the_place_of_a_text_or_of_nothing_that_dicom_knows_are_refused(
    sources: tuple[Instance, ...], tag: int, vr: str
) -> None:
    dataset = an_object(sources)
    dataset.add_new(tag, vr, b"of somebody ")
    with pytest.raises(HandlerError, match="has bytes where DICOM has none, into which nobody can look"):
        made([attached(encoded(dataset))], sources)


def test_a_text_in_an_element_that_dicom_does_not_know_is_looked_at(tmp_path: Path) -> None:
    sources = of_patient(tmp_path)
    dataset = an_object(sources)
    dataset.add_new(0x0020FFFE, "LO", "scan of Jan Mustermann")
    assert left(sources, dataset)[0x0020FFFE].value == "the program's words name the patient, and are left out"


@pytest.mark.parametrize(
    "text", ["Name: lung, left", "Name: nnUNet", "Model name: Net, Large", "Series name: Ax, T2", "nom: T2, FLAIR"]
)
def test_the_name_of_a_thing_is_taken_for_no_patient(tmp_path: Path, text: str) -> None:
    sources = of_patient(tmp_path)
    assert left(sources, an_object(sources, ImageComments=text)).ImageComments == text


def test_the_patient_of_the_images_behind_such_a_label_is_left_out(tmp_path: Path) -> None:
    sources = of_patient(tmp_path)
    shown = left(sources, an_object(sources, ImageComments="Name: Mustermann, Jan"))
    assert shown.ImageComments == "the program's words name the patient, and are left out"


def test_a_text_that_the_image_has_in_its_place_may_be_repeated(tmp_path: Path) -> None:
    sources = of_patient(tmp_path)
    shown = left(sources, an_object(sources, SeriesDescription="thin, PX-4711"))
    assert shown.SeriesDescription == "AI Coverage 1.0, program: thin, PX-4711 (RUO)"


def test_a_code_is_no_text_and_keeps_its_meaning_in_a_scheme_of_others(tmp_path: Path) -> None:
    sources = of_patient(tmp_path, name="Long^Jan", patient_id="713")
    codes = [_code("121713", "Long axis"), _item(CodeValue="x713", CodingSchemeDesignator="99OWN", CodeMeaning="Jan")]
    first, second = left(sources, an_object(sources, SR, ConceptNameCodeSequence=codes)).ConceptNameCodeSequence
    assert first.CodeMeaning == "Long axis"
    assert (second.CodeValue, second.CodeMeaning[:19]) == ("x713", "the program's words")


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        (None, "AI Coverage 1.0, program (RUO)"),
        ("Lung nodules (RUO)", "AI Coverage 1.0, program: Lung nodules (RUO)"),
        ("x" * 64, f"AI Coverage 1.0, program: {'x' * 29}... (RUO)"),
    ],
)
def test_the_series_of_an_object_begins_as_the_node_s_report_and_says_that_a_program_made_it(
    sources: tuple[Instance, ...], own: str | None, shown: str
) -> None:
    dataset = an_object(sources, **({"SeriesDescription": own} if own else {}))
    description = left(sources, dataset).SeriesDescription
    assert description == shown
    assert len(description) <= 64
    assert series_description("Coverage", Algorithm("tool", "1.0", "", WeightsStatus.SITE)) == "AI Coverage 1.0 (RUO)"


def test_a_long_title_leaves_room_to_say_that_a_program_made_the_series() -> None:
    algorithm = Algorithm("tool", "1.0", "", WeightsStatus.SITE)
    description = program_series_description("thin", "Ausdehnung der Wirbelsäule über mehrere Höhen", algorithm)
    assert description == "AI Ausdehnung der Wirbelsäule ü... 1.0, program: thin (RUO)"


def _code(value: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning=meaning)
