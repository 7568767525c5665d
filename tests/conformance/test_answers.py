"""A result.json holds all words of report.txt and report.pdf, so that a node can print a report that it read before."""

from dataclasses import replace
from pathlib import Path

import pytest
from conformance.made import CONTEXT, a_result, source, sources_of
from conformance.test_verdicts import VERDICTS, judged
from support import instance_ref

from ainode.node import reports
from ainode.node.domain import Code, OutOfScope
from ainode.node.reports.answers import answer_of


@pytest.mark.parametrize("presence", VERDICTS)
def test_a_report_printed_from_the_result_has_the_words_and_the_bytes_of_the_first_print(
    presence: str, tmp_path: Path
) -> None:
    path = source(tmp_path)
    result = judged(path, VERDICTS[presence], boxes=2)
    left = replace(result.findings[0], laterality=Code("7771000", "SCT", "Left"))
    algorithm = replace(result.algorithm, not_for=("children",), known_limits=("metal",))
    result = replace(result, findings=(left, *result.findings[1:]), algorithm=algorithm)
    documents = reports.documents(result, sources_of(path), CONTEXT)
    answer = answer_of(reports.result_json(result, CONTEXT))
    assert reports.report_text(answer) == reports.report_text(result)
    assert reports.report_pdf(answer, documents) == reports.report_pdf(result, documents)


def test_a_result_without_a_verdict_and_a_refusal_are_printed_again_in_the_same_words(tmp_path: Path) -> None:
    path = source(tmp_path)
    for answer in (
        a_result(path, boxes=1),
        OutOfScope("the image shows a hand", "wrong-body-part", (instance_ref(path),)),
    ):
        assert reports.report_text(answer_of(reports.result_json(answer, CONTEXT))) == reports.report_text(answer)


def test_a_result_of_an_older_node_that_names_no_key_image_is_printed_too(tmp_path: Path) -> None:
    summary = reports.result_json(a_result(source(tmp_path)), CONTEXT).replace('"key_images"', '"of an older node"')
    assert "RESEARCH USE ONLY" in reports.report_text(answer_of(summary))
