"""Synthetic spine radiographs with known findings, in two projections.

Geometry is in millimeters, so a seed gives the same patient at any picture size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.phantoms.canvas import Canvas, Picture, blurred_picture, smooth_noise
from ainode.models.phantoms.spine_anatomy import Build, Change, Vertebra, layout
from ainode.models.phantoms.spine_lesions import CLASS_NAMES, draw_lesion, layout_changes, random_lesions
from ainode.models.phantoms.spine_tissue import draw_skeleton, draw_soft_tissue

__all__ = ["CLASS_NAMES", "REGIONS", "VIEWS", "SpineRadiograph", "spine_radiograph"]

VIEWS = ("AP", "LATERAL")
REGIONS = ("THORACIC", "LUMBAR", "WHOLE")

# What a region is drawn from: a whole spine is another kind of picture.
_HALVES = ("THORACIC", "LUMBAR")
# Stored values are 12 bit, as most CR and DX receptors give.
_WHITE = 4095
_MARGIN_MM = 2.5
_FIELD_MM = {"THORACIC": (290.0, 430.0), "LUMBAR": (230.0, 340.0), "WHOLE": (500.0, 560.0)}
_SMALLEST_SIDE = 32


@dataclass(frozen=True, slots=True)
class SpineRadiograph:
    """A synthetic radiograph and the truth about its findings.

    Shapes: image (rows, columns) uint16, 12 bit, larger is brighter (MONOCHROME2); corners (17, 4, 2), x and y of the
    top left, top right, bottom left and bottom right corner of T1 to L5, of which some may lie outside.
    Units: boxes are (class index, x0, y0, x1, y1), pixel edges, x to the right; corners alike.
    """

    image: NDArray[np.uint16]
    view: str
    region: str
    boxes: tuple[tuple[int, float, float, float, float], ...]
    abnormal: bool
    mm_per_pixel: float
    corners: NDArray[np.float64] = field(repr=False)


def spine_radiograph(  # each parameter is one property of the picture
    random: np.random.Generator,
    *,
    rows: int = 1024,
    columns: int = 768,
    view: str | None = None,
    region: str | None = None,
    abnormal: bool | None = None,
) -> SpineRadiograph:
    """Return a synthetic spine radiograph; a property that is None is random.

    Raises: ValueError for an unknown view or region, or a side below 32 pixels.
    """
    view = view or str(random.choice(VIEWS))
    region = region or str(random.choice(_HALVES))
    if view not in VIEWS or region not in REGIONS or min(rows, columns) < _SMALLEST_SIDE:
        message = f"no phantom for view {view}, region {region}, {rows} x {columns}"
        raise ValueError(message)
    abnormal = bool(random.random() < 0.5) if abnormal is None else abnormal  # noqa: PLR2004  # a fair coin
    build = Build.of_region(random, region)
    canvas = Canvas.blank(rows, columns, float(random.uniform(*_FIELD_MM[region])))
    patient_seed = int(random.integers(2**32))
    drawing_random = random.spawn(1)[0]
    visible_levels = _visible_levels(layout(build, view, {}, np.random.default_rng(patient_seed)), canvas)
    lesions = random_lesions(random, view, visible_levels) if abnormal else ()
    changes: dict[int, Change] = {}
    for lesion in lesions:
        changes |= layout_changes(lesion, view)
    spine = layout(build, view, changes, np.random.default_rng(patient_seed))
    draw_soft_tissue(canvas, spine, view, drawing_random)
    draw_skeleton(canvas, spine, view, drawing_random)
    outlines = [draw_lesion(canvas, lesion, spine, view, drawing_random) for lesion in lesions]
    boxes_on_canvas = tuple(
        (lesion.kind, *box)
        for lesion, points in zip(lesions, outlines, strict=True)
        if (box := _box(points, canvas)) is not None
    )
    corners = np.stack([canvas.pixels(vertebra.corners()) + 0.5 for vertebra in spine[:-1]])
    image, boxes, corners = _finished_picture(canvas, boxes_on_canvas, corners, random)
    return SpineRadiograph(image, view, region, boxes, bool(boxes), canvas.mm_per_pixel, corners)


def _visible_levels(spine: tuple[Vertebra, ...], canvas: Canvas) -> tuple[int, ...]:
    """Return the levels whose body and the disc below lie well inside the picture."""
    half_height = -canvas.origin_mm[1] * 0.88
    half_width = -canvas.origin_mm[0] * 0.88
    return tuple(
        index
        for index, vertebra in enumerate(spine[:-1])
        if abs(vertebra.center[1]) + vertebra.height < half_height
        and abs(vertebra.center[0]) + vertebra.extent / 2 < half_width
    )


def _box(points_mm: NDArray[np.float64], canvas: Canvas) -> tuple[float, float, float, float] | None:
    """Return the pixel box around a finding, or None when the finding is outside of the picture."""
    rows, columns = canvas.attenuation.shape
    low = canvas.pixels(points_mm.min(axis=0, keepdims=True) - _MARGIN_MM)[0] + 0.5
    high = canvas.pixels(points_mm.max(axis=0, keepdims=True) + _MARGIN_MM)[0] + 0.5
    x0, y0 = np.clip(low, 0, (columns, rows))
    x1, y1 = np.clip(high, 0, (columns, rows))
    return (float(x0), float(y0), float(x1), float(y1)) if x1 - x0 > 1 and y1 - y0 > 1 else None


def _finished_picture(
    canvas: Canvas,
    boxes: tuple[tuple[int, float, float, float, float], ...],
    corners: NDArray[np.float64],
    random: np.random.Generator,
) -> tuple[NDArray[np.uint16], tuple[tuple[int, float, float, float, float], ...], NDArray[np.float64]]:
    """Return the exposed picture with its marker and collimation, boxes and corners; three in ten are mirrored."""
    picture = _display_picture(_apparent_attenuation(canvas, random), random)
    if random.random() < 0.3:  # noqa: PLR2004  # the share of mirrored pictures
        columns = picture.shape[1]
        picture = picture[:, ::-1].copy()
        boxes = tuple((kind, columns - x1, y0, columns - x0, y1) for kind, x0, y0, x1, y1 in boxes)
        corners = (corners * (-1, 1) + (columns, 0))[:, [1, 0, 3, 2]]
    _draw_marker(picture, random)
    if random.random() < 0.4:  # noqa: PLR2004  # the share of visibly collimated pictures
        _collimate(picture, random)
    return np.clip(np.rint(picture * _WHITE), 0, _WHITE).astype(np.uint16), boxes, corners


def _apparent_attenuation(canvas: Canvas, random: np.random.Generator) -> Picture:
    """Return the apparent line integrals that the receptor sees, with noise and scatter."""
    step = canvas.mm_per_pixel
    blurred = blurred_picture(np.clip(canvas.attenuation, 0.02, None), random.uniform(0.25, 0.7) / step)
    primary = np.exp(-blurred)
    scatter = random.uniform(0.1, 0.35) * blurred_picture(primary, 25 / step)
    signal = primary + scatter
    # Quantum noise is that of cells of 0.3 mm, so that it looks the same at every size of the picture.
    quanta = random.uniform(0.5e5, 4e5) * (step / 0.3) ** 2
    # The noise has its own stream: only its count of numbers may depend on the size of the picture.
    noise = random.spawn(1)[0].standard_normal(signal.shape, dtype=np.float32)
    noisy = signal + noise * np.sqrt(signal / quanta)
    return np.asarray(-np.log(np.clip(noisy, 1e-5, None)), np.float32)


def _display_picture(apparent: Picture, random: np.random.Generator) -> Picture:
    """Return the picture in 0 to 1 as a console shows it: window, curve, slow shading."""
    inner = apparent[:: max(1, apparent.shape[0] // 200), :: max(1, apparent.shape[1] // 200)]
    low, high = np.percentile(inner, [random.uniform(0.5, 6), random.uniform(98.5, 99.9)])
    scaled = np.clip((apparent - low) / max(float(high - low), 1e-3), 0, 1.15)
    curved = scaled ** random.uniform(0.7, 1.5)
    if random.random() < 0.35:  # noqa: PLR2004  # the share shown like a projection, highlights saturating
        k = random.uniform(1.0, 3.0)
        curved = (1 - np.exp(-k * curved)) / (1 - np.exp(-k))
    shading = 1 + 0.03 * smooth_noise(random, apparent.shape, 2, octaves=1)
    return np.asarray(np.clip(curved * shading * random.uniform(0.75, 0.95), 0, 1), np.float32)


def _draw_marker(picture: Picture, random: np.random.Generator) -> None:
    """Write the side letter that a radiographer lays on the receptor."""
    rows, columns = picture.shape
    size = rows / 900
    place = (int(columns * random.uniform(0.05, 0.12)), int(rows * random.uniform(0.08, 0.2)))
    letter = str(random.choice(["L", "R"]))
    lead = np.zeros(picture.shape, np.uint8)
    cv2.putText(lead, letter, place, cv2.FONT_HERSHEY_SIMPLEX, 1.4 * size, 255, max(1, round(3 * size)), cv2.LINE_AA)
    np.maximum(picture, lead.astype(np.float32) * np.float32(0.97 / 255), out=picture)


def _collimate(picture: Picture, random: np.random.Generator) -> None:
    """Darken the picture outside of the collimator's leaves."""
    rows, columns = picture.shape
    top, bottom = (int(rows * random.uniform(0, 0.04)) for _ in range(2))
    left, right = (int(columns * random.uniform(0, 0.07)) for _ in range(2))
    leaf = np.zeros_like(picture)
    leaf[top : rows - bottom, left : columns - right] = 1
    picture *= 0.04 + 0.96 * blurred_picture(leaf, rows / 700)
