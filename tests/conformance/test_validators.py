"""Programs that share no code with the node find no error in what it makes, whatever the source looks like."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.made import EVERYTHING, a_result, old_archive, saved, source, sources_of
from pydicom import Dataset, dcmread
from support import judges, shared

from ainode.node import reports
from ainode.node.domain import Document, DocumentContext, OutOfScope

REAL = [
    "spine/drr_from_R01-001/tspine_lat_mono1.dcm",
    "spine/drr_from_R01-001/tspine_ap_mono2.dcm",
    "spine/cr_cspine_16x16_headers/77654033/CR1/6154",
    "cr_dx/nema/RG1_J2KI.dcm",
    "cr_dx/nema/RG2_J2KR",
    "cr_dx/nema/RG3_J2KI.dcm",
    "cr_dx/gdcm/gdcm-CR-MONO1-10-chest.dcm",
    "cr_dx/highdicom/dx_image.dcm",
]
# dcentvfy cannot read this file: the length of its Pixel Data is odd.
UNREADABLE = "cr_dx/highdicom/dx_image.dcm"


def _edited(edit: Callable[[Dataset], object]) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        data_set = dcmread(source(folder))
        edit(data_set)
        return saved(data_set, folder)

    return made


def _set(**values: Any) -> Callable[[Path], Path]:  # noqa: ANN401 - any element
    return lambda folder: source(folder, **values)


def _japanese(data_set: Dataset) -> None:
    data_set.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    data_set.PatientName = "Yamada^Tarou=山田^太郎"
    other = Dataset()
    other.PatientID, other.TypeOfPatientID = "X1", "TEXT"
    data_set.OtherPatientIDsSequence = [other]


def _umlauts_without_charset(data_set: Dataset) -> None:
    data_set.pop("SpecificCharacterSet", None)
    data_set.PatientName = "Müller^Jörg".encode("latin-1")


def _nonsense_numbers(data_set: Dataset) -> None:
    for keyword in ("ImagerPixelSpacing", "PatientWeight", "DistanceSourceToDetector"):
        setattr(data_set, keyword, "")
        data_set[keyword]._value = "abc"
    data_set.PatientAge = "thirty"


ODD = {
    "a study without its type 2 elements": _set(
        PatientBirthDate=None,
        StudyID=None,
        AccessionNumber=None,
        PatientSex=None,
        StudyTime=None,
        StudyDate=None,
        ReferringPhysicianName=None,
    ),
    "no patient at all": _set(PatientID=None, PatientName=None, PatientBirthDate=None, PatientSex=None),
    "no orientation and no spacing": _set(PatientOrientation=None, ImagerPixelSpacing=None, PixelSpacing=None),
    "an empty orientation": _set(PatientOrientation=""),
    "a sex of U": _set(PatientSex="U"),
    "a sex with a blank": _set(PatientSex="M "),
    "a sex as a word": _set(PatientSex="Male"),
    "a birth date of zeros": _set(PatientBirthDate="0000"),
    "dates in words": _set(StudyDate="yesterday", StudyTime="noon"),
    "japanese with an empty first character set": _edited(_japanese),
    "umlauts without a character set": _edited(_umlauts_without_charset),
    "an unknown character set": _set(SpecificCharacterSet="LATIN 1"),
    "numbers that are none": _edited(_nonsense_numbers),
    "a name of one component": _set(PatientName="NOBODY"),
    "a requesting service": _set(RequestingService="ward 7"),
    "a referenced study emptied by an anonymizer": _set(ReferencedStudySequence=[Dataset()]),
    "no body part": _set(BodyPartExamined=None),
    "one of a pair": _set(BodyPartExamined="HAND", Laterality="L"),
    "a paired part without its side": _set(BodyPartExamined="LUNG"),
    "lossy compression before": _set(
        LossyImageCompression="01", LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_10918_1"
    ),
    "a time zone": _set(TimezoneOffsetFromUTC="-0430"),
    "a larger image than a capture": _set(rows=2500, columns=1800),
}


def _written(documents: tuple[Document, ...], folder: Path) -> list[Path]:
    paths = []
    for number, document in enumerate(documents):
        path = folder / f"{document.kind}-{number}.dcm"
        path.write_bytes(document.content)
        paths.append(path)
    return paths


def _complaints(paths: list[Path]) -> list[str]:
    found = [line for path in paths for line in judges.module_errors(path)]
    return found + [line for path in paths if path.name.startswith("sr") for line in judges.tree_errors(path)]


@pytest.mark.parametrize("name", REAL)
def test_documents_made_from_a_real_image_have_no_errors(name: str, tmp_path: Path) -> None:
    path = shared(f"data/dicom/{name}")
    paths = _written(reports.documents(a_result(path, boxes=2), sources_of(path), EVERYTHING), tmp_path)
    assert _complaints(paths) == []
    if name != UNREADABLE:
        assert judges.set_errors(paths, [path]) == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_documents_made_from_a_dental_image_with_a_modality_lut_have_no_errors(tmp_path: Path) -> None:
    data_set = dcmread(shared("data/dicom/cr_dx/fo-dicom/CR-ModalitySequenceLUT.dcm"))
    # Its own are not valid, and no document can refer to it without repeating them.
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID = "2.25.1", "2.25.2", "2.25.3"
    path = saved(data_set, tmp_path)
    paths = _written(reports.documents(a_result(path, boxes=2), sources_of(path), EVERYTHING), tmp_path)
    # Its table says 16 bits and has 10, and the presentation state must repeat it.
    assert [line for line in _complaints(paths) if "LUT Descriptor number of bits = 16" not in line] == []


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_header_costs_no_result_and_no_error(odd: str, tmp_path: Path) -> None:
    path = ODD[odd](tmp_path)
    paths = _written(reports.documents(a_result(path, boxes=1), sources_of(path), EVERYTHING), tmp_path)
    assert [one.name.split("-")[0] for one in paths] == ["sc", "pr", "sr"]
    assert _complaints(paths) == []


@pytest.mark.parametrize("boxes", [0, 1, 2, 5])
@pytest.mark.parametrize("context", [EVERYTHING, old_archive()], ids=["3d", "comprehensive"])
def test_any_number_of_boxes_gives_documents_without_errors(
    boxes: int, context: DocumentContext, tmp_path: Path
) -> None:
    path = source(tmp_path)
    paths = _written(reports.documents(a_result(path, boxes=boxes), sources_of(path), context), tmp_path)
    assert _complaints(paths) == []
    assert judges.set_errors(paths, [path]) == []


@pytest.mark.parametrize(
    ("boxes", "context"), [(0, EVERYTHING), (1, EVERYTHING), (5, old_archive())], ids=["0", "1", "5 old"]
)
def test_the_template_validator_finds_no_error_in_a_report(
    boxes: int, context: DocumentContext, tmp_path: Path
) -> None:
    path = source(tmp_path)
    report = reports.documents(a_result(path, boxes=boxes), sources_of(path), context)[-1]
    assert judges.template_errors(_written((report,), tmp_path)[0]) == []


def test_the_template_validator_says_of_each_report_what_is_wrong_with_this_report(tmp_path: Path) -> None:
    path = source(tmp_path)
    report = reports.documents(a_result(path, boxes=1), sources_of(path), EVERYTHING)[-1]
    (whole,) = _written((report,), tmp_path)
    data_set = dcmread(whole)
    data_set.ContentSequence[0].RelationshipType = "CONTAINS"  # of the language, which modifies the concept
    data_set.save_as(broken := tmp_path / "broken.dcm")
    judgements = [judges.template_errors(document) for document in (whole, broken, whole)]
    assert judgements[::2] == [[], []]
    assert any("expected HAS CONCEPT MOD - found CONTAINS" in error for error in judgements[1])


def test_a_report_of_a_study_out_of_scope_has_no_errors(tmp_path: Path) -> None:
    path = source(tmp_path)
    reason = OutOfScope("a spine was expected, HAND was found", "wrong-body-part", a_result(path).evidence)
    paths = _written(reports.documents_out_of_scope(reason, sources_of(path), EVERYTHING), tmp_path)
    assert _complaints(paths) + judges.template_errors(paths[0]) == []


def test_another_program_shows_the_pixels_that_were_drawn(tmp_path: Path) -> None:
    path = source(tmp_path)
    capture = _written(reports.documents(a_result(path, boxes=2), sources_of(path), EVERYTHING)[:1], tmp_path)[0]
    assert np.array_equal(judges.rendered(capture), dcmread(capture).pixel_array)


def test_the_shared_judge_finds_no_error_with_the_source_beside_it(tmp_path: Path) -> None:
    path = shared("data/dicom/spine/drr_from_R01-001/tspine_lat_mono1.dcm")
    local = Path(shutil.copy(path, tmp_path))
    documents = reports.documents(a_result(local, boxes=2), sources_of(local), EVERYTHING)
    assert [document.kind for document in documents] == ["sc", "pr", "sr"]
    assert judges.shared_errors(_written(documents, tmp_path), [local]) == []
