"""A negative answer reads as a negative answer in the report, in result.json, in the texts and in the captures."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import highdicom.sr
import pytest
from conformance.made import CONTEXT, EVERYTHING, LESION, a_result, old_archive, source, sources_of
from pydicom import Dataset, dcmread
from pypdf import PdfReader
from support import judges
from support.files import instance_ref

from ainode.node import reports
from ainode.node.domain import Band, Code, DocumentContext, Finding, Result, Verdict
from ainode.node.keeping.report_search import KeptReport
from ainode.node.web.report_resources import report_resource

MALIGNANT = Code("21594007", "SCT", "Malignant")
PRESENCE = {"present": "52101004", "absent": "272519000", "indeterminate": "82334004"}
"""SCT: what a report may say of a finding"""
THRESHOLD_VALUE = "122411"
COMMENT = "121106"
BAND = Band(0.4, 0.5)
VERDICTS = {
    "present": Verdict.of(0.9, 0.449),
    "absent": Verdict.of(0.12, 0.449),
    "indeterminate": Verdict.of(0.45, 0.449, band=BAND),
}


def judged(path: Path, verdict: Verdict | None, *, boxes: int = 0) -> Result:
    """Return a result whose whole finding has the verdict, and whose boxes are present."""
    result = a_result(path, boxes=boxes)
    whole, *regions = result.findings
    whole = replace(whole, verdict=verdict)
    regions = [replace(region, verdict=Verdict.of(0.8, 0.25)) for region in regions]
    captures = tuple(replace(capture, subject=whole) for capture in result.captures)
    return replace(result, findings=(whole, *regions), captures=captures)


def the_report(result: Result, path: Path, context: DocumentContext = CONTEXT) -> Dataset:
    return dcmread(BytesIO(reports.documents(result, sources_of(path), context)[-1].content))


def groups_of(
    report: Dataset,
) -> list[
    highdicom.sr.MeasurementsAndQualitativeEvaluations | highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations
]:
    kind = highdicom.sr.Comprehensive3DSR if "3D" in report.SOPClassUID.name else highdicom.sr.ComprehensiveSR
    tree = kind.from_dataset(report).content
    assert isinstance(tree, highdicom.sr.MeasurementReport)
    return [*tree.get_image_measurement_groups(), *tree.get_planar_roi_measurement_groups()]


def evaluations(group: highdicom.sr.MeasurementsAndQualitativeEvaluations) -> dict[str, str]:
    return {item.name.value: item.value.value for item in group.get_qualitative_evaluations()}


@pytest.mark.parametrize("presence", VERDICTS)
@pytest.mark.parametrize("context", [CONTEXT, old_archive()], ids=["3d", "comprehensive"])
def test_a_group_evaluates_its_own_finding_and_is_tracked_by_a_name_without_the_verdict(
    presence: str, context: DocumentContext, tmp_path: Path
) -> None:
    path = source(tmp_path)
    (group,) = groups_of(the_report(judged(path, VERDICTS[presence]), path, context))
    assert group.finding_type is not None
    assert evaluations(group) == {group.finding_type.value: PRESENCE[presence]}
    assert group.tracking_identifier == "whole image"


@pytest.mark.parametrize("presence", VERDICTS)
def test_the_verdict_is_the_comment_of_its_group(presence: str, tmp_path: Path) -> None:
    path = source(tmp_path)
    report = the_report(judged(path, VERDICTS[presence]), path)
    items = [item for element in report.iterall() if element.keyword == "ContentSequence" for item in element.value]
    comments = [item.TextValue for item in items if item.ConceptNameCodeSequence[0].CodeValue == COMMENT]
    assert comments == [f"whole image: {presence}"]


def test_the_threshold_stands_beside_the_probability_that_was_held_against_it(tmp_path: Path) -> None:
    path = source(tmp_path)
    (group,) = groups_of(the_report(judged(path, VERDICTS["absent"]), path))
    names = [(item.name.value, float(item.value), item.unit.value) for item in group.get_measurements()]
    assert names == [("122157", 90.0, "%"), (THRESHOLD_VALUE, 44.9, "%")]


def test_a_verdict_about_something_else_leaves_the_finding_present(tmp_path: Path) -> None:
    path = source(tmp_path)
    (group,) = groups_of(the_report(judged(path, Verdict.of(0.12, 0.5, about=MALIGNANT)), path))
    assert evaluations(group) == {"263654008": PRESENCE["present"], MALIGNANT.value: PRESENCE["absent"]}
    assert group.tracking_identifier == "whole image"


def test_a_served_report_has_the_verdict_in_words_though_the_identifier_has_none(tmp_path: Path) -> None:
    path = source(tmp_path)
    texts, now = {}, datetime(2026, 1, 2, tzinfo=UTC)
    for name, verdict in {**VERDICTS, "malignant": Verdict.of(0.12, 0.5, about=MALIGNANT), "none": None}.items():
        report = the_report(judged(path, verdict), path)
        kept = KeptReport("job", "", instance_ref(path), path, "", "", now, ())
        resource = report_resource(kept, report, {})
        texts[name] = resource["contained"][0]["code"]["text"]
    words = {name: f"whole image: {name}" for name in VERDICTS}
    assert texts == {**words, "malignant": "whole image, malignant: absent", "none": "whole image"}


def test_every_group_of_a_region_says_that_its_finding_is_present(tmp_path: Path) -> None:
    path = source(tmp_path)
    groups = groups_of(the_report(judged(path, VERDICTS["present"], boxes=2), path))
    lesions = [group for group in groups if group.finding_type and group.finding_type.value == LESION.value]
    assert len(lesions) == 4
    assert all(evaluations(group) == {LESION.value: PRESENCE["present"]} for group in lesions)


def test_a_finding_without_a_verdict_is_not_evaluated(tmp_path: Path) -> None:
    path = source(tmp_path)
    (group,) = groups_of(the_report(judged(path, None), path))
    assert evaluations(group) == {}
    assert group.tracking_identifier == "whole image"
    assert [item.name.value for item in group.get_measurements()] == ["122157"]


@pytest.mark.parametrize("presence", VERDICTS)
def test_json_text_and_pdf_say_the_verdict_first_and_in_the_same_words(presence: str, tmp_path: Path) -> None:
    result = judged(source(tmp_path), VERDICTS[presence])
    (statement,) = result.statements
    assert f"whole image: {presence}" in statement
    fields = json.loads(reports.result_json(result, CONTEXT))
    assert next(iter(fields)) == "verdict"
    verdict = fields["findings"][0]["verdict"]
    numbers = {key: verdict[key] for key in ("probability", "threshold")}
    assert fields["verdict"] == {"presence": presence, "headline": statement, **numbers, "statements": [statement]}
    assert (verdict["presence"], verdict["threshold"]) == (presence, 0.449)
    title, _, first, *_ = reports.report_text(result).splitlines()
    assert title == "Spine radiograph: AI result"
    assert first == statement
    page = PdfReader(BytesIO(reports.report_pdf(result))).pages[0].extract_text().replace("\n", " ")
    assert page.index(statement) < page.index("Findings")


def test_json_says_the_band_and_what_the_verdict_is_about(tmp_path: Path) -> None:
    result = judged(source(tmp_path), Verdict.of(0.45, 0.449, band=BAND, about=MALIGNANT))
    verdict = json.loads(reports.result_json(result, CONTEXT))["findings"][0]["verdict"]
    assert verdict == {
        "presence": "indeterminate",
        "probability": 0.45,
        "threshold": 0.449,
        "band": [0.4, 0.5],
        "about": "Malignant",
    }


def test_a_verdict_changes_no_uid(tmp_path: Path) -> None:
    path = source(tmp_path)
    with_verdict, without = (
        [document.ref for document in reports.documents(judged(path, verdict), sources_of(path), CONTEXT)]
        for verdict in (VERDICTS["absent"], None)
    )
    assert with_verdict == without


@pytest.mark.parametrize("presence", VERDICTS)
@pytest.mark.parametrize("boxes", [0, 1, 2])
def test_the_validators_find_no_error_in_a_report_with_verdicts(presence: str, boxes: int, tmp_path: Path) -> None:
    path = source(tmp_path)
    report = tmp_path / "report.dcm"
    documents = reports.documents(judged(path, VERDICTS[presence], boxes=boxes), sources_of(path), CONTEXT)
    report.write_bytes(documents[-1].content)
    assert [*judges.module_errors(report), *judges.tree_errors(report), *judges.template_errors(report)] == []


def test_the_shared_judge_finds_no_error_in_a_negative_study(tmp_path: Path) -> None:
    path, paths = source(tmp_path), []
    documents = reports.documents(judged(path, VERDICTS["absent"]), sources_of(path), EVERYTHING)
    for number, document in enumerate(documents):
        paths.append(tmp_path / f"{document.kind}-{number}.dcm")
        paths[-1].write_bytes(document.content)
    assert judges.shared_errors(paths, [path]) == []


def test_the_presence_of_a_result_is_that_of_its_strongest_finding(tmp_path: Path) -> None:
    result = judged(source(tmp_path), VERDICTS["absent"])
    absent = result.findings[0]

    def presence(*findings: Finding) -> str | None:
        return replace(result, findings=findings).presence

    assert presence(absent) == "absent"
    assert presence(absent, replace(absent, verdict=VERDICTS["indeterminate"])) == "indeterminate"
    assert presence(absent, replace(absent, verdict=VERDICTS["present"])) == "present"
    assert presence(replace(absent, verdict=None)) is None
