"""Synthetic CT of chest, abdomen and head on one grid, and a CT of any values as a study on disk."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.phantoms import abdomen as abdomens
from ainode.models.phantoms.thorax import Field, thorax
from ainode.node import testing
from ainode.node.domain import Header, Study, SyntheticImage
from ainode.node.encoding import headers

Values = NDArray[np.float32]
Arrange = Callable[[Sequence[SyntheticImage]], Sequence[SyntheticImage]]

SPACING_MM = (7.0, 3.9, 3.9)
SIDE = 96
_MUSCLE, _BONE, _AIR = 40, 700, -1000


@cache
def chest(seed: int = 0, consolidations: int = 0) -> Values:
    """Return a whole chest, from some slices below the lungs to the neck."""
    scanned = Field((40, SIDE, SIDE), SPACING_MM)
    return np.asarray(thorax(seed, seed, scanned=scanned, consolidations=consolidations).values, np.float32)


@cache
def abdomen(seed: int = 0, slices: int = 40) -> Values:
    """Return an abdomen on the grid of the chest."""
    phantom = abdomens.abdomen(np.random.default_rng(seed), slices=slices, side=SIDE, step_mm=SPACING_MM[0])
    return np.asarray(phantom.values, np.float32)


@cache
def head(slices: int = 30) -> Values:
    """Return a skull with a brain, an air sinus and a throat, at 4 mm pixels."""
    z, y, x = np.mgrid[:slices, :SIDE, :SIDE].astype(np.float32)
    values = np.full(z.shape, _AIR, np.float32)
    radius = np.sqrt(((y - SIDE / 2) / 26) ** 2 + ((x - SIDE / 2) / 20) ** 2)
    values[radius < 1] = _MUSCLE
    values[(radius > 0.85) & (radius < 0.95)] = _BONE  # the skull
    values[(z < slices / 2) & (np.hypot(y - 30, x - SIDE / 2) < 4)] = _AIR  # a sinus and the throat
    return values + np.random.default_rng(0).normal(0, 15, values.shape).astype(np.float32)


def with_gas(values: Values, first: int, last: int, hounsfield: float = -850) -> Values:
    """Return a body with wide gas in slices, 9 % of the body, as thin as aerated lung."""
    y, x = np.mgrid[: values.shape[1], : values.shape[2]]
    changed = values.copy()
    changed[first:last, np.hypot((y - SIDE / 2) / 12, (x - SIDE / 2) / 14) < 1] = hounsfield
    return changed


def study(
    values: Values,
    folder: Path,
    *,
    spacing_mm: Sequence[float] = SPACING_MM,
    arrange: Arrange = tuple,
    **header: str | float | tuple[float, ...],
) -> Study:
    """Write a volume as axial slices and return the study; `arrange` may reorder or change the slices."""
    common: Header = {"BodyPartExamined": "CHEST", "ConvolutionKernel": "LUNG", **header}
    images = arrange(testing.ct(values, spacing_mm, frame="a body", header=common))
    paths = testing.write(images, folder, study="a body")
    return headers.study(headers.instance(path, sha256="") for path in paths)


def enhanced(aorta: float, liver: float, slices: int = 16) -> Values:
    """Return a body with a liver, a spine with a cortex and an aorta before it, 256 x 256 pixels of 1.5 mm."""
    y, x = np.mgrid[:256, :256]
    plane = np.full((256, 256), _AIR, np.float32)
    plane[((y - 128) / 84) ** 2 + ((x - 128) / 112) ** 2 < 1] = 50
    plane[((y - 125) / 50) ** 2 + ((x - 150) / 45) ** 2 < 1] = -100
    plane[((y - 115) / 45) ** 2 + ((x - 70) / 40) ** 2 < 1] = liver
    plane[np.hypot(y - 160, x - 130) < 14] = 600
    plane[np.hypot(y - 160, x - 130) < 11] = 180
    plane[np.hypot(y - 135, x - 137) < 7] = aorta
    noise = np.random.default_rng(0).normal(0, 8, (slices, 256, 256))
    return np.asarray(plane + noise, np.float32)
