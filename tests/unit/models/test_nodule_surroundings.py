"""A point outside of the lungs is told so; a mass in a lung, also one that reaches wall and spine, is no such point."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray
from support import installed, shared

installed("scipy", "torch")

from ainode.models.following import Grid  # noqa: E402
from ainode.models.nodule_outline.surroundings import place_outside_lung  # noqa: E402
from ainode.node.domain import Position  # noqa: E402
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.imaging.geometry import Stack, stack, volume  # noqa: E402

AXES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
SPACING = (4.0, 1.5, 1.5)
MASS = "data/dicom/ct_chest_5mm_Lung_Dx-A0001"
THIN = "data/dicom/ct_chest_thin_R01-001/dicom"


def scan_of(folder: str) -> tuple[Stack, Grid]:
    files = shared(folder).rglob("*.dcm")
    slices = stack(headers.study(headers.instance(path, sha256="") for path in files).instances)
    assert isinstance(slices, Stack)
    whole = volume(slices)
    return slices, Grid(whole.values, whole.origin_mm, whole.spacing_mm, whole.axes)


def chest_with_ribs() -> NDArray[np.float32]:
    """Return a body of soft tissue with a ring of bone, a lung on either side, and a mass at the wall of the left."""
    z, y, x = np.meshgrid(
        *(np.arange(n) * s - n * s / 2 for n, s in zip((30, 200, 240), SPACING, strict=True)), indexing="ij"
    )
    body = np.hypot(y / 105, x / 160)
    values = np.where(body < 1, 40.0, -1000.0)
    values[(body > 0.80) & (body < 0.84)] = 600
    for side in (-1, 1):
        values[np.hypot(y / 70, (x - side * 70) / 48) < 1] = -850
    values[np.sqrt(z**2 + (y - 10) ** 2 + (x - 95) ** 2) < 25] = 40
    return (values + np.random.default_rng(0).normal(0, 15, values.shape)).astype(np.float32)


def grid() -> Grid:
    return Grid(chest_with_ribs(), (-180.0, -150.0, -60.0), SPACING, AXES)


@pytest.mark.parametrize(
    ("position_mm", "words"),
    [
        ((40.0, 96.0, 0.0), "lead out of the body without lung or rib before them"),
        ((-145.0, 0.0, 0.0), "lead out of the body without lung or rib before them"),
        ((0.0, 20.0, 0.0), "it lies between the lungs, "),
        ((12.0, -30.0, 0.0), "it lies between the lungs, "),
    ],
    ids=["muscle beside the spine", "muscle at the side", "mediastinum", "heart"],
)
def test_wall_and_middle_are_no_lung(position_mm: Position, words: str) -> None:
    refusal = place_outside_lung(grid(), position_mm)
    assert refusal is not None
    assert refusal.code == "not-in-lung"
    assert refusal.reason.startswith("the point is not in a lung: ")
    assert words in refusal.reason


def test_a_mass_at_the_wall_may_be_in_a_lung() -> None:
    assert place_outside_lung(grid(), (95.0, 10.0, 0.0)) is None
    assert place_outside_lung(grid(), (100.0, 10.0, 8.0)) is None


def test_a_slice_without_lung_is_of_no_lung() -> None:
    values = np.where(chest_with_ribs() < -600, np.where(chest_with_ribs() < -960, -1000, 40), 40).astype(np.float32)
    refusal = place_outside_lung(Grid(values, (-180.0, -150.0, -60.0), SPACING, AXES), (95.0, 10.0, 0.0))
    assert refusal is not None
    assert refusal.reason == ("the point is not in a lung: the slices up to 16 mm around it show 0 cm2 of aerated lung")


def test_no_point_of_a_real_mass_at_wall_and_spine_is_said_to_be_outside_of_the_lung() -> None:
    slices, scan = scan_of(MASS)
    numbers = {str(instance.ref.sop_instance_uid): number for number, instance in enumerate(slices.instances)}
    boxes = [path for path in shared(f"{MASS}/annotation_xml").glob("*.xml") if path.stem in numbers]
    assert len(boxes) == 11
    points = 0
    for path in boxes:
        left, top, right, bottom = (int(ET.parse(path).findtext(f".//{name}") or 0) for name in BOX)  # noqa: S314 - local
        for across in (0.35, 0.5, 0.65):
            for down in (0.35, 0.5, 0.65):
                place = slices.position(numbers[path.stem], top + down * (bottom - top), left + across * (right - left))
                z, y, x = np.rint(scan.indices(place)).astype(int)
                if scan.values[z, y, x] > -100:
                    points += 1
                    assert place_outside_lung(scan, place) is None, (path.stem, across, down)
    assert points > 80


BOX = ("xmin", "ymin", "xmax", "ymax")


def test_real_muscle_behind_the_ribs_is_said_to_be_outside_of_the_lungs() -> None:
    _, scan = scan_of(THIN)
    muscle = [(18, 360, 144), (16, 152, 112), (40, 144, 192), (38, 176, 104)]
    for voxel in muscle:
        x, y, z = (float(value) for value in scan.positions(np.asarray(voxel, np.float64)))
        assert -10 < scan.values[voxel] < 90
        refusal = place_outside_lung(scan, (x, y, z))
        assert refusal is not None, voxel
        assert refusal.code == "not-in-lung"
