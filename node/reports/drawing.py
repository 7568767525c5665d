"""A capture as pixels: the image, where the model looked, boxes with labels, and who says so. No patient text.

The image stays at the top left, so that a point of the capture is a point of the image (times the scale); the legend
of the heat is added at the right, the captions below.
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

LONGEST_SIDE = 2048
_SHORTEST_SIDE = 512  # below it, captions cannot be read

_BACKGROUND, _WHITE, _GRAY = (12, 14, 18), (240, 240, 240), (150, 155, 165)
_BOX, _WARNING = (80, 220, 255), (255, 176, 60)
_STRONGEST = 0.4  # share of the heat in the mixture where the model looked most; the anatomy keeps the rest
_SRGB_KNEE = 0.0031308
_STATUS = {
    WeightsStatus.DEMONSTRATION: "DEMONSTRATION WEIGHTS",
    WeightsStatus.RESEARCH: "RESEARCH WEIGHTS",
    WeightsStatus.SITE: "SITE WEIGHTS",
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finished capture; `scale` is its pixels per pixel of the source image."""

    pixels: Picture
    scale: float


def drawn(capture: Capture, image: Picture, *, algorithm: Algorithm) -> Drawn:
    """Return the capture drawn over `image`.

    Shapes: image (rows, columns, 3); the result is higher by the captions and wider by the legend of the heat.
    """
    scale = _scale(max(image.shape[:2]))
    base = Image.fromarray(image)
    if scale != 1:
        size = (max(1, round(base.width * scale)), max(1, round(base.height * scale)))
        base = base.resize(size, Image.Resampling.BICUBIC)
    font = _font(max(15, round(min(max(base.size) / 62, base.width / 30))))
    if capture.saliency:
        base = _heated(base, capture.saliency)
    _draw_findings(base, capture.findings, scale=scale, font=font)
    if capture.saliency:
        base = _with_legend(base, font)
    return Drawn(np.asarray(_with_captions(base, capture, algorithm=algorithm, font=font)), scale)


def _font(size: int) -> _Font:
    """Return the font that ships with Pillow, so that a capture looks the same everywhere."""
    font = ImageFont.load_default(size=size)
    if not isinstance(font, _Font):
        raise ReportError("captures cannot be captioned: this Pillow was built without FreeType; install its wheel")
    return font


def _scale(longest: int) -> float:
    if longest > LONGEST_SIDE:
        return LONGEST_SIDE / longest
    return float(-(-_SHORTEST_SIDE // longest))


def heat_colors(strength: NDArray[np.floating]) -> Picture:
    """Return a color for each strength from 0 to 1: violet over red to yellow, lightness growing evenly.

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
    encoded = np.where(linear <= _SRGB_KNEE, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(encoded * 255), np.uint8)


def label_place(box: Box, size: tuple[float, float], *, canvas: tuple[int, int], taken: Sequence[Box]) -> Box:
    """Return where a label of `size` belongs: above its box, below, at its side; within it if nothing else is left.

    Of the places on the canvas the one that covers least of `taken` wins, the earlier one where two are equal.
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
    return min(places, key=lambda place: sum(_overlap(place, other) for other in taken))


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def stretched(saliency: Saliency, size: tuple[int, int]) -> Image.Image:
    """Return the saliency on a grid of `size` (columns, rows), 8 bits; on its own grid it is left as it is."""
    grid = Image.frombytes("L", (saliency.columns, saliency.rows), saliency.values)
    return grid.resize(size, Image.Resampling.BICUBIC)


def _heated(base: Image.Image, saliency: Saliency) -> Image.Image:
    """Return `base` with the heat over it, stronger where the model looked more, nothing where it did not."""
    strength = stretched(saliency, base.size)
    levels = np.linspace(0, 1, 256)
    alpha = np.rint(255 * _STRONGEST * np.clip((levels - 0.1) / 0.6, 0, 1)).astype(int)
    heat = strength.copy()
    heat.putpalette(heat_colors(levels).tobytes())
    return Image.composite(heat.convert("RGB"), base, strength.point(alpha.tolist()))


def _draw_findings(base: Image.Image, findings: tuple[Finding, ...], *, scale: float, font: _Font) -> None:
    """Draw every region and then the labels, each where it hides no region."""
    canvas, pen = ImageDraw.Draw(base), max(2, round(font.size / 8))
    labels, taken = [], []
    for finding in findings:
        if finding.region:
            edge = base.width - 1, base.height - 1
            points = [(min(x * scale, edge[0]), min(y * scale, edge[1])) for x, y in finding.region.points]
            if finding.region.graphic_type is GraphicType.POINT:
                points = _cross(*points[0], 4.0 * pen)
            # The dark line under the bright one keeps it visible on bone.
            canvas.line(points, fill=_BACKGROUND, width=pen + 2)
            canvas.line(points, fill=_BOX, width=pen)
            labels.append(ascii_only(finding.label))
            taken.append(_bounds(points))
    for label, box in zip(labels, tuple(taken), strict=True):
        if label:
            pad = round(font.size / 4)
            size = (font.getlength(label) + 2 * pad, 1.5 * font.size)
            place = label_place(box, size, canvas=base.size, taken=taken)
            taken.append(place)
            canvas.rectangle(place, fill=_BACKGROUND)
            canvas.text((place[0] + pad, (place[1] + place[3]) / 2), label, font=font, fill=_BOX, anchor="lm")


def _cross(x: float, y: float, arm: float) -> list[Point]:
    return [(x - arm, y), (x + arm, y), (x, y), (x, y - arm), (x, y + arm)]


def _bounds(points: Iterable[Point]) -> Box:
    columns, rows = zip(*points, strict=True)
    return min(columns), min(rows), max(columns), max(rows)


def _with_legend(base: Image.Image, font: _Font) -> Image.Image:
    """Return `base` with the scale of the heat at its right."""
    line, width = round(1.5 * font.size), round(3.6 * font.size)
    height = min(base.height - 2 * line, 14 * line)
    wide = Image.new("RGB", (base.width + width, base.height), _BACKGROUND)
    wide.paste(base)
    colors = heat_colors(np.linspace(1, 0, height))
    bar = Image.fromarray(np.repeat(colors[:, np.newaxis], round(1.2 * font.size), axis=1))
    middle, top = base.width + width // 2, (base.height - height) // 2
    wide.paste(bar, (middle - bar.width // 2, top))
    canvas = ImageDraw.Draw(wide)
    canvas.text((middle, top - line // 3), "most", font=font, fill=_GRAY, anchor="ms")
    canvas.text((middle, top + height + line // 4), "least", font=font, fill=_GRAY, anchor="ma")
    return wide


def _with_captions(base: Image.Image, capture: Capture, *, algorithm: Algorithm, font: _Font) -> Image.Image:
    """Return `base` with the title, the handler's captions and the warning below it."""
    heat = ("Color: where the model looked, the least in violet, the most in yellow.",) if capture.saliency else ()
    warning = f"{_STATUS[algorithm.weights_status]} - RESEARCH USE ONLY"
    texts = [
        (f"{capture.title} - {algorithm.name} {algorithm.version}", _WHITE),
        *((caption, _WHITE) for caption in capture.captions),
        *((caption, _GRAY) for caption in heat),
        (warning, _WARNING),
    ]
    margin, line = font.size, 1.45 * font.size
    lines = [
        (row, color) for text, color in texts for row in wrapped(ascii_only(text), base.width - 2 * margin, font=font)
    ]
    high = Image.new("RGB", (base.width, base.height + round(len(lines) * line + 1.2 * margin)), _BACKGROUND)
    high.paste(base)
    canvas = ImageDraw.Draw(high)
    for number, (row, color) in enumerate(lines):
        canvas.text((margin, base.height + 0.7 * margin + number * line), row, font=font, fill=color)
    return high


def wrapped(text: str, width: float, *, font: _Font) -> list[str]:
    """Return `text` in lines that fit `width` pixels, broken at spaces."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def ascii_only(text: str) -> str:
    """Return `text` with a question mark for what is not ASCII: the shipped font and all viewers have the rest."""
    return text.encode("ascii", "replace").decode()
