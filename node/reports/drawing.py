"""A capture as pixels: the source at the left, the same with contours and regions at the right, the words below.

The source stays at the top left, so that a point of the image times the scale is a point of the capture. Its pixels are
square: a circle of the patient is a circle of the capture.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ainode.node.domain import Algorithm, Capture, Finding, Point
from ainode.node.reports.heat import edge, resized_saliency, with_contours
from ainode.node.reports.labels import BACKGROUND, FINDING_COLOR, Box, Font, ascii_text, draw_findings, font_of
from ainode.node.reports.words import (
    GRAY,
    Line,
    beside_lines,
    is_absent,
    legend_lines,
    limit_lines,
    outline_line,
    small_font,
    verdict_lines,
    with_words,
)

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
MAX_SIDE = 1280
"""of one of the two pictures, in pixels: finer detail is in the source, which lies in the same study"""
_MIN_SIDE = 512  # the words of a smaller picture cannot be read
_GAP = 8
# Pillow's factor of a first, coarse reduction, of which nothing is seen at this value.
_REDUCING_GAP = 2.0

_HALF = 128
"""of a pixel of 8 bits"""
_LETTER_COLOR = (255, 236, 150)
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
    marked: Picture
    """the right part: the source with what the model marked"""
    factors: tuple[float, float]
    """pixels of the capture per pixel of the source image: columns, rows"""

    @property
    def is_resized(self) -> bool:
        """Return whether the source was resized for the capture."""
        return self.factors != (1.0, 1.0)


def drawn_capture(
    capture: Capture,
    image: Picture,
    *,
    algorithm: Algorithm,
    setting: Setting | None = None,
    outlined: Mask | None = None,
) -> DrawnCapture:
    """Return the capture of the source image; `outlined` are the pixels that a measured finding fills.

    Shapes: image (rows, columns, 3), RGB; outlined (rows, columns).
    """
    setting = setting or Setting()
    rows, columns = image.shape[:2]
    size = _square_size(columns, rows, setting.height_per_width)
    source = Image.fromarray(image)
    if size != source.size:
        source = source.resize(size, Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)
    factors = size[0] / columns, size[1] / rows
    font = font_of(max(15, round(min(max(size) / 62, size[0] / 24))))
    marked = _marked(capture, source, outlined, factors=factors, font=font)
    for panel in (source, marked):
        _annotate(panel, setting, font)
    panels = Image.new("RGB", (2 * size[0] + _GAP, size[1]), BACKGROUND)
    panels.paste(source, (0, 0))
    panels.paste(marked, (size[0] + _GAP, 0))
    page = with_words(panels, _lines(capture, algorithm, font, has_outline=outlined is not None))
    return DrawnCapture(np.asarray(page), np.asarray(marked), factors)


def _square_size(columns: int, rows: int, height_per_width: float) -> tuple[int, int]:
    """Return columns and rows of the picture with square pixels, between the least and the greatest size.

    The side whose pixels are finer keeps its number of pixels; an enlargement is whole.
    """
    width, height = columns / min(height_per_width, 1.0), rows * max(height_per_width, 1.0)
    longer = max(width, height)
    scale = MAX_SIDE / longer if longer > MAX_SIDE else float(-(-_MIN_SIDE // longer))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _drawn_findings(capture: Capture) -> tuple[Finding, ...]:
    """Return the findings to draw: none of what is absent, but a nodule that is there and not malignant."""
    verdict = capture.subject.verdict if capture.subject else None
    return () if is_absent(capture) and verdict and verdict.about is None else capture.findings


def _marked(
    capture: Capture, source: Image.Image, outlined: Mask | None, *, factors: tuple[float, float], font: Font
) -> Image.Image:
    """Return the source with contours, regions and the magnified part; lines of a small finding are in that part."""
    filled = None if outlined is None else Image.fromarray(outlined.astype(np.uint8) * 255).resize(source.size)
    strength = resized_saliency(capture.saliency, source.size) if capture.saliency else None
    inset = _inset_box(capture.inset, source, factors)
    # Lines alone are thin: thick ones are taken for the outline of a lesion.
    has_region = any(finding.region for finding in capture.findings)
    width, is_quiet = max(1, round(font.size / 8)) if has_region else 1, is_absent(capture)
    if strength and not inset:
        marked = with_contours(source, strength, is_quiet=is_quiet, width=width)
        marked = source.copy() if marked is source else marked
    else:
        marked = source.copy()
    if filled and not inset:
        marked = _with_outline(marked, filled)
    draw_findings(marked, _drawn_findings(capture), factors=factors, font=font)
    if inset:
        side = round(_INSET_SHARE * min(source.size))
        part = _magnified(source, inset, side)
        if strength:
            part = with_contours(part, _magnified(strength, inset, side), is_quiet=is_quiet, width=1)
        if filled:
            part = _with_outline(part, _magnified(filled, inset, side))
        _paste_far(marked, part, inset)
    return marked


def _with_outline(picture: Image.Image, filled: Image.Image) -> Image.Image:
    """Return the picture with the edge of what is filled, in the color of findings.

    Shapes: `filled` is 255 where a finding is and 0 where none is, in the size of the picture.
    """
    pixels = np.array(picture)
    pixels[edge(np.asarray(filled) >= _HALF)] = FINDING_COLOR
    return Image.fromarray(pixels)


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
    """Paste a magnified part with a frame into the corner that is farthest from its box, and has no captions."""
    right, bottom = picture.width - part.width, picture.height - part.height
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    # series, slice and date stand at the bottom left
    corners = ((0, 0), (right, 0), (right, bottom))
    left, top = max(corners, key=lambda corner: _distance((x, y), corner, part.width))
    picture.paste(part, (left, top))
    frame = left, top, left + part.width - 1, top + part.height - 1
    ImageDraw.Draw(picture).rectangle(frame, outline=GRAY, width=2)


def _distance(point: Point, corner: Point, side: float) -> float:
    """Return the distance of a point from the center of a square with a left top corner."""
    return float(np.hypot(point[0] - corner[0] - side / 2, point[1] - corner[1] - side / 2))


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


def _lines(capture: Capture, algorithm: Algorithm, font: Font, *, has_outline: bool) -> list[Line]:
    """Return the words below the panels: the verdict large, its numbers, what the picture shows, the numbers small."""
    small = small_font(font)
    lines = [*verdict_lines(capture.subject, font), *beside_lines(capture.beside, font)]
    lines += [outline_line(small)] if has_outline else []
    lines += legend_lines(capture, small)
    lines.append(Line(f"{capture.title} - {algorithm.name} {algorithm.version}", GRAY, small))
    lines += [Line("; ".join(capture.captions), GRAY, small)] if capture.captions else []
    return [*lines, *limit_lines(algorithm, font)]
