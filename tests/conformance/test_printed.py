"""report.pdf: whose study it is, what was concluded and the key picture, on one page where there is room."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from conformance.made import ALGORITHM, CONTEXT, a_result, source, sources_of
from conformance.test_verdicts import VERDICTS, judged
from pypdf import PageObject, PdfReader
from support import instance_ref

from ainode.node import reports
from ainode.node.domain import OutOfScope, Result

PATIENT = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "P-17",
    "PatientBirthDate": "19640812",
    "StudyDate": "20260203",
    "StudyDescription": "Whole spine, standing",
    "AccessionNumber": "ACC-7",
}


def pages_of(result: Result, path: Path) -> list[PageObject]:
    documents = reports.documents(result, sources_of(path), CONTEXT)
    return list(PdfReader(BytesIO(reports.report_pdf(result, documents))).pages)


def words_of(page: PageObject) -> str:
    return " ".join(page.extract_text().split())


@pytest.mark.parametrize("presence", VERDICTS)
def test_a_page_says_whose_study_it_is_then_the_verdict_then_numbers_then_uids(presence: str, tmp_path: Path) -> None:
    path = source(tmp_path, **PATIENT)
    result = judged(path, VERDICTS[presence], boxes=2)
    (page,) = pages_of(result, path)
    assert len(page.images) == 1
    words = words_of(page)
    order = ["Mustermann, Erika", result.statements[0], "Findings", "Made by", "2.25."]
    places = [words.index(each) for each in order]
    assert places == sorted(places)
    head = words[: places[1]]
    assert all(each in head for each in ("P-17", "1964-08-12", "2026-02-03", "Whole spine, standing", "ACC-7"))
    assert "RESEARCH USE ONLY" in words


def test_a_study_without_names_is_printed_and_says_that_nothing_is_stated(tmp_path: Path) -> None:
    path = source(tmp_path, PatientName="", PatientID="", PatientBirthDate="", StudyDate="", AccessionNumber="")
    (page,) = pages_of(a_result(path), path)
    assert "Patient: no name Patient ID: not stated born: not stated Study of no date" in words_of(page)


@pytest.mark.parametrize(
    ("name", "terms", "printed"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"], "Yamada, Tarou"),
        ("Łukasz^Żółć", "ISO_IR 192", "?ukasz, Zó?c"),
        ("Иванов^Иван", "ISO_IR 144", "??????, ????"),
    ],
    ids=["japanese", "polish", "russian"],
)
def test_a_name_that_the_font_cannot_write_is_replaced_and_the_page_says_so(
    name: str, terms: str | list[str], printed: str, tmp_path: Path
) -> None:
    path = source(tmp_path, SpecificCharacterSet=terms, PatientName=name)
    words = words_of(pages_of(a_result(path), path)[0])
    assert f"Patient: {printed}" in words
    assert "Letters that the font of this page lacks" in words


def test_a_name_that_the_font_can_write_needs_no_note(tmp_path: Path) -> None:
    path = source(tmp_path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    words = words_of(pages_of(a_result(path), path)[0])
    assert "Müller, Jörg" in words
    assert "Letters" not in words


def test_a_long_report_flows_onto_a_second_page_and_keeps_its_picture_on_the_first(tmp_path: Path) -> None:
    path = source(tmp_path)
    algorithm = replace(ALGORITHM, parameters=tuple((f"parameter {number}", "value") for number in range(120)))
    first, *further = pages_of(a_result(path, algorithm=algorithm), path)
    assert further
    assert len(first.images) == 1
    assert "parameter 119" in words_of(further[-1])
    assert "RESEARCH USE ONLY" in words_of(further[-1])


def test_a_study_that_was_not_read_is_named_too(tmp_path: Path) -> None:
    path = source(tmp_path, **PATIENT)
    refusal = OutOfScope("a spine is read", "wrong-body-part", (instance_ref(path),))
    documents = reports.documents_out_of_scope(refusal, sources_of(path), CONTEXT)
    (page,) = PdfReader(BytesIO(reports.report_pdf(refusal, documents))).pages
    assert all(each in words_of(page) for each in ("Mustermann, Erika", "Study not analyzed", "a spine is read"))


def test_a_region_names_its_image_by_number_and_the_uid_follows_at_the_end(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path, boxes=1)
    text = reports.report_text(result)
    assert "(pixels) of image 1\n" in text
    assert text.index("of image 1") < text.index(f"Image 1: {result.evidence[0].sop_instance_uid}")
