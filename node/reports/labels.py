"""Regions of findings on a picture, and the labels beside them."""

from collections.abc import Iterable, Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from ainode.node.domain import Finding, GraphicType, Point
from ainode.node.errors import ReportError

Font = ImageFont.FreeTypeFont
Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the canvas"""
BACKGROUND: Final = (12, 14, 18)
FINDING_COLOR: Final = (80, 220, 255)


def font_of(size: int) -> Font:
    """Return the font that ships with Pillow, so that a capture looks the same everywhere."""
    font = ImageFont.load_default(size=size)
    if not isinstance(font, Font):
        raise ReportError("captures cannot be captioned: this Pillow was built without FreeType; install its wheel")
    return font


def label_box(box: Box, size: tuple[float, float], *, canvas: tuple[int, int], occupied: Sequence[Box]) -> Box:
    """Return the box of a label of `size` (width, height) beside the box of a region.

    The label lies above the region's box, below it, at a side of it or within it: on the canvas, and where it covers
    least of the `occupied` boxes. Of equal places the earlier in this order wins.
    """
    left, top, right, bottom = box
    width, height = size
    corners = [
        (left, top - height),
        (left, bottom),
        (right - width, top - height),
        (right - width, bottom),
        (right, top),
        (left - width, top),
        (right, bottom - height),
        (left - width, bottom - height),
    ]
    fitting = [(x, y) for x, y in corners if 0 <= x <= canvas[0] - width and 0 <= y <= canvas[1] - height]
    inside = (max(0.0, min(left, canvas[0] - width)), max(0.0, min(top, canvas[1] - height)))
    places = [(x, y, x + width, y + height) for x, y in (*fitting, inside)]
    return min(places, key=lambda place: sum(_overlap(place, box) for box in occupied))


def _overlap(box: Box, other: Box) -> float:
    """Return the area that two boxes share, in pixels."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(0.0, width) * max(0.0, height)


def draw_findings(
    picture: Image.Image, findings: Iterable[Finding], *, factors: tuple[float, float], font: Font
) -> None:
    """Draw all regions, then each label where the label hides least of regions and of other labels.

    A point of a region times the factors (x, y) is a point of the picture.
    """
    canvas, line_width = ImageDraw.Draw(picture), max(2, round(font.size / 8))
    labels, occupied = [], []
    for finding in findings:
        if finding.region:
            edge = picture.width - 1, picture.height - 1
            points = [(min(x * factors[0], edge[0]), min(y * factors[1], edge[1])) for x, y in finding.region.points]
            if finding.region.graphic_type is GraphicType.POINT:
                points = _cross(*points[0], 4.0 * line_width)
            # The dark line below keeps the bright line visible on bone.
            canvas.line(points, fill=BACKGROUND, width=line_width + 2)
            canvas.line(points, fill=FINDING_COLOR, width=line_width)
            labels.append(ascii_text(finding.label))
            occupied.append(_bounding_box(points))
    for label, box in zip(labels, tuple(occupied), strict=True):
        if label:
            padding = round(font.size / 4)
            size = (font.getlength(label) + 2 * padding, 1.5 * font.size)
            left, top, right, bottom = label_box(box, size, canvas=picture.size, occupied=occupied)
            occupied.append((left, top, right, bottom))
            canvas.rectangle(occupied[-1], fill=BACKGROUND)
            canvas.text((left + padding, (top + bottom) / 2), label, font=font, fill=FINDING_COLOR, anchor="lm")


def _cross(x: float, y: float, arm: float) -> list[Point]:
    """Return the polyline of a cross around a point."""
    return [(x - arm, y), (x + arm, y), (x, y), (x, y - arm), (x, y + arm)]


def _bounding_box(points: Iterable[Point]) -> Box:
    columns, rows = zip(*points, strict=True)
    return min(columns), min(rows), max(columns), max(rows)


def wrapped_lines(text: str, width: float, *, font: Font) -> list[str]:
    """Return the text as lines of at most `width` pixels, broken at spaces; a longer word has a line for itself."""
    lines = [""]
    for word in text.split():
        longer_line = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer_line) > width:
            lines.append(word)
        else:
            lines[-1] = longer_line
    return lines


def ascii_text(text: str) -> str:
    """Return the text with a question mark for each character beyond ASCII, which a font or viewer may lack."""
    return text.encode("ascii", "replace").decode()
