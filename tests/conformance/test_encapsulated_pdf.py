"""The page of report.pdf as a DICOM object, judged by dciodvfy and dcentvfy and taken apart again."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from conformance.made import CONTEXT, a_result, source, sources_of
from pydicom import Dataset, dcmread
from pypdf import PdfReader
from support import instance_ref
from support.judges import module_errors, set_errors

from ainode.node import reports
from ainode.node.domain import Document, DocumentKind, OutOfScope, Result

WISH = replace(CONTEXT, optional=(DocumentKind.PDF,))


def made(path: Path, answer: Result | OutOfScope | None = None) -> list[Document]:
    answer = answer or a_result(path, boxes=1)
    if isinstance(answer, OutOfScope):
        return list(reports.documents_out_of_scope(answer, sources_of(path), WISH))
    return list(reports.documents(answer, sources_of(path), WISH))


def page_of(documents: list[Document]) -> tuple[Document, Dataset]:
    (page,) = [document for document in documents if document.kind is DocumentKind.PDF]
    return page, dcmread(BytesIO(page.content))


@pytest.mark.parametrize("is_refusal", [False, True])
def test_the_object_is_valid_beside_its_study(tmp_path: Path, *, is_refusal: bool) -> None:
    path = source(tmp_path, PatientName="MÜLLER^JÖRG", PatientID="7", SpecificCharacterSet="ISO_IR 192")
    refusal = OutOfScope("it shows a hand", "wrong-body-part", (instance_ref(path),))
    files = []
    for number, document in enumerate(made(path, refusal if is_refusal else None)):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(document.content)
        if document.kind is DocumentKind.PDF:
            assert module_errors(files[-1]) == []
    assert set_errors(files, [path]) == []


def test_the_page_is_that_of_the_answer_with_a_coded_title_in_the_study_of_the_images(tmp_path: Path) -> None:
    path = source(tmp_path, PatientName="DOE^JANE", PatientID="7")
    documents = made(path)
    page, dataset = page_of(documents)
    assert dataset.StudyInstanceUID == instance_ref(path).study_instance_uid
    assert (dataset.Modality, dataset.MIMETypeOfEncapsulatedDocument) == ("DOC", "application/pdf")
    assert dataset.DocumentTitle == "Spine radiograph: AI result"
    assert dataset.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert (dataset.VerificationFlag, dataset.BurnedInAnnotation) == ("UNVERIFIED", "YES")
    (report,) = [document for document in documents if document.kind is DocumentKind.STRUCTURED_REPORT]
    assert dataset.SourceInstanceSequence[0].ReferencedSOPInstanceUID == report.ref.sop_instance_uid
    assert documents.index(page) < documents.index(report)
    content = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    assert content == reports.report_pdf(a_result(path, boxes=1), [*documents[:-2], report])
    text = PdfReader(BytesIO(content)).pages[0].extract_text()
    assert "DOE" in text
    assert "RESEARCH USE ONLY" in text


def test_the_same_answer_has_the_same_page_and_no_page_changes_another_document(tmp_path: Path) -> None:
    path = source(tmp_path)
    documents = made(path)
    assert documents == made(path)
    without = reports.documents(a_result(path, boxes=1), sources_of(path), CONTEXT)
    assert [document for document in documents if document.kind is not DocumentKind.PDF] == list(without)
