"""No value that names a patient is in a de-identified copy (PS3.15 E.1)."""

import re
from datetime import date
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    UID_dictionary,
)
from support import installed, shared
from support.judges import module_errors

from ainode.node import testing
from ainode.node.offline.codestream_comments import UnknownBytes
from ainode.node.offline.deidentification import Pseudonyms, deidentified, refusal

installed("dicomanonymizer")

KEY = bytes(range(32))
WORDS = {"AS": "077Y", "DA": "19771107", "DT": "19771107111111", "TM": "111111.77", "UI": "1.2.7711.7711"}
TEXTS = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
# JPEG XL, Deflated Image Frame Compression: neither does the node read them
NOT_SEARCHED = {*(f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112)), "1.2.840.10008.1.2.8.1"}
AXIAL = {"Modality": "CT", "SOPClassUID": CTImageStorage, "ImageType": "ORIGINAL\\PRIMARY\\AXIAL"}
NUMBERS = {**dict.fromkeys(("DS", "IS"), "77117711"), **dict.fromkeys(("SL", "UL"), 77117711)}


def part10(image: testing.SyntheticImage) -> Dataset:
    dataset = testing.dataset(image, study="export")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def an_image(**header: str | int) -> Dataset:
    return part10(testing.noise(8, 8, **{"PatientID": "KENNEDY-7", "PatientName": "KENNEDY^ADA", **header}))


def encoded(dataset: Dataset) -> bytes:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def filled(keywords: dict[int, str], depth: int = 0) -> Dataset:
    """Return a data set in which each attribute of the table has a word; its sequences have such items."""
    dataset = Dataset()
    for tag, vr in keywords.items():
        if vr == "SQ":
            dataset.add_new(tag, vr, Sequence([filled(keywords, depth + 1)] if not depth and tag % 7 == 0 else []))
        elif (word := WORDS.get(vr) or NUMBERS.get(vr) or ("KENNEDY" if vr in TEXTS else None)) is not None:
            dataset.add_new(tag, vr, word)
    return dataset


def of_the_table() -> dict[int, str]:
    """Return tag and VR of each attribute of the table that pydicom knows."""
    from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as rows

    tags = [tag[0] << 16 | tag[1] for tag in rows.ALL_TAGS if len(tag) == 2]
    return {tag: DicomDictionary[tag][0] for tag in sorted(tags) if tag in DicomDictionary and tag >> 16 > 2}


def test_no_word_of_an_attribute_of_the_table_is_left_at_any_depth() -> None:
    image = an_image()
    kept = filled(of_the_table())
    kept.add_new(0x00081140, "SQ", [filled(of_the_table())])  # Referenced Image Sequence, which stays
    kept.add_new(0x00409096, "SQ", [filled(of_the_table())])  # Real World Value Mapping Sequence, not in the table
    for element in kept:
        image.add(element)
    before = encoded(image)
    for word in (b"KENNEDY", b"19771107", b"1.2.7711.7711"):
        assert before.count(word) > 50
    after = encoded(deidentified(image, Pseudonyms(KEY)))
    assert not re.findall(rb"KENNEDY|19771107|1\.2\.7711\.7711|111111\.77|77117711", after)


def of_the_dictionary() -> dict[int, str]:
    """Return tag and VR of each attribute of the standard whose words are no class, code string or number."""
    kept = ("SOPClass", "TransferSyntax")
    return {
        tag: row[0]
        for tag, row in DicomDictionary.items()
        if tag >> 16 > 4 and row[0] != "CS" and not any(word in row[4] for word in kept) and row[0] in {*TEXTS, *WORDS}
    }


def test_of_all_attributes_of_the_standard_none_keeps_a_word_of_the_patient_at_any_depth() -> None:
    image, words = an_image(), filled(of_the_dictionary())
    image.AnatomicRegionSequence = [words]
    image.SharedFunctionalGroupsSequence = [filled(of_the_dictionary())]
    for element in words:
        if element.tag not in image:
            image.add(element)
    assert len(re.findall(rb"KENNEDY|19771107|1\.2\.7711\.7711|111111\.77", encoded(image))) > 2500
    for pseudonyms in (Pseudonyms(KEY), Pseudonyms(KEY, shifts_dates=True)):
        copy = encoded(deidentified(image, pseudonyms))
        assert not re.findall(rb"KENNEDY|19771107|1\.2\.7711\.7711", copy)
    assert b"111111.77" not in encoded(deidentified(image, Pseudonyms(KEY)))


@pytest.mark.parametrize(
    "keyword",
    [
        *("PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar", "RetrieveURL"),
        *("CommentsOnTheScheduledProcedureStep", "PlacerOrderNumberProcedure", "FillerOrderNumberProcedure"),
        *("PlacerOrderNumberImagingServiceRequestRetired", "ConfidentialityCode", "WindowCenterWidthExplanation"),
        *("FrameComments", "LocalNamespaceEntityID"),
    ],
)
def test_what_the_table_does_not_name_goes_unless_it_describes_the_image(keyword: str) -> None:
    image, item = an_image(), Dataset()
    value = "urn:1369-10-11"
    for dataset in (image, item):
        setattr(dataset, keyword, value)
    image.AnatomicRegionSequence = [item]
    assert value.encode() not in encoded(deidentified(image, Pseudonyms(KEY)))


def test_what_describes_the_image_stays_though_the_table_does_not_name_it() -> None:
    item, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "51185008", "SCT", "Chest"
    item.PixelSpacing, item.SliceThickness = [0.5, 0.25], "1.5"
    image = an_image(BodyPartExamined="CHEST", ConvolutionKernel="B30s", RescaleSlope="2", RescaleType="HU")
    image.AnatomicRegionSequence, image.SharedFunctionalGroupsSequence = [code], [item]
    copy = deidentified(image, Pseudonyms(KEY))
    assert copy.AnatomicRegionSequence == [code]
    assert copy.SharedFunctionalGroupsSequence == [item]
    assert [copy[keyword].value for keyword in ("BodyPartExamined", "ConvolutionKernel", "RescaleType")] == [
        "CHEST",
        "B30s",
        "HU",
    ]


def test_free_text_that_an_object_must_have_becomes_a_dummy_and_no_text_stays_none() -> None:
    image = an_image()
    image.WindowCenterWidthExplanation = ["soft tissue", "Mrs. Kay"]
    image.LUTExplanation = ""
    copy = deidentified(image, Pseudonyms(KEY))
    assert list(copy.WindowCenterWidthExplanation) == ["REMOVED", "REMOVED"]
    assert not copy.LUTExplanation


def test_a_technical_word_goes_where_it_has_a_name_or_number_of_the_patient() -> None:
    image = an_image(ConvolutionKernel="B30 Kennedy", SoftwareVersions="7.1", Manufacturer="ADA & sons")
    image.PatientBirthDate, image.OtherPatientIDs = "19170529", ["X-4711", "LUNG"]
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "4711", "99SITE", "Lung of 19170529"
    other = Dataset()
    other.CodeValue, other.CodingSchemeDesignator, other.CodeMeaning = "39607008", "SCT", "Lung"
    image.AnatomicRegionSequence = [code, other]
    copy = deidentified(image, Pseudonyms(KEY))
    assert (copy.ConvolutionKernel, copy.SoftwareVersions, copy.Manufacturer) == ("REMOVED", "7.1", "REMOVED")
    (first, second) = copy.AnatomicRegionSequence
    assert (first.CodeValue, first.CodeMeaning) == ("REMOVED", "REMOVED")
    assert second == other


def test_a_code_string_that_is_none_goes() -> None:
    image = an_image()
    image["BodyPartExamined"] = DataElement(0x00180015, "CS", "DOE^JANE", validation_mode=0)
    image["ImageType"] = DataElement(0x00080008, "CS", ["ORIGINAL", "PRIMARY", "of Jane, Doe"], validation_mode=0)
    copy = deidentified(image, Pseudonyms(KEY))
    assert copy.BodyPartExamined == "REMOVED"
    assert list(copy.ImageType) == ["ORIGINAL", "PRIMARY", "REMOVED"]


@pytest.mark.parametrize("vr", ["OB", "UT", "UN", "LO"])
def test_an_element_of_another_vr_than_the_standards_hides_nothing(vr: str) -> None:
    hidden = Dataset()
    hidden.PatientName = "HIDDEN^JANE"
    image = an_image()
    image.AnatomicRegionSequence = [hidden]
    explicit = encoded(image)
    assert explicit.count(b"HIDDEN^JANE") == 1
    at = explicit.index(b"\x08\x00\x18\x22SQ") + 4
    if vr == "LO":  # a short VR, whose length stands in two bytes: a value of its own
        image["AnatomicRegionSequence"] = DataElement(0x00082218, "LO", "HIDDEN^JANE")
        explicit = encoded(image)
    else:
        explicit = explicit[:at] + vr.encode() + explicit[at + 2 :]
    assert b"HIDDEN^JANE" not in encoded(deidentified(dcmread(BytesIO(explicit)), Pseudonyms(KEY)))


def test_an_image_whose_pixels_are_described_by_another_vr_is_refused() -> None:
    image = an_image(RescaleSlope="2")
    image["RescaleSlope"] = DataElement(image["RescaleSlope"].tag, "LO", "2")
    with pytest.raises(UnknownBytes, match="VR"):
        deidentified(image, Pseudonyms(KEY))


def test_a_sequence_of_which_nothing_may_stay_goes_and_an_empty_one_stays_empty() -> None:
    issuer = Dataset()
    issuer.RetrieveURL = "https://pacs.example"
    image = an_image()
    image.ReferencedInstanceSequence, image.SourceImageSequence = [issuer], []
    image.AnatomicRegionSequence = [issuer, Dataset()]
    copy = deidentified(image, Pseudonyms(KEY))
    assert "ReferencedInstanceSequence" not in copy
    assert len(copy.SourceImageSequence) == 0
    assert len(copy.AnatomicRegionSequence) == 1


@pytest.mark.parametrize(
    "keyword",
    [
        *("RadiopharmaceuticalAdministrationEventUID", "MultiFrameSourceSOPInstanceUID", "ReferencedFiducialUID"),
        *("SOPInstanceUIDOfConcatenationSource", "VolumeFrameOfReferenceUID", "TableFrameOfReferenceUID"),
        *("TargetFrameOfReferenceUID", "FrameOfReferenceUID", "CodingSchemeUID", "ContextGroupExtensionCreatorUID"),
    ],
)
def test_no_uid_of_a_site_stays(keyword: str) -> None:
    image, item = an_image(), Dataset()
    for dataset in (image, item):
        setattr(dataset, keyword, "1.2.276.0.7711")
    image.SharedFunctionalGroupsSequence = [item]
    assert b"1.2.276.0.7711" not in encoded(deidentified(image, Pseudonyms(KEY)))


def test_uids_of_the_standard_and_of_classes_stay() -> None:
    private_class = UID("1.3.12.2.1107.5.9.1")
    image = an_image(SOPClassUID=private_class)
    image.FrameOfReferenceUID = "1.2.840.10008.1.4.1.1"  # Talairach brain atlas
    image.CodingSchemeUID = "2.16.840.1.113883.6.96"  # SNOMED CT
    copy = deidentified(image, Pseudonyms(KEY))
    assert copy.SOPClassUID == private_class
    assert copy.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert copy.CodingSchemeUID == image.CodingSchemeUID


def test_what_no_table_knows_goes_and_pixels_stay_as_they_are() -> None:
    image = an_image()
    image.private_block(0x0029, "MAKER", create=True).add_new(1, "LO", "KENNEDY")
    image.add_new(0x00091001, "UN", b"KENNEDY ")
    image.add_new(0x00080FFE, "LO", "KENNEDY")  # of no edition
    image.add_new(0x60000022, "LO", "overlay")
    image.add_new(0x60003000, "OW", b"KENNEDY ")
    image.add_new(0x50003000, "OW", b"KENNEDY ")
    image.preamble = b"KENNEDY".ljust(128, b"\0")
    copy = deidentified(image, Pseudonyms(KEY))
    assert b"KENNEDY" not in encoded(copy)
    assert copy.PixelData == image.PixelData
    assert (copy.Rows, copy.Columns, copy.BitsStored) == (8, 8, image.BitsStored)


def test_a_copy_says_what_was_done_to_it() -> None:
    copy = deidentified(an_image(), Pseudonyms(KEY))
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.LongitudinalTemporalInformationModified == "REMOVED"
    assert [item.CodeValue for item in copy.DeidentificationMethodCodeSequence] == ["113100"]
    assert any("dicom-anonymizer" in part for part in copy.DeidentificationMethod)
    assert not copy.StudyDate
    assert not copy.PatientBirthDate


def test_one_key_gives_one_word_for_a_patient_and_another_key_another() -> None:
    first, again = an_image(), an_image(StudyDescription="another study")
    other = an_image(PatientID="KENNEDY-8")
    words = [deidentified(image, Pseudonyms(KEY)).PatientID for image in (first, again, other)]
    assert words[0] == words[1] != words[2]
    assert deidentified(first, Pseudonyms(bytes(32))).PatientID not in words


def test_references_between_copies_stay_references() -> None:
    image, source = an_image(), an_image(seed=1)
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    image.SourceImageSequence = [reference]
    copy, copied_source = (deidentified(dataset, Pseudonyms(KEY)) for dataset in (image, source))
    assert copy.SourceImageSequence[0].ReferencedSOPInstanceUID == copied_source.SOPInstanceUID != source.SOPInstanceUID
    assert copy.SourceImageSequence[0].ReferencedSOPClassUID == source.SOPClassUID
    assert copy.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID


def test_shifted_dates_keep_the_days_between_two_studies_of_a_patient() -> None:
    earlier = an_image(StudyDate="20200229", AcquisitionDateTime="20200229101112.5+0100", StudyTime="101112")
    later = an_image(StudyDate="20210301")
    pseudonyms = Pseudonyms(KEY, shifts_dates=True)
    first, second = (deidentified(image, pseudonyms) for image in (earlier, later))
    days = [date.fromisoformat(str(image.StudyDate)) for image in (first, second)]
    assert (days[1] - days[0]).days == 366
    assert str(first.StudyDate) != "20200229"
    assert first.AcquisitionDateTime == f"{first.StudyDate}101112.5+0100"
    assert first.StudyTime == "101112"
    assert not first.PatientBirthDate
    assert first.LongitudinalTemporalInformationModified == "MODIFIED"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        *(("StudyDate", value) for value in ("KENNEDY", "20260101-20260202", "20260101 DOE", "2026.01.01", "202601")),
        *(("StudyDate", value) for value in ("20260230", "١٩٧٧١١٠٧")),
        *(("StudyTime", value) for value in ("KENNEDY", "1200 DOE", "12:00:00")),
        *(("AcquisitionDateTime", value) for value in ("20260101 DOE", "20260101120000.0+0100 DOE", "2026")),
    ],
)
def test_a_date_that_is_not_whole_or_more_than_one_goes_where_dates_are_shifted(keyword: str, value: str) -> None:
    image = an_image(StudyDate="20260101", StudyTime="120000", AcquisitionDateTime="20260101")
    image[keyword]._value = value
    dummies = {"", None, "19000101000000"}
    assert deidentified(image, Pseudonyms(KEY, shifts_dates=True))[keyword].value in dummies


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({**AXIAL, "BurnedInAnnotation": ""}, ""),
        (
            {**AXIAL, "ImageType": "DERIVED\\SECONDARY\\SCREEN SAVE", "BurnedInAnnotation": ""},
            "its Image Type does not",
        ),
        ({**AXIAL, "BurnedInAnnotation": "YES"}, "letters"),
        ({**AXIAL, "SOPClassUID": SecondaryCaptureImageStorage, "BurnedInAnnotation": ""}, "its SOP class"),
        ({**AXIAL, "Modality": "OT", "BurnedInAnnotation": ""}, "its Modality is none of"),
        ({**AXIAL, "ImageType": "ORIGINAL\\PRIMARY\\SCREEN SAVE", "BurnedInAnnotation": ""}, "names a screen"),
        ({**AXIAL, "ConversionType": "WSD", "BurnedInAnnotation": ""}, "it has a Conversion Type"),
        ({**AXIAL, "PhotometricInterpretation": "RGB", "BurnedInAnnotation": ""}, "not of grays"),
        ({"SOPClassUID": DigitalXRayImageStorageForPresentation, "BurnedInAnnotation": ""}, "letters"),
        ({"SOPClassUID": DigitalXRayImageStorageForPresentation, "BurnedInAnnotation": "NO"}, ""),
        ({"Modality": "XC", "BurnedInAnnotation": "NO", "RecognizableVisualFeatures": "YES"}, "recognized"),
    ],
)
def test_an_image_that_may_have_letters_or_a_face_in_its_pixels_stays(header: dict[str, str], reason: str) -> None:
    image = an_image(**header)
    assert (reason in refusal(image)) if reason else not refusal(image)
    assert not refusal(image, pixels_were_seen=True)


def test_an_object_without_pixels_stays_whatever_a_person_has_seen() -> None:
    image = an_image()
    del image.PixelData
    assert refusal(image, pixels_were_seen=True) == "is no image"


def identifying(dataset: Dataset) -> set[bytes]:
    """Return what could lead back from a real image: names, numbers, UIDs of instances and days."""
    values: set[str] = set()
    for element in dataset.iterall():
        is_instance = element.VR == "UI" and not re.search("Class|TransferSyntax", element.keyword)
        if is_instance or element.VR in {"DA", "DT", "PN"} or element.keyword in {"PatientID", "AccessionNumber"}:
            values.update(map(str, element.value if element.VM > 1 else [element.value or ""]))
    known = {value for value in values if value in UID_dictionary}
    return {value.encode() for value in values - known if len(value) > 4 and value != "19000101"}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_real_images_of_many_makers_and_syntaxes_leave_without_their_names_uids_and_days() -> None:
    syntaxes, seen = set(), 0
    files = [path for path in shared("data/dicom").rglob("*.dcm") if path.stat().st_size < 3_000_000]
    for path in sorted(path for path in files if "corrupt" not in str(path))[::7]:
        image = dcmread(path)
        if refusal(image, pixels_were_seen=True):
            continue
        if image.file_meta.TransferSyntaxUID in NOT_SEARCHED:
            with pytest.raises(UnknownBytes, match="comments"):
                deidentified(image, Pseudonyms(KEY))
            continue
        data = encoded(deidentified(image, Pseudonyms(KEY)))
        assert [value for value in identifying(image) if value in data] == [], path.name
        copy = dcmread(BytesIO(data))
        assert np.array_equal(copy.pixel_array, image.pixel_array), path.name
        assert copy.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
        syntaxes.add(copy.file_meta.TransferSyntaxUID)
        seen += 1
    assert seen > 20
    assert len(syntaxes) > 4


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("folder", ["ct_abdomen/KiTS-00072", "ct_two_dates_NY-SBU", "enhanced_multiframe"])
def test_the_judge_of_modules_finds_no_fault_that_the_image_did_not_have(folder: str, tmp_path: Path) -> None:
    original = min(shared(f"data/dicom/{folder}").rglob("*.dcm"))
    path = tmp_path / "copy.dcm"
    path.write_bytes(encoded(deidentified(dcmread(original), Pseudonyms(KEY))))
    assert set(module_errors(path)) <= set(module_errors(original))


def test_the_path_of_a_file_is_no_part_of_the_copy(tmp_path: Path) -> None:
    (path,) = testing.write([testing.noise(8, 8)], tmp_path / "KENNEDY", study="export")
    assert b"KENNEDY" not in encoded(deidentified(dcmread(path), Pseudonyms(KEY)))
