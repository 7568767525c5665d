"""A bright cross at a place of a picture changes the map of every shipped network at that place.

A trained network is no ruler: a single cross may move what it says of the neighborhood. So the place is the mean over
crosses on all sides of the middle; the tolerance is a cell of the network's map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.node import ROOT

from ainode.models.ct_pneumonia.model import PneumoniaModel
from ainode.models.ct_tumor.card import read_card
from ainode.models.ct_tumor.model import TumorModel
from ainode.models.ct_tumor.preprocess import map_on_slice_grid
from ainode.models.lung_nodule.model import LungNoduleModel
from ainode.models.lung_nodule.patches import Scan
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.phantoms.spine import spine_radiograph
from ainode.models.phantoms.thorax import thorax
from ainode.models.running.runtime import Execution
from ainode.models.skin_lesion.model import SkinLesionModel
from ainode.models.spine_radiograph.model import SpineRadiographModel, weights_in

pytestmark = pytest.mark.long
WEIGHTS = ROOT / "weights"
Array = NDArray[np.float32]
Read = Callable[[Array], Array]
Place = tuple[int, ...]


def crossed(values: Array, place: Place, *, arm: int, bright: float) -> Array:
    """Return values (..., rows, columns) with a cross whose middle is the corner between four pixels at `place`."""
    row, column = place[-2:]
    half = max(1, arm // 3)
    changed = values.copy()
    for slice_ in changed[place[0] - 1 : place[0] + 2] if len(place) > 2 else [changed]:  # slice, row, column
        slice_[row - arm : row + arm, column - half : column + half] = bright
        slice_[row - half : row + half, column - arm : column + arm] = bright
    return changed


def displacement(read: Read, values: Array, places: Iterable[Place], *, arm: int, bright: float) -> Array:
    """Return how far, on average, a map changes from where a cross was put: down and to the right, in pixels."""
    before = read(values)
    distances = []
    for place in places:
        change = (read(crossed(values, place, arm=arm, bright=bright)) - before) ** 2
        plane = change.sum(axis=tuple(range(change.ndim - 2)))
        middles = [np.arange(count) + 0.5 for count in plane.shape]
        middle = plane.sum(axis=1) @ middles[0], plane.sum(axis=0) @ middles[1]
        distances.append(np.asarray(middle) / plane.sum() - place[-2:])
    return np.asarray(np.mean(distances, axis=0), np.float32)


def around(values: Array) -> list[Place]:
    """Return four places on all sides of the middle."""
    rows, columns = ([round(count * share) for share in (0.3, 0.7)] for count in values.shape[:2])
    return list(product(rows, columns))


@pytest.fixture(scope="module")
def execution(tmp_path_factory: pytest.TempPathFactory) -> Execution:
    return Execution(tmp_path_factory.mktemp("graphs"), "cpu")


@pytest.mark.parametrize("organ_name", ["lung", "pancreas"])
def test_a_cross_on_a_ct_slice_stands_in_the_tumor_map(execution: Execution, organ_name: str) -> None:
    organ = read_card().organ(organ_name)
    model = TumorModel.load(WEIGHTS / f"ct_tumor_{organ_name}.safetensors", organ, execution=execution)
    slice_ = abdomen(np.random.default_rng(0), slices=12, side=256, step_mm=8, tumor=False).values[6]

    def read(values: Array) -> Array:
        (reading,) = model.read([values]).slices
        return map_on_slice_grid(reading.map, reading.placement)

    cell = 256 / 7
    off = displacement(read, slice_, around(slice_), arm=8, bright=400)
    assert np.abs(off).max() < cell


def test_a_cross_on_a_photograph_stands_in_the_skin_map(execution: Execution) -> None:
    model = SkinLesionModel.load({"lesion_cells": WEIGHTS / "skin_lesion_cells.safetensors"}, execution=execution)
    picture = skin_lesion(np.random.default_rng(0), rows=225, columns=300).astype(np.float32)

    def read(values: Array) -> Array:
        return model.predict(values.astype(np.uint8)).saliency

    off = displacement(read, picture, around(picture), arm=9, bright=255)
    assert (np.abs(off) < (225 / 9, 300 / 12)).all()


def test_a_cross_on_a_radiograph_with_oblong_pixels_stands_in_the_spine_map(execution: Execution) -> None:
    model = SpineRadiographModel.load(weights_in(WEIGHTS), execution=execution)
    picture = spine_radiograph(np.random.default_rng(0), rows=512, columns=384).image.astype(np.float32)
    read = partial(model.predict, height_per_width=0.5)
    off = displacement(
        lambda values: read(values).saliency, picture, around(picture), arm=16, bright=float(picture.max())
    )
    assert (np.abs(off) < (512 / 7, 384 / 7)).all()


def nodule() -> Array:
    """Return a lung with a ball of 16 mm in its middle, in slices of 1 mm, pixels of 0.7 mm down and 0.9 mm across."""
    z, y, x = np.mgrid[:60, :128, :128]
    ball = np.hypot(np.hypot((y - 64) * 0.7, (x - 64) * 0.9), z - 30) < 8
    noise = np.random.default_rng(0).normal(0, 25, ball.shape)
    return np.asarray(np.where(ball, 30, -850) + noise, np.float32)


@pytest.mark.parametrize(("dates", "cell_mm"), [(1, 32 / 24), (2, 50 / 7)])
def test_a_cross_beside_a_nodule_stands_in_the_nodule_map(execution: Execution, dates: int, cell_mm: float) -> None:
    paths = {name: Path(WEIGHTS / f"lung_nodule_{name}.safetensors") for name in ("lidc", "temporal")}
    model = LungNoduleModel.load(paths, execution=execution)
    values, spacing, point = nodule(), (1.0, 0.7, 0.9), (30.0, 64.0, 64.0)
    voxels = np.indices(values.shape).astype(np.float64)
    prior = [Scan(values, spacing, point)] * (dates - 1)

    def read(scan: Array) -> Array:
        reader = model.single_scan_reader if dates == 1 else model.series_reader
        map_ = reader([*prior, Scan(scan, spacing, point)]).maps[-1]
        assert map_ is not None
        return map_.values_at(voxels)

    places = list(product((30,), (56, 72), (56, 72)))
    off = displacement(read, values, places, arm=5, bright=1200) * spacing[1:]
    assert np.abs(off).max() < cell_mm


def test_a_cross_in_a_lung_stands_in_the_pneumonia_map(execution: Execution) -> None:
    model = PneumoniaModel.load(WEIGHTS / "ct_pneumonia_small.safetensors", execution=execution)
    values = thorax(3, 3, consolidations=0).values
    voxels = np.indices(values.shape).astype(np.float64)
    places = list(product((22, 42), (51, 77), (32, 96)))
    off = displacement(lambda scan: model.predict(scan, 1).saliency_at(voxels), values, places, arm=6, bright=100)
    assert np.abs(off).max() < 8
