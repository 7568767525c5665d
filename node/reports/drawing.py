"""A capture as pixels: the source at the left, the same with contours and regions at the right, the words below.

The source stays at the top left, so that a point of the image times the scale is a point of the capture. Its pixels are
square: a circle of the patient is a circle of the capture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ainode.node.domain import Algorithm, Capture, Finding, Presence, WeightsStatus
from ainode.node.reports.heat import contour_color, resized_saliency, with_contours
from ainode.node.reports.labels import BACKGROUND, Box, Font, ascii_text, draw_findings, font_of, wrapped_lines
from ainode.node.reports.limits import footnotes

Picture = NDArray[np.uint8]
MAX_SIDE = 1280
"""of one of the two pictures, in pixels: finer detail is in the source, which lies in the same study"""
_MIN_SIDE = 512  # the words of a smaller picture cannot be read
_GAP = 8
# Pillow's factor of a first, coarse reduction, of which nothing is seen at this value.
_REDUCING_GAP = 2.0

_WHITE, _GRAY = (240, 240, 240), (150, 155, 165)
_WARNING_COLOR, _LETTER_COLOR = (255, 176, 60), (255, 236, 150)
_VERDICT_COLORS = {
    Presence.PRESENT: (255, 120, 100),
    Presence.INDETERMINATE: (255, 214, 90),
    Presence.ABSENT: (130, 220, 150),
}
_STATUS_CAPTIONS = {
    WeightsStatus.DEMONSTRATION: "DEMONSTRATION WEIGHTS",
    WeightsStatus.RESEARCH: "RESEARCH WEIGHTS",
    WeightsStatus.SITE: "SITE WEIGHTS",
}
_INSET_SHARE = 0.4
"""side of the magnified part of the picture, as a share of the shorter side"""
_INSET_MARGIN = 3.0
"""side of what is magnified, in sides of the region"""
_LEAST_INSET = 24.0
"""side of what is magnified, at least, in pixels"""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the header says of the image around the capture."""

    height_per_width: float = 1.0
    """height of a pixel of the image in widths of the pixel"""
    letters: tuple[str, str, str, str] = ("", "", "", "")
    """the side of the patient at the left, right, top and bottom edge, such as R, L, A, P"""
    captions: tuple[str, ...] = ()
    """series, slice and date, one line each"""


@dataclass(frozen=True, slots=True)
class DrawnCapture:
    """The pixels of a capture."""

    pixels: Picture
    factors: tuple[float, float]
    """pixels of the capture per pixel of the source image: columns, rows"""

    @property
    def is_resized(self) -> bool:
        """Return whether the source was resized for the capture."""
        return self.factors != (1.0, 1.0)


def drawn_capture(
    capture: Capture, image: Picture, *, algorithm: Algorithm, setting: Setting | None = None
) -> DrawnCapture:
    """Return the capture of the source image.

    Shapes: image (rows, columns, 3), RGB.
    """
    setting = setting or Setting()
    rows, columns = image.shape[:2]
    size = _square_size(columns, rows, setting.height_per_width)
    source = Image.fromarray(image)
    if size != source.size:
        source = source.resize(size, Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)
    factors = size[0] / columns, size[1] / rows
    font = font_of(max(15, round(min(max(size) / 62, size[0] / 24))))
    marked = _marked(capture, source, factors=factors, font=font)
    for panel in (source, marked):
        _annotate(panel, setting, font)
    panels = Image.new("RGB", (2 * size[0] + _GAP, size[1]), BACKGROUND)
    panels.paste(source, (0, 0))
    panels.paste(marked, (size[0] + _GAP, 0))
    lines = _lines(capture, algorithm, font, width=panels.width)
    return DrawnCapture(np.asarray(_with_words(panels, lines)), factors)


def _square_size(columns: int, rows: int, height_per_width: float) -> tuple[int, int]:
    """Return columns and rows of the picture with square pixels, between the least and the greatest size.

    The side whose pixels are finer keeps its number of pixels; an enlargement is whole.
    """
    width, height = columns / min(height_per_width, 1.0), rows * max(height_per_width, 1.0)
    longer = max(width, height)
    scale = MAX_SIDE / longer if longer > MAX_SIDE else float(-(-_MIN_SIDE // longer))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _is_absent(capture: Capture) -> bool:
    """Return whether the picture is about something that is not there: then its lines are quiet."""
    verdict = capture.subject.verdict if capture.subject else None
    return verdict is not None and verdict.presence is Presence.ABSENT


def _drawn_findings(capture: Capture) -> tuple[Finding, ...]:
    """Return the findings to draw: none of what is absent, but a nodule that is there and not malignant."""
    verdict = capture.subject.verdict if capture.subject else None
    return () if _is_absent(capture) and verdict and verdict.about is None else capture.findings


def _marked(capture: Capture, source: Image.Image, *, factors: tuple[float, float], font: Font) -> Image.Image:
    """Return the source with contours, regions and the magnified part; contours of a small finding are in that part."""
    strength = resized_saliency(capture.saliency, source.size) if capture.saliency else None
    inset = _inset_box(capture.inset, source, factors)
    width, is_quiet = max(1, round(font.size / 8)), _is_absent(capture)
    if strength and not inset:
        marked = with_contours(source, strength, is_quiet=is_quiet, width=width)
        marked = source.copy() if marked is source else marked
    else:
        marked = source.copy()
    draw_findings(marked, _drawn_findings(capture), factors=factors, font=font)
    if inset:
        side = round(_INSET_SHARE * min(source.size))
        part = _magnified(source, inset, side)
        if strength:
            part = with_contours(part, _magnified(strength, inset, side), is_quiet=is_quiet, width=1)
        _paste_far(marked, part, inset)
    return marked


def _inset_box(finding: Finding | None, source: Image.Image, factors: tuple[float, float]) -> Box | None:
    """Return the square around a finding that is shown magnified; None if the finding is large enough as it is."""
    if finding is None or finding.region is None:
        return None
    xs, ys = zip(*((x * factors[0], y * factors[1]) for x, y in finding.region.points), strict=True)
    x, y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    half = max(_LEAST_INSET, _INSET_MARGIN * max(max(xs) - min(xs), max(ys) - min(ys))) / 2
    return (x - half, y - half, x + half, y + half) if 2 * half < _INSET_SHARE * min(source.size) else None


def _magnified(picture: Image.Image, box: Box, side: int) -> Image.Image:
    return picture.transform((side, side), Image.Transform.EXTENT, box, Image.Resampling.BICUBIC)


def _paste_far(picture: Image.Image, part: Image.Image, box: Box) -> None:
    """Paste a magnified part with a frame into the corner that is farthest from its box."""
    left = 0 if (box[0] + box[2]) / 2 > picture.width / 2 else picture.width - part.width
    top = 0 if (box[1] + box[3]) / 2 > picture.height / 2 else picture.height - part.height
    picture.paste(part, (left, top))
    frame = left, top, left + part.width - 1, top + part.height - 1
    ImageDraw.Draw(picture).rectangle(frame, outline=_GRAY, width=2)


def _annotate(panel: Image.Image, setting: Setting, font: Font) -> None:
    """Write the sides of the patient at the edges, and series, slice and date at the bottom left."""
    canvas, margin = ImageDraw.Draw(panel), font.size / 2
    left, right, top, bottom = setting.letters
    places = (
        (left, (margin, panel.height / 2), "lm"),
        (right, (panel.width - margin, panel.height / 2), "rm"),
        (top, (panel.width / 2, margin), "mt"),
        (bottom, (panel.width / 2, panel.height - margin), "mb"),
    )
    lines = enumerate(reversed(setting.captions))
    corner = [(line, (margin, panel.height - margin - 1.2 * font.size * number), "lb") for number, line in lines]
    stroke = max(1, round(font.size / 10))
    for text, place, anchor in (*places, *corner):
        canvas.text(
            place,
            ascii_text(text),
            font=font,
            fill=_LETTER_COLOR,
            anchor=anchor,
            stroke_width=stroke,
            stroke_fill=BACKGROUND,
        )


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    color: tuple[int, int, int]
    font: Font


def _lines(capture: Capture, algorithm: Algorithm, font: Font, *, width: int) -> list[_Line]:
    """Return the words below the panels: the verdict large, its numbers, what the picture shows, the numbers small."""
    small = font_of(max(13, round(0.72 * font.size)))
    texts = [*_verdict_lines(capture, font), *_legend_lines(capture, small)]
    texts.append(_Line(f"{capture.title} - {algorithm.name} {algorithm.version}", _GRAY, small))
    texts += [_Line("; ".join(capture.captions), _GRAY, small)] if capture.captions else []
    texts += [_Line(footnote, _GRAY, small) for footnote in footnotes(algorithm)]
    texts.append(_Line(f"{_STATUS_CAPTIONS[algorithm.weights_status]} - RESEARCH USE ONLY", _WARNING_COLOR, font))
    return [
        _Line(part, line.color, line.font)
        for line in texts
        for part in wrapped_lines(ascii_text(line.text), width - 2 * font.size, font=line.font)
    ]


def _verdict_lines(capture: Capture, font: Font) -> Iterator[_Line]:
    """Yield the verdict in capitals and large, then its numbers."""
    subject = capture.subject
    if subject and subject.verdict:
        color = _VERDICT_COLORS[subject.verdict.presence]
        yield _Line(subject.conclusion.upper(), color, font_of(round(1.7 * font.size)))
        yield _Line(f"probability {subject.verdict.numbers}", _WHITE, font)


def _legend_lines(capture: Capture, font: Font) -> Iterator[_Line]:
    """Yield what the lines of the picture mean."""
    if not capture.saliency:
        return
    if _is_absent(capture):
        yield _Line("Gray lines: where the model looked; they mark no finding.", _GRAY, font)
    else:
        yield _Line("Lines: where the model looked, the brightest line around the most.", contour_color(0.8), font)


def _with_words(panels: Image.Image, lines: Sequence[_Line]) -> Image.Image:
    """Return the panels with lines of text below."""
    margin = lines[-1].font.size
    height = panels.height + round(sum(1.45 * line.font.size for line in lines) + 1.2 * margin)
    picture = Image.new("RGB", (panels.width, height), BACKGROUND)
    picture.paste(panels)
    canvas, top = ImageDraw.Draw(picture), panels.height + 0.7 * margin
    for line in lines:
        canvas.text((margin, top), line.text, font=line.font, fill=line.color)
        top += 1.45 * line.font.size
    return picture
