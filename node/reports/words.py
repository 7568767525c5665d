"""The words below a picture: the verdict large, its numbers, what the lines mean, limits, and the line of research."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ainode.node.domain import Algorithm, Capture, Finding, Presence, WeightsStatus
from ainode.node.reports.heat import contour_color
from ainode.node.reports.labels import BACKGROUND, FINDING_COLOR, Font, ascii_text, font_of, wrapped_lines
from ainode.node.reports.limits import footnotes

WHITE, GRAY = (240, 240, 240), (150, 155, 165)
VERDICT_COLORS = {
    Presence.PRESENT: (255, 120, 100),
    Presence.INDETERMINATE: (255, 214, 90),
    Presence.ABSENT: (130, 220, 150),
}
_WARNING_COLOR = (255, 176, 60)
_STATUS_CAPTIONS = {
    WeightsStatus.DEMONSTRATION: "DEMONSTRATION WEIGHTS",
    WeightsStatus.RESEARCH: "RESEARCH WEIGHTS",
    WeightsStatus.SITE: "SITE WEIGHTS",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A text below a picture."""

    text: str
    color: tuple[int, int, int]
    font: Font


def small_font(font: Font) -> Font:
    """Return the font of what is for experts."""
    return font_of(max(13, round(0.72 * font.size)))


def verdict_lines(finding: Finding | None, font: Font) -> Iterator[Line]:
    """Yield the verdict of a finding in capitals and large, then its numbers; of a measurement alone its label."""
    if finding and not finding.presence and finding.label:
        yield Line(finding.label, WHITE, font_of(round(1.7 * font.size)))
    if finding and finding.presence:
        color = VERDICT_COLORS[finding.presence]
        yield Line(finding.conclusion.upper(), color, font_of(round(1.7 * font.size)))
    if finding and finding.verdict:
        yield Line(f"probability {finding.verdict.numbers}", WHITE, font)


def beside_lines(findings: Sequence[Finding], font: Font) -> Iterator[Line]:
    """Yield what else was judged on the image: a line in the color of its verdict for each; what is absent, small."""
    for finding in findings:
        if finding.presence and finding.presence is not Presence.ABSENT:
            numbers = f", probability {finding.verdict.numbers}" if finding.verdict else ""
            yield Line(f"{finding.conclusion.upper()}{numbers}", VERDICT_COLORS[finding.presence], font)
    absent = [finding.conclusion for finding in findings if finding.presence is Presence.ABSENT]
    if absent:
        yield Line("; ".join(absent), GRAY, small_font(font))


def is_absent(capture: Capture) -> bool:
    """Return whether the picture is about something that is not there: then its lines are quiet."""
    verdict = capture.subject.verdict if capture.subject else None
    return verdict is not None and verdict.presence is Presence.ABSENT


def outline_line(font: Font) -> Line:
    """Return what the outline of a finding means."""
    return Line("Outline: what was measured.", FINDING_COLOR, font)


def legend_lines(capture: Capture, font: Font) -> Iterator[Line]:
    """Yield what the lines of the picture mean."""
    if not capture.saliency:
        return
    if is_absent(capture):
        yield Line("Gray lines: where the model looked; they mark no finding.", GRAY, font)
    else:
        yield Line(
            "Lines: where the model looked, brightest where most; they outline no lesion.", contour_color(0.8), font
        )


def limit_lines(algorithm: Algorithm, font: Font) -> Iterator[Line]:
    """Yield the limits of the model, small, and the line of research."""
    small = small_font(font)
    yield from (Line(footnote, GRAY, small) for footnote in footnotes(algorithm))
    yield Line(f"{_STATUS_CAPTIONS[algorithm.weights_status]} - RESEARCH USE ONLY", _WARNING_COLOR, font)


def with_words(picture: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """Return the picture with lines of text below, each broken where the picture ends."""
    margin = lines[-1].font.size
    parts = [
        Line(part, line.color, line.font)
        for line in lines
        for part in wrapped_lines(ascii_text(line.text), picture.width - 2 * margin, font=line.font)
    ]
    height = picture.height + round(sum(1.45 * line.font.size for line in parts) + 1.2 * margin)
    page = Image.new("RGB", (picture.width, height), BACKGROUND)
    page.paste(picture)
    canvas, top = ImageDraw.Draw(page), picture.height + 0.7 * margin
    for line in parts:
        canvas.text((margin, top), line.text, font=line.font, fill=line.color)
        top += 1.45 * line.font.size
    return page
