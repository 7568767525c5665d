"""A reading for people and for programs: result.json, report.txt and report.pdf. No patient attribute is in them."""

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
    Document,
    DocumentContext,
    DocumentKind,
    Finding,
    Measurement,
    OutOfScope,
    Reading,
    Result,
    WeightsStatus,
)

_RESEARCH_USE_ONLY = "RESEARCH USE ONLY. Not for diagnosis. Preliminary and unverified."
_STATUS = {
    WeightsStatus.DEMONSTRATION: "demonstration weights: made on synthetic studies, they say nothing of patients",
    WeightsStatus.RESEARCH: "research weights: trained on a named public set",
    WeightsStatus.SITE: "a site's own weights, under that site's responsibility",
}


def result_json(answer: Result | OutOfScope, context: DocumentContext) -> str:
    """Return what was answered and by what, for programs; points are (column, row) in pixels of the source image."""
    made = {
        "research_use_only": True,
        "created": context.created.isoformat(),
        "software": context.software_versions,
        "device": context.device_name,
        "device_uid": context.device_uid,
        "configuration": context.configuration_hash,
    }
    body = _out_of_scope_facts(answer) if isinstance(answer, OutOfScope) else _result_facts(answer)
    return json.dumps({**body, **made}, indent=2)


def _out_of_scope_facts(answer: OutOfScope) -> dict[str, object]:
    return {
        "out_of_scope": {"reason": answer.reason, "code": answer.code},
        "evidence": [ref.sop_instance_uid for ref in answer.evidence],
    }


def _result_facts(result: Result) -> dict[str, object]:
    algorithm = result.algorithm
    return {
        "study_instance_uid": result.study_instance_uid,
        "title": result.title,
        "scores": dict(result.scores),
        "findings": [_finding_facts(finding) for finding in result.findings],
        "algorithm": {
            "name": algorithm.name,
            "version": algorithm.version,
            "weights_sha256": algorithm.weights_sha256,
            "weights_status": algorithm.weights_status.value,
            "parameters": dict(algorithm.parameters),
        },
        "evidence": [ref.sop_instance_uid for ref in result.evidence],
    }


def _finding_facts(finding: Finding) -> dict[str, object]:
    region = finding.region and {
        "sop_instance_uid": finding.region.image.sop_instance_uid,
        "type": finding.region.graphic_type.value,
        "points": finding.region.points,
    }
    return {
        "name": finding.tracking_identifier,
        "label": finding.label,
        "evidence": [one.sop_instance_uid for one in finding.evidence],
        "finding": finding.concept.meaning,
        "site": finding.site.meaning,
        "measurements": [
            {"name": one.concept.meaning, "value": one.value, "unit": one.unit.value} for one in finding.measurements
        ],
        "region": region,
    }


def report_text(answer: Result | OutOfScope) -> str:
    """Return the answer in plain language."""
    parts = []
    for heading, rows in _sections(answer):
        parts.append("\n".join([heading, "-" * len(heading), *(f"{name}: {value}" for name, value in rows)]))
    return "\n\n".join([_title(answer), *parts, _RESEARCH_USE_ONLY, ""])


def report_pdf(answer: Result | OutOfScope, captures: tuple[Document, ...] = ()) -> bytes:
    """Return the answer on A4 pages, then its captures; the same answer gives the same bytes."""
    styles = getSampleStyleSheet()
    warning = ParagraphStyle("warning", styles["Normal"], textColor=colors.HexColor("#a04000"), spaceBefore=8)
    story: list[Flowable] = [Paragraph(escape(_title(answer)), styles["Title"]), Paragraph(_RESEARCH_USE_ONLY, warning)]
    for heading, rows in _sections(answer):
        cells = [[Paragraph(escape(cell), styles["Normal"]) for cell in row] for row in rows]
        table = Table(
            cells, colWidths=(150, 320), style=[("VALIGN", (0, 0), (-1, -1), "TOP")], hAlign="LEFT", splitInRow=1
        )
        story.append(KeepTogether([Paragraph(heading, styles["Heading2"]), table]))
    story += [flowable for capture in captures for flowable in (Spacer(1, 12), _picture(capture))]
    content = BytesIO()
    SimpleDocTemplate(content, pagesize=A4, title=_title(answer), author="ainode", invariant=1).build(story)
    return content.getvalue()


def readable_files(reading: Reading) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each file that a person reads, each made when it is asked for."""
    captures = tuple(one for one in reading.documents if one.kind is DocumentKind.SECONDARY_CAPTURE)
    yield "report.txt", report_text(reading.answer).encode()
    yield "report.pdf", report_pdf(reading.answer, captures)


def _title(answer: Result | OutOfScope) -> str:
    return "Study not analyzed" if isinstance(answer, OutOfScope) else f"{answer.title}: AI result"


def _sections(answer: Result | OutOfScope) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each heading with its rows of name and value."""
    if isinstance(answer, OutOfScope):
        yield "Why", [("Reason", answer.reason), ("Code", answer.code)]
        return
    if answer.findings:
        yield "Findings", [row for finding in answer.findings for row in _finding_rows(finding)]
    if answer.scores:
        yield "All scores", [(name, f"{value:.4f}") for name, value in answer.scores.items()]
    algorithm = answer.algorithm
    yield (
        "Made by",
        [
            ("Model", f"{algorithm.name} {algorithm.version}"),
            ("Weights", f"{_STATUS[algorithm.weights_status]} (sha256 {algorithm.weights_sha256})"),
            *algorithm.parameters,
        ],
    )
    uids = [("Study", answer.study_instance_uid), *(("Image read", ref.sop_instance_uid) for ref in answer.key_images)]
    yield "From", [(name, str(uid)) for name, uid in uids]


def _finding_rows(finding: Finding) -> Iterator[tuple[str, str]]:
    numbers = ", ".join(_number(one) for one in finding.measurements)
    yield finding.label or finding.tracking_identifier, f"{finding.concept.meaning}, {finding.site.meaning}; {numbers}"
    if finding.region:
        columns, rows = zip(*finding.region.points, strict=True)
        place = f"columns {min(columns):.1f} to {max(columns):.1f}, rows {min(rows):.1f} to {max(rows):.1f} (pixels)"
        yield "Place", f"{place} of image {finding.region.image.sop_instance_uid}"


def _number(measurement: Measurement) -> str:
    unit = "" if measurement.unit.value == "1" else f" {measurement.unit.value}"
    return f"{measurement.concept.meaning} {measurement.value:.4g}{unit}"


def _picture(capture: Document) -> Image:
    """Return a capture at the width of the text, or at the height of a page."""
    pixels = PillowImage.fromarray(np.asarray(dcmread(BytesIO(capture.content)).pixel_array))
    file = BytesIO()
    pixels.save(file, "PNG")
    scale = min(450 / pixels.width, 640 / pixels.height)
    return Image(file, width=pixels.width * scale, height=pixels.height * scale)
