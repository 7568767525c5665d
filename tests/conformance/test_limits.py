"""What a model is not for, and what was seen to go wrong with it, stands in every report and below every capture."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from conformance.made import ALGORITHM, CONTEXT, a_result, source, sources_of
from pydicom import dcmread
from pypdf import PdfReader

from ainode.models.ct_pneumonia import card as ct_pneumonia
from ainode.models.ct_tumor import card as ct_tumor
from ainode.models.lung_nodule import card as lung_nodule
from ainode.models.pancreas_tumor import card as pancreas_tumor
from ainode.models.skin_lesion import card as skin_lesion
from ainode.models.spine_radiograph import card as spine_radiograph
from ainode.node import reports
from ainode.node.domain import Algorithm
from ainode.node.reports.limits import footnotes

NOT_FOR = ("any clinical decision", "cervical and oblique views")
KNOWN = ("called 116 of 116 real whole-spine films abnormal",)
LIMITED = replace(ALGORITHM, not_for=NOT_FOR, known_limits=KNOWN)
CARDS = (ct_pneumonia, ct_tumor, lung_nodule, pancreas_tumor, skin_lesion, spine_radiograph)


def test_report_json_text_and_pdf_state_the_limits(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path, algorithm=LIMITED)
    report = dcmread(BytesIO(reports.documents(result, sources_of(path), CONTEXT)[-1].content))
    texts = {element.value for element in report.iterall() if element.keyword == "TextValue"}
    not_for, known_limits = "; ".join(NOT_FOR), KNOWN[0]
    assert {f"not for={not_for}", f"known limits={known_limits}"} <= texts
    fields = json.loads(reports.result_json(result, CONTEXT))["algorithm"]
    assert (tuple(fields["not_for"]), tuple(fields["known_limits"])) == (NOT_FOR, KNOWN)
    assert f"Not for: {not_for}\nKnown limits: {known_limits}" in reports.report_text(result)
    pages = PdfReader(BytesIO(reports.report_pdf(result))).pages
    pdf_text = " ".join(page.extract_text() for page in pages).replace("\n", " ")
    assert NOT_FOR[0] in pdf_text
    assert known_limits in pdf_text


def test_a_capture_is_higher_by_the_limits(tmp_path: Path) -> None:
    path = source(tmp_path)
    without, limited = (
        dcmread(BytesIO(reports.documents(a_result(path, algorithm=algorithm), sources_of(path), CONTEXT)[0].content))
        for algorithm in (ALGORITHM, LIMITED)
    )
    assert limited.Rows > without.Rows


def test_other_limits_give_other_documents(tmp_path: Path) -> None:
    path = source(tmp_path)

    def uids(algorithm: Algorithm) -> set[str]:
        documents = reports.documents(a_result(path, algorithm=algorithm), sources_of(path), CONTEXT)
        return {document.ref.sop_instance_uid for document in documents}

    assert uids(ALGORITHM).isdisjoint(uids(LIMITED))
    assert uids(LIMITED).isdisjoint(uids(replace(LIMITED, known_limits=())))


def test_a_long_footnote_is_cut_behind_a_whole_limit_and_says_how_many_follow() -> None:
    many = replace(ALGORITHM, not_for=tuple(f"{number} " + "x" * 48 for number in range(6)))
    (line,) = footnotes(many)
    assert line == f"Not for: {many.not_for[0]}; {many.not_for[1]}; 4 more in the report"


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.__name__.split(".")[-2])
def test_every_card_states_limits_in_short_words(card: object) -> None:
    limits = card.read_card().limits  # type: ignore[attr-defined]
    assert limits.not_for[0] == "any clinical decision"
    assert max(len(text) for text in (*limits.not_for, *limits.known_limits)) <= 100
