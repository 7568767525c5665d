"""A reading as text: result.json for programs, report.txt for people; neither has a patient attribute."""

import json
from collections.abc import Iterator

from ainode.node.domain import (
    RESEARCH_USE_ONLY,
    UID,
    Algorithm,
    DocumentContext,
    Finding,
    Measurement,
    OutOfScope,
    Result,
    TimePoint,
    Verdict,
    WeightsStatus,
    score_text,
    unit_text,
)
from ainode.node.reports.limits import limits

SCORES, FROM = "All scores", "From"
"""headings of sections"""
Rows = list[tuple[str, str]]
"""name and value"""
_STATUS_SENTENCES = {
    WeightsStatus.DEMONSTRATION: "demonstration weights: they show that the node works, and are not ready for patients",
    WeightsStatus.RESEARCH: "research weights: trained on a named public set",
    WeightsStatus.SITE: "a site's own weights, under that site's responsibility",
}


def result_json(answer: Result | OutOfScope, context: DocumentContext) -> str:
    """Return the answer and the node that gave it as JSON; points are (column, row) in pixels of the source image."""
    context_fields = {
        "research_use_only": True,
        "created": context.created.isoformat(),
        "software": context.software_versions,
        "device": context.device_name,
        "device_uid": context.device_uid,
        "configuration": context.configuration_hash,
    }
    answer_fields = _out_of_scope_fields(answer) if isinstance(answer, OutOfScope) else _result_fields(answer)
    return json.dumps({**answer_fields, **context_fields}, indent=2)


def _out_of_scope_fields(answer: OutOfScope) -> dict[str, object]:
    return {
        "out_of_scope": {"reason": answer.reason, "code": answer.code, "words": answer.told},
        "evidence": [ref.sop_instance_uid for ref in answer.evidence],
    }


def _result_fields(result: Result) -> dict[str, object]:
    algorithm = result.algorithm
    _, leading = result.leading or (None, None)
    return {
        "verdict": {
            "presence": result.presence,
            "headline": result.headline,
            "probability": leading.probability if leading else None,
            "threshold": leading.threshold if leading else None,
            "statements": result.statements,
        },
        "study_instance_uid": result.study_instance_uid,
        "title": result.title,
        "scores": dict(result.scores),
        "findings": [_finding_fields(finding) for finding in result.findings],
        "algorithm": {
            "name": algorithm.name,
            "version": algorithm.version,
            "weights_sha256": algorithm.weights_sha256,
            "weights_status": algorithm.weights_status.value,
            "parameters": dict(algorithm.parameters),
            "not_for": algorithm.not_for,
            "known_limits": algorithm.known_limits,
        },
        "evidence": [ref.sop_instance_uid for ref in result.evidence],
        "key_images": [ref.sop_instance_uid for ref in result.key_images],
        "course": [_time_point_fields(time_point) for time_point in result.course],
    }


def _time_point_fields(time_point: TimePoint) -> dict[str, object]:
    return {
        "finding": time_point.finding,
        "study_instance_uid": time_point.study_instance_uid,
        "days_before": time_point.days_before,
        "values": dict(time_point.values),
    }


def _finding_fields(finding: Finding) -> dict[str, object]:
    """Return a finding as result.json shows findings."""
    region = finding.region and {
        "sop_instance_uid": finding.region.image.sop_instance_uid,
        "type": finding.region.graphic_type.value,
        "points": finding.region.points,
        "frame": finding.region.frame,
    }
    return {
        "name": finding.tracking_identifier,
        "label": finding.label,
        "evidence": [ref.sop_instance_uid for ref in finding.evidence],
        "finding": finding.concept.meaning,
        "verdict": finding.verdict and _verdict_fields(finding.verdict),
        "presence": finding.presence,
        "site": finding.site.meaning,
        "laterality": finding.laterality and finding.laterality.meaning,
        "measurements": [
            {
                "name": measurement.concept.meaning,
                "value": measurement.value,
                "unit": measurement.unit.value,
                "place": measurement.place,
            }
            for measurement in finding.measurements
        ],
        "region": region,
        "qualities": [{"name": concept.meaning, "value": value.meaning} for concept, value in finding.qualities],
        "is_candidate": finding.is_candidate,
    }


def _verdict_fields(verdict: Verdict) -> dict[str, object]:
    return {
        "presence": verdict.presence,
        "probability": verdict.probability,
        "threshold": verdict.threshold,
        "band": verdict.band and (verdict.band.low, verdict.band.high),
        "about": verdict.about and verdict.about.meaning,
    }


def report_text(answer: Result | OutOfScope) -> str:
    """Return the answer as plain text, the verdicts first."""
    blocks = [
        "\n".join([heading, "-" * len(heading), *(f"{name}: {value}" for name, value in rows)])
        for heading, rows in sections(answer)
    ]
    statements = ["\n".join(_statements(answer))] if _statements(answer) else []
    return "\n\n".join([title(answer), *statements, *blocks, RESEARCH_USE_ONLY, ""])


def title(answer: Result | OutOfScope) -> str:
    """Return the heading of the answer."""
    return "Study not analyzed" if isinstance(answer, OutOfScope) else f"{answer.title}: AI result"


def _statements(answer: Result | OutOfScope) -> tuple[str, ...]:
    return () if isinstance(answer, OutOfScope) else answer.statements


def sections(answer: Result | OutOfScope) -> Iterator[tuple[str, Rows]]:
    """Yield the heading of each section with the section's rows of name and value."""
    if isinstance(answer, OutOfScope):
        yield "Why", [("Reason", answer.told), ("Code", answer.code)]
        return
    if answer.findings:
        yield "Findings", [row for finding in answer.findings for row in _finding_rows(finding, answer)]
    if answer.scores:
        yield SCORES, [(name, score_text(value)) for name, value in answer.scores.items()]
    algorithm = answer.algorithm
    if texts := list(limits(algorithm)):
        yield "Limits of the model", texts
    yield (
        "Made by",
        [
            ("Model", f"{algorithm.name} {algorithm.version}"),
            ("Weights", weights_text(algorithm)),
            *algorithm.parameters,
        ],
    )
    images = [(name.capitalize(), str(uid)) for uid, name in _image_names(answer).items()]
    yield FROM, [("Study", str(answer.study_instance_uid)), *images]


def _image_names(result: Result) -> dict[UID, str]:
    """Return a short name for the UID of each key image and of each image with a region."""
    regions = [finding.region.image for finding in result.findings if finding.region]
    uids = dict.fromkeys(ref.sop_instance_uid for ref in (*result.key_images, *regions))
    return {uid: f"image {number}" for number, uid in enumerate(uids, start=1)}


def weights_text(algorithm: Algorithm) -> str:
    """Return what the weights are, with their digest; a handler without weights has no digest."""
    digest = f" (sha256 {algorithm.weights_sha256})" if algorithm.weights_sha256 else ""
    return f"{_STATUS_SENTENCES[algorithm.weights_status]}{digest}"


def _finding_rows(finding: Finding, result: Result) -> Iterator[tuple[str, str]]:
    """Yield the rows of a finding: verdict, concept, site, qualities and measurements; the place of its region."""
    measurements = ", ".join(
        f"{_measurement_text(measurement)}{_date_text(measurement, result)}" for measurement in finding.measurements
    )
    side = f"{finding.laterality.meaning.lower()} " if finding.laterality else ""
    qualities = "".join(f"; {concept.meaning.lower()}: {value.meaning.lower()}" for concept, value in finding.qualities)
    sentence = f"{finding.concept.meaning}, {side}{finding.site.meaning.lower()}{qualities}; {measurements}"
    yield finding.conclusion, sentence
    if finding.region:
        columns, rows = zip(*finding.region.points, strict=True)
        place = f"columns {min(columns):.1f} to {max(columns):.1f}, rows {min(rows):.1f} to {max(rows):.1f} (pixels)"
        place += f" of frame {finding.region.frame}" if finding.region.frame else ""
        yield "Place", f"{place} of {_image_names(result)[finding.region.image.sop_instance_uid]}"


def _date_text(measurement: Measurement, result: Result) -> str:
    """Return how many days before the study another study was from which a number was inferred; '' without one."""
    studies = {ref.study_instance_uid for ref in measurement.inferred_from}
    days = {point.days_before for point in result.course if point.days_before and point.study_instance_uid in studies}
    return f" ({days.pop():.0f} d before)" if len(days) == 1 else ""


def _measurement_text(measurement: Measurement) -> str:
    unit = unit_text(measurement.unit.value)
    place = f" on {measurement.place}" if measurement.place else ""
    return f"{measurement.concept.meaning} {measurement.value:.4g} {unit}".rstrip() + place
