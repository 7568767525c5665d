"""A reading as files: result.json for programs, report.txt and report.pdf for people; none has a patient attribute."""

import json
from collections.abc import Iterator
from io import BytesIO
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image as PillowImage
from pydicom import dcmread
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.platypus import Flowable, Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

from ainode.node.domain import (
    Algorithm,
    Document,
    DocumentContext,
    DocumentKind,
    Finding,
    Measurement,
    OutOfScope,
    Reading,
    Result,
    Verdict,
    WeightsStatus,
)
from ainode.node.reports.limits import limits

_RESEARCH_USE_ONLY = "RESEARCH USE ONLY. Not for diagnosis. Preliminary and unverified."
_STATUS_SENTENCES = {
    WeightsStatus.DEMONSTRATION: "demonstration weights: they show that the node works, and say nothing of patients",
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
        "out_of_scope": {"reason": answer.reason, "code": answer.code},
        "evidence": [ref.sop_instance_uid for ref in answer.evidence],
    }


def _result_fields(result: Result) -> dict[str, object]:
    algorithm = result.algorithm
    return {
        "verdict": {"presence": result.presence, "headline": result.headline, "statements": result.statements},
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
    }


def _finding_fields(finding: Finding) -> dict[str, object]:
    """Return a finding as result.json shows findings."""
    region = finding.region and {
        "sop_instance_uid": finding.region.image.sop_instance_uid,
        "type": finding.region.graphic_type.value,
        "points": finding.region.points,
    }
    return {
        "name": finding.tracking_identifier,
        "label": finding.label,
        "evidence": [ref.sop_instance_uid for ref in finding.evidence],
        "finding": finding.concept.meaning,
        "verdict": finding.verdict and _verdict_fields(finding.verdict),
        "site": finding.site.meaning,
        "laterality": finding.laterality and finding.laterality.meaning,
        "measurements": [
            {"name": measurement.concept.meaning, "value": measurement.value, "unit": measurement.unit.value}
            for measurement in finding.measurements
        ],
        "region": region,
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
    sections = [
        "\n".join([heading, "-" * len(heading), *(f"{name}: {value}" for name, value in rows)])
        for heading, rows in _sections(answer)
    ]
    statements = ["\n".join(_statements(answer))] if _statements(answer) else []
    return "\n\n".join([_title(answer), *statements, *sections, _RESEARCH_USE_ONLY, ""])


def report_pdf(answer: Result | OutOfScope, captures: tuple[Document, ...] = ()) -> bytes:
    """Return the answer and its captures as a PDF of A4 pages; the same answer gives the same bytes."""
    styles = getSampleStyleSheet()
    warning = ParagraphStyle("warning", styles["Normal"], textColor=colors.HexColor("#a04000"), spaceBefore=8)
    verdict = ParagraphStyle("verdict", styles["Heading2"], spaceBefore=0)
    story: list[Flowable] = [Paragraph(escape(_title(answer)), styles["Title"])]
    story += [Paragraph(escape(statement), verdict) for statement in _statements(answer)]
    story.append(Paragraph(_RESEARCH_USE_ONLY, warning))
    for heading, rows in _sections(answer):
        cells = [[Paragraph(escape(cell), styles["Normal"]) for cell in row] for row in rows]
        table = Table(
            cells, colWidths=(150, 320), style=[("VALIGN", (0, 0), (-1, -1), "TOP")], hAlign="LEFT", splitInRow=1
        )
        story.append(KeepTogether([Paragraph(heading, styles["Heading2"]), table]))
    story += [flowable for capture in captures for flowable in (Spacer(1, 12), _capture_picture(capture))]
    content = BytesIO()
    SimpleDocTemplate(content, pagesize=A4, title=_title(answer), author="ainode", invariant=1).build(story)
    return content.getvalue()


def readable_files(reading: Reading) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of report.txt and report.pdf."""
    captures = tuple(document for document in reading.documents if document.kind is DocumentKind.SECONDARY_CAPTURE)
    yield "report.txt", report_text(reading.answer).encode()
    yield "report.pdf", report_pdf(reading.answer, captures)


def _title(answer: Result | OutOfScope) -> str:
    return "Study not analyzed" if isinstance(answer, OutOfScope) else f"{answer.title}: AI result"


def _statements(answer: Result | OutOfScope) -> tuple[str, ...]:
    return () if isinstance(answer, OutOfScope) else answer.statements


def _sections(answer: Result | OutOfScope) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the heading of each section with the section's rows of name and value."""
    if isinstance(answer, OutOfScope):
        yield "Why", [("Reason", answer.reason), ("Code", answer.code)]
        return
    if answer.findings:
        yield "Findings", [row for finding in answer.findings for row in _finding_rows(finding)]
    if answer.scores:
        yield "All scores", [(name, f"{value:.4f}") for name, value in answer.scores.items()]
    algorithm = answer.algorithm
    if texts := list(limits(algorithm)):
        yield "Limits of the model", texts
    yield (
        "Made by",
        [
            ("Model", f"{algorithm.name} {algorithm.version}"),
            ("Weights", _weights_text(algorithm)),
            *algorithm.parameters,
        ],
    )
    uids = [("Study", answer.study_instance_uid), *(("Image read", ref.sop_instance_uid) for ref in answer.key_images)]
    yield "From", [(name, str(uid)) for name, uid in uids]


def _weights_text(algorithm: Algorithm) -> str:
    """Return what the weights are, with their digest; a handler without weights has no digest."""
    digest = f" (sha256 {algorithm.weights_sha256})" if algorithm.weights_sha256 else ""
    return f"{_STATUS_SENTENCES[algorithm.weights_status]}{digest}"


def _finding_rows(finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield the rows of a finding: verdict, concept, site and measurements, then the place of its region."""
    measurements = ", ".join(_measurement_text(measurement) for measurement in finding.measurements)
    side = f"{finding.laterality.meaning.lower()} " if finding.laterality else ""
    sentence = f"{finding.concept.meaning}, {side}{finding.site.meaning.lower()}; {measurements}"
    yield finding.conclusion, sentence
    if finding.region:
        columns, rows = zip(*finding.region.points, strict=True)
        place = f"columns {min(columns):.1f} to {max(columns):.1f}, rows {min(rows):.1f} to {max(rows):.1f} (pixels)"
        yield "Place", f"{place} of image {finding.region.image.sop_instance_uid}"


def _measurement_text(measurement: Measurement) -> str:
    unit = "" if measurement.unit.value == "1" else f" {measurement.unit.value}"
    return f"{measurement.concept.meaning} {measurement.value:.4g}{unit}"


def _capture_picture(capture: Document) -> Image:
    """Return a capture as large as the width of the text and the height of a page allow."""
    pixels = PillowImage.fromarray(np.asarray(dcmread(BytesIO(capture.content)).pixel_array))
    file = BytesIO()
    pixels.save(file, "PNG")
    scale = min(450 / pixels.width, 640 / pixels.height)
    return Image(file, width=pixels.width * scale, height=pixels.height * scale)
