"""A verdict follows from its numbers, and says them in words."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from conformance import made
from conformance.made import CONTEXT, source
from pypdf import PdfReader

from ainode.node import reports
from ainode.node.domain import (
    UID,
    Algorithm,
    Band,
    Code,
    Finding,
    GraphicType,
    InstanceRef,
    Measurement,
    Presence,
    Region,
    Result,
    Verdict,
    WeightsStatus,
)
from ainode.node.keeping.answers import answer_values
from ainode.node.reading.plain import plain

PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
LUNG = Code("39607008", "SCT", "Lung")
MALIGNANT = Code("21594007", "SCT", "Malignant")
NODULE = Code("27925004", "SCT", "Nodule")
IMAGE = InstanceRef(UID("1.2"), UID("1.2.3"), UID("1.2.840.10008.5.1.4.1.1.2"), UID("1.2.3.4"))


def a_finding(name: str, concept: Code, verdict: Verdict) -> Finding:
    return Finding(name, concept, LUNG, (), (IMAGE,), verdict=verdict)


@pytest.mark.parametrize(
    ("probability", "presence"), [(0.41, Presence.ABSENT), (0.416, Presence.ABSENT), (0.4161, Presence.PRESENT)]
)
def test_a_finding_is_present_above_the_threshold_and_absent_on_it(probability: float, presence: Presence) -> None:
    assert Verdict.of(probability, 0.416).presence is presence


@pytest.mark.parametrize(
    ("probability", "presence"),
    [
        (0.39, Presence.ABSENT),
        (0.4, Presence.INDETERMINATE),
        (0.45, Presence.INDETERMINATE),
        (0.5, Presence.INDETERMINATE),
        (0.51, Presence.PRESENT),
    ],
)
def test_a_probability_within_the_band_is_indeterminate(probability: float, presence: Presence) -> None:
    assert Verdict.of(probability, 0.45, band=Band(0.4, 0.5)).presence is presence


@pytest.mark.parametrize(
    ("presence", "probability"),
    [(Presence.ABSENT, 0.6), (Presence.PRESENT, 0.4), (Presence.INDETERMINATE, 0.4), (Presence.INDETERMINATE, 0.6)],
)
def test_a_verdict_that_contradicts_its_numbers_cannot_be_made(presence: Presence, probability: float) -> None:
    with pytest.raises(ValueError, match=f"cannot be {presence}"):
        Verdict(presence, probability, 0.5)


@pytest.mark.parametrize(("probability", "threshold"), [(float("nan"), 0.5), (1.5, 0.5), (-0.5, 0.5), (0.5, 0.0)])
def test_numbers_that_are_no_probability_give_no_verdict(probability: float, threshold: float) -> None:
    with pytest.raises(ValueError, match="no probability"):
        Verdict(Presence.ABSENT, probability, threshold)


def test_a_band_holds_its_threshold() -> None:
    with pytest.raises(ValueError, match="does not hold the threshold"):
        Verdict.of(0.2, 0.45, band=Band(0.6, 0.7))


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.4), (0.4, 1.5), (-0.1, 0.4), (0.4, float("nan"))])
def test_a_band_is_a_range_of_probabilities(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="no range"):
        Band(low, high)


@pytest.mark.parametrize(
    ("verdict", "statement"),
    [
        (Verdict.of(0.8712, 0.346), "pneumonia: present, 0.87, threshold 0.35"),
        (Verdict.of(0.12, 0.346), "pneumonia: absent, 0.12, threshold 0.35"),
        (Verdict.of(0.3461, 0.346), "pneumonia: present, 0.3461, threshold 0.3460"),
        (Verdict.of(0.346, 0.346), "pneumonia: absent, 0.35, threshold 0.35"),
        (
            Verdict.of(0.45, 0.45, band=Band(0.4, 0.5)),
            "pneumonia: indeterminate, 0.45, threshold 0.45, indeterminate from 0.40 to 0.50",
        ),
    ],
)
def test_the_statement_says_verdict_probability_and_threshold(verdict: Verdict, statement: str) -> None:
    assert a_finding("pneumonia", PNEUMONIA, verdict).statement == statement


def test_a_verdict_about_something_else_than_the_finding_names_what_it_is_about() -> None:
    finding = a_finding("nodule 1", NODULE, Verdict.of(0.12, 0.5, about=MALIGNANT))
    assert finding.statement == "nodule 1, malignant: absent, 0.12, threshold 0.50"
    assert finding.evaluations == ((NODULE, Presence.PRESENT), (MALIGNANT, Presence.ABSENT))


def test_a_verdict_on_the_finding_itself_evaluates_the_finding_alone() -> None:
    finding = a_finding("pneumonia", PNEUMONIA, Verdict.of(0.12, 0.346))
    assert finding.evaluations == ((PNEUMONIA, Presence.ABSENT),)


def test_a_finding_without_a_verdict_states_nothing() -> None:
    finding = Finding("pneumonia", PNEUMONIA, LUNG, (), (IMAGE,))
    assert (finding.statement, finding.evaluations) == ("", ())


def test_a_candidate_without_a_verdict_is_indeterminate_in_every_text_and_has_no_number(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = made.a_result(path, boxes=1)
    (whole, box) = (replace(finding, is_candidate=True) for finding in result.findings)
    assert box.evaluations == ((box.concept, Presence.INDETERMINATE),)
    answer = replace(result, findings=(whole, box), captures=(replace(result.captures[0], subject=whole),))
    statement = "whole image: indeterminate, a candidate without a verdict"
    assert answer.presence is Presence.INDETERMINATE
    assert answer.headline == answer.statements[0] == statement
    fields = json.loads(reports.result_json(answer, CONTEXT))
    assert fields["verdict"]["presence"] == "indeterminate"
    assert fields["verdict"]["probability"] is None
    assert [finding["presence"] for finding in fields["findings"]] == ["indeterminate"] * 2
    assert statement in reports.report_text(answer)
    pages = PdfReader(BytesIO(reports.report_pdf(answer))).pages
    assert statement in " ".join(" ".join(page.extract_text() for page in pages).split())


def test_the_headline_is_the_most_probable_of_whole_images_and_the_kept_answer_has_its_probability() -> None:
    place = Region(IMAGE, ((1.0, 1.0),), GraphicType.POINT)
    findings = (
        a_finding("image 1 abnormal", PNEUMONIA, Verdict.of(0.8, 0.5)),
        replace(a_finding("image 1 box 1", NODULE, Verdict.of(0.99, 0.5)), region=place),
        a_finding("image 2 abnormal", PNEUMONIA, Verdict.of(0.9, 0.5)),
        a_finding("image 3 abnormal", PNEUMONIA, Verdict.of(0.4, 0.5)),
    )
    algorithm = Algorithm("a model", "1", "0" * 64, WeightsStatus.RESEARCH)
    result = Result(UID("1.2"), algorithm, "Chest", LUNG, findings, (), (IMAGE,), (IMAGE,))
    assert result.headline == "image 2 abnormal: present, 0.90, threshold 0.50"
    assert answer_values(reports.result_json(result, CONTEXT))["probability"] == 0.9
    nodule = a_finding("image 1 nodule", NODULE, Verdict.of(0.97, 0.5))
    assert replace(result, findings=(*findings, nodule)).headline == "image 1 nodule: present, 0.97, threshold 0.50"


def a_result(finding: Finding) -> Result:
    algorithm = Algorithm("a model", "1", "0" * 64, WeightsStatus.RESEARCH)
    summary = "largest curve 42 degrees"
    return Result(UID("1.2"), algorithm, "Spine", LUNG, (finding,), (), (IMAGE,), (IMAGE,), summary=summary)


def test_a_result_that_judges_nothing_is_headed_by_what_was_measured() -> None:
    measured = a_result(Finding("curve 1", NODULE, LUNG, (), (IMAGE,)))
    assert measured.presence is None
    assert measured.headline == "largest curve 42 degrees"
    assert measured.statements == ("largest curve 42 degrees",)
    assert reports.report_text(measured).splitlines()[2] == "largest curve 42 degrees"
    assert plain(measured, (Result,), "result") == measured


def test_where_something_is_judged_the_verdict_heads_the_result() -> None:
    judged = a_result(a_finding("pneumonia", PNEUMONIA, Verdict.of(0.8, 0.5)))
    assert judged.headline == "pneumonia: present, 0.80, threshold 0.50"
    assert "largest curve 42 degrees" not in judged.statements


def test_a_finding_with_a_verdict_comes_back_from_the_reader_as_it_went() -> None:
    finding = a_finding("nodule 1", NODULE, Verdict.of(0.45, 0.45, band=Band(0.4, 0.5), about=MALIGNANT))
    assert plain(finding, (Finding,), "finding") == finding


def test_a_density_is_written_in_hu_and_a_number_without_a_unit_alone() -> None:
    units = (Code("[hnsf'U]", "UCUM", "Hounsfield unit"), Code("1", "UCUM", "no units"), Code("mm", "UCUM", "mm"))
    numbers = tuple(Measurement(NODULE, value, unit, (IMAGE,)) for value, unit in zip((-541, 3, 8), units, strict=True))
    text = reports.report_text(a_result(Finding("curve 1", NODULE, LUNG, numbers, (IMAGE,))))
    assert [f"{NODULE.meaning} {words}" in text for words in ("-541 HU", "3, ", "8 mm")] == [True] * 3, text
