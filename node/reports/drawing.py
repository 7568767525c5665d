"""A capture as pixels: the image, the heat, labeled regions, captions and a warning; no patient text.

The heat is the saliency in color. The image stays at the top left, so that a point of the image times the scale is a
point of the capture; the legend of the heat is added at the right, the captions below.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ainode.node.domain import Algorithm, Capture, Finding, GraphicType, Point, Saliency, WeightsStatus
from ainode.node.errors import ReportError

Picture = NDArray[np.uint8]
_Font = ImageFont.FreeTypeFont
Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the canvas"""

MAX_SIDE = 2048
_MIN_SIDE = 512  # the captions of a smaller picture cannot be read

_BACKGROUND, _WHITE, _GRAY = (12, 14, 18), (240, 240, 240), (150, 155, 165)
_BOX_COLOR, _WARNING_COLOR = (80, 220, 255), (255, 176, 60)
_MAX_HEAT_SHARE = 0.4  # share of the heat in a pixel's color at full saliency; the image has the rest
_SRGB_KNEE = 0.0031308
_STATUS_CAPTIONS = {
    WeightsStatus.DEMONSTRATION: "DEMONSTRATION WEIGHTS",
    WeightsStatus.RESEARCH: "RESEARCH WEIGHTS",
    WeightsStatus.SITE: "SITE WEIGHTS",
}


@dataclass(frozen=True, slots=True)
class DrawnCapture:
    """The pixels of a capture."""

    pixels: Picture
    scale: float
    """pixels of the capture per pixel of the source image"""


def drawn_capture(capture: Capture, image: Picture, *, algorithm: Algorithm) -> DrawnCapture:
    """Return the capture drawn over the source image.

    Shapes: image (rows, columns, 3), RGB; the capture is higher by the captions and wider by the legend of the heat.
    """
    scale = _scale(max(image.shape[:2]))
    picture = Image.fromarray(image)
    if scale != 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    font = _font(max(15, round(min(max(picture.size) / 62, picture.width / 30))))
    if capture.saliency:
        picture = _with_heat(picture, capture.saliency)
    _draw_findings(picture, capture.findings, scale=scale, font=font)
    if capture.saliency:
        picture = _with_legend(picture, font)
    return DrawnCapture(np.asarray(_with_captions(picture, capture, algorithm=algorithm, font=font)), scale)


def _font(size: int) -> _Font:
    """Return the font that ships with Pillow, so that a capture looks the same everywhere."""
    font = ImageFont.load_default(size=size)
    if not isinstance(font, _Font):
        raise ReportError("captures cannot be captioned: this Pillow was built without FreeType; install its wheel")
    return font


def _scale(longer_side: int) -> float:
    """Return the factor that brings an image between the least and the greatest size; an enlargement is whole."""
    if longer_side > MAX_SIDE:
        return MAX_SIDE / longer_side
    return float(-(-_MIN_SIDE // longer_side))


def heat_colors(strength: NDArray[np.floating]) -> Picture:
    """Return a color for each strength from 0 to 1, from violet over red to yellow; lightness grows evenly.

    Shapes: (...) in, (..., 3) uint8 sRGB out.
    Source: OKLab (B. Ottosson, 2020), lightness 0.45 to 0.92, hue -50 to 105 degrees.
    """
    lightness, hue = 0.45 + 0.47 * strength, np.radians(-50 + 155 * strength)
    a, b = 0.17 * np.cos(hue), 0.17 * np.sin(hue)
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_linear_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cones**3 @ to_linear_rgb.T, 0, 1)
    # The transfer function of IEC 61966-2-1.
    part10_bytes = np.where(linear <= _SRGB_KNEE, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(part10_bytes * 255), np.uint8)


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


def resized_saliency(saliency: Saliency, size: tuple[int, int]) -> Image.Image:
    """Return the saliency as an 8-bit image of `size` (columns, rows)."""
    grid = Image.frombytes("L", (saliency.columns, saliency.rows), saliency.values)
    return grid.resize(size, Image.Resampling.BICUBIC)


def _with_heat(picture: Image.Image, saliency: Saliency) -> Image.Image:
    """Return the picture mixed with the heat; the share of the heat grows with the saliency, from 0."""
    strength = resized_saliency(saliency, picture.size)
    levels = np.linspace(0, 1, 256)
    shares = np.rint(255 * _MAX_HEAT_SHARE * np.clip((levels - 0.1) / 0.6, 0, 1)).astype(int)
    heat = strength.copy()
    heat.putpalette(heat_colors(levels).tobytes())
    return Image.composite(heat.convert("RGB"), picture, strength.point(shares.tolist()))


def _draw_findings(picture: Image.Image, findings: tuple[Finding, ...], *, scale: float, font: _Font) -> None:
    """Draw all regions on the picture, then each label where the label hides least of regions and other labels."""
    canvas, line_width = ImageDraw.Draw(picture), max(2, round(font.size / 8))
    labels, occupied = [], []
    for finding in findings:
        if finding.region:
            edge = picture.width - 1, picture.height - 1
            points = [(min(x * scale, edge[0]), min(y * scale, edge[1])) for x, y in finding.region.points]
            if finding.region.graphic_type is GraphicType.POINT:
                points = _cross(*points[0], 4.0 * line_width)
            # The dark line below keeps the bright line visible on bone.
            canvas.line(points, fill=_BACKGROUND, width=line_width + 2)
            canvas.line(points, fill=_BOX_COLOR, width=line_width)
            labels.append(ascii_text(finding.label))
            occupied.append(_bounding_box(points))
    for label, box in zip(labels, tuple(occupied), strict=True):
        if label:
            padding = round(font.size / 4)
            size = (font.getlength(label) + 2 * padding, 1.5 * font.size)
            left, top, right, bottom = label_box(box, size, canvas=picture.size, occupied=occupied)
            occupied.append((left, top, right, bottom))
            canvas.rectangle(occupied[-1], fill=_BACKGROUND)
            canvas.text((left + padding, (top + bottom) / 2), label, font=font, fill=_BOX_COLOR, anchor="lm")


def _cross(x: float, y: float, arm: float) -> list[Point]:
    """Return the polyline of a cross around a point."""
    return [(x - arm, y), (x + arm, y), (x, y), (x, y - arm), (x, y + arm)]


def _bounding_box(points: Iterable[Point]) -> Box:
    columns, rows = zip(*points, strict=True)
    return min(columns), min(rows), max(columns), max(rows)


def _with_legend(picture: Image.Image, font: _Font) -> Image.Image:
    """Return the picture with the legend of the heat at the right: a color bar from most to least."""
    line_height, width = round(1.5 * font.size), round(3.6 * font.size)
    height = min(picture.height - 2 * line_height, 14 * line_height)
    wider_picture = Image.new("RGB", (picture.width + width, picture.height), _BACKGROUND)
    wider_picture.paste(picture)
    colors = heat_colors(np.linspace(1, 0, height))
    bar = Image.fromarray(np.repeat(colors[:, np.newaxis], round(1.2 * font.size), axis=1))
    middle, top = picture.width + width // 2, (picture.height - height) // 2
    wider_picture.paste(bar, (middle - bar.width // 2, top))
    canvas = ImageDraw.Draw(wider_picture)
    canvas.text((middle, top - line_height // 3), "most", font=font, fill=_GRAY, anchor="ms")
    canvas.text((middle, top + height + line_height // 4), "least", font=font, fill=_GRAY, anchor="ma")
    return wider_picture


def _with_captions(picture: Image.Image, capture: Capture, *, algorithm: Algorithm, font: _Font) -> Image.Image:
    """Return the picture with verdict, title, captions and warning below."""
    heat_caption = "Color: where the model looked, the least in violet, the most in yellow."
    warning = f"{_STATUS_CAPTIONS[algorithm.weights_status]} - RESEARCH USE ONLY"
    texts = [
        *([(capture.subject.statement, _WHITE)] if capture.subject else []),
        (f"{capture.title} - {algorithm.name} {algorithm.version}", _WHITE),
        *((caption, _WHITE) for caption in capture.captions),
        *([(heat_caption, _GRAY)] if capture.saliency else []),
        (warning, _WARNING_COLOR),
    ]
    margin, line_height = font.size, 1.45 * font.size
    width = picture.width - 2 * margin
    lines = [(line, color) for text, color in texts for line in wrapped_lines(ascii_text(text), width, font=font)]
    height = picture.height + round(len(lines) * line_height + 1.2 * margin)
    higher_picture = Image.new("RGB", (picture.width, height), _BACKGROUND)
    higher_picture.paste(picture)
    canvas = ImageDraw.Draw(higher_picture)
    for number, (line, color) in enumerate(lines):
        canvas.text((margin, picture.height + 0.7 * margin + number * line_height), line, font=font, fill=color)
    return higher_picture


def wrapped_lines(text: str, width: float, *, font: _Font) -> list[str]:
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
