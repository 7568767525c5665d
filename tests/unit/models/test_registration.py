"""Two scans of one patient find each other, and a nodule its place in the other one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from hashlib import sha256
from json import loads

import numpy as np
import pytest
from scipy.ndimage import affine_transform
from support.files import installed, shared

from ainode.models.following import (
    FollowedNodule,
    Grid,
    NodulePlace,
    Omission,
    Position,
    RigidTransform,
    nodule_place,
    nodule_through_transform,
    register,
)
from ainode.models.phantoms.thorax import Field, Nodule, nodule_position, thorax
from ainode.models.phantoms.thorax_anatomy import Build

PATIENT = 2
AXES: tuple[Position, Position, Position] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
COARSE = (5.0, 4.0, 4.0)
UNMOVED = RigidTransform(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.0, 0.0, 0.0), 1.0, 1.0)


@cache
def _chest(day: int, *, slices: int = 48, at_mm: float = 0.0) -> tuple[Grid, Position]:
    """Return a scan of the one patient and where his nodule is in it."""
    place = nodule_position(np.random.default_rng(1), PATIENT, 12)
    field = Field(size=(slices, 84, 84), spacing_mm=COARSE, center_mm=(at_mm, 0.0, 0.0))
    drawn = thorax(PATIENT, day, scanned=field, nodules=(Nodule(place, 12),))
    grid = Grid(drawn.values, (10.0 * day, -200.0, 5.0), COARSE, AXES)
    return grid, _there(grid, drawn.nodule_centers[0])


@cache
def _lung(day: int, *diameters_mm: float) -> tuple[Grid, Position]:
    """Return a scan of the part of the lung around the nodule, thin slices, and the nodule's place."""
    place = nodule_position(np.random.default_rng(1), PATIENT, 18)
    field = Field((80, 90, 90), (1.0, 1.0, 1.0), Nodule(place, 1).center_mm(Build.of_patient(PATIENT)))
    drawn = thorax(PATIENT, day, scanned=field, nodules=[Nodule(place, d) for d in diameters_mm])
    center = drawn.nodule_centers[0] if diameters_mm else (39.5, 44.5, 44.5)
    grid = Grid(drawn.values, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), AXES)
    return grid, _there(grid, center)


def _there(grid: Grid, index: tuple[float, float, float]) -> Position:
    x, y, z = grid.positions(index)
    return (float(x), float(y), float(z))


def _distance(one: Position, other: Position) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def _turn(degrees: float) -> np.ndarray:
    """Return a rotation about an oblique axis (Rodrigues)."""
    x, y, z = np.array((0.6, 0.0, 0.8))
    cross = np.array(((0, -z, y), (z, 0, -x), (-y, x, 0)))
    angle = np.radians(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _scanned_again(grid: Grid, turn: np.ndarray, shift_mm: np.ndarray) -> Grid:
    """Return the grid's patient after a turn about LPS 0 and a shift, on the same voxels."""
    to_mm = (np.asarray(grid.axes) * np.asarray(grid.spacing_mm)[:, None]).T
    origin, to_index = np.asarray(grid.origin_mm), np.linalg.inv(to_mm)
    matrix = to_index @ turn.T @ to_mm
    offset = to_index @ (turn.T @ (origin - shift_mm) - origin)
    return replace(grid, values=affine_transform(grid.values, matrix, offset, order=1, cval=-1000))


def test_a_real_scan_shifted_and_turned_is_matched_within_two_millimeters_at_its_nodule() -> None:
    installed("pydicom")
    from ainode.node.encoding.headers import instance
    from ainode.node.imaging.geometry import Stack, stack, volume

    folder = shared("data/dicom/ct_chest_thin_R01-001")
    files = sorted((folder / "dicom").iterdir())
    slices = stack(instance(file, sha256=sha256(file.name.encode()).hexdigest()) for file in files)
    assert isinstance(slices, Stack)
    found = volume(slices)
    scan = Grid(found.values, found.origin_mm, found.spacing_mm, found.axes).coarser(1.4)
    x, y, z = loads((folder / "nodule.json").read_text())["nodule_center_LPS_mm"]
    turn = _turn(4)
    middle = scan.positions((np.asarray(scan.values.shape) - 1) / 2)
    shift = middle - turn @ middle + np.array((0.0, 0.0, 12.0))

    transform = register(scan, _scanned_again(scan, turn, shift))

    assert isinstance(transform, RigidTransform)
    truth = turn @ np.array((x, y, z)) + shift
    assert np.linalg.norm(np.subtract(transform((x, y, z)), truth)) < 0.5
    assert transform.turn_degrees == pytest.approx(4, abs=0.2)


def test_the_same_patient_on_another_day_is_matched_wherever_his_frame_of_reference_begins() -> None:
    (today, here), (then, there) = _chest(1), _chest(2)
    transform = register(today, then)
    assert isinstance(transform, RigidTransform)
    assert _distance(transform(here), there) < 1
    assert transform.correlation > 0.98
    assert transform.overlap > 0.9


def test_the_same_two_scans_give_the_same_numbers() -> None:
    (today, _), (then, _) = _chest(1, slices=14), _chest(2, slices=14)
    assert register(today, then) == register(today, then)


def test_a_slab_is_found_in_the_whole_chest() -> None:
    (today, here), (then, there) = _chest(1, slices=17, at_mm=60), _chest(2)
    transform = register(today, then)
    assert isinstance(transform, RigidTransform)
    assert _distance(transform(here), there) < 2


def test_the_axes_of_a_scan_are_used_and_not_assumed() -> None:
    (today, here), (then, _) = _chest(1), _chest(2)
    turn = _turn(7)
    rows = [tuple(turn @ np.asarray(axis)) for axis in then.axes]
    tilted = replace(then, axes=(rows[0], rows[1], rows[2]))
    straight, oblique = register(today, then), register(today, tilted)
    assert isinstance(straight, RigidTransform)
    assert isinstance(oblique, RigidTransform)
    index = then.indices(straight(here))
    assert _distance(oblique(here), _there(tilted, (index[0], index[1], index[2]))) < 0.5


def test_scans_of_different_parts_are_refused() -> None:
    answer = register(_chest(1, slices=14, at_mm=75)[0], _chest(2, slices=14, at_mm=-65)[0])
    assert isinstance(answer, Omission)
    assert answer.code in {"no-overlap", "poor-match"}


def test_a_scan_without_a_body_is_refused() -> None:
    today, _ = _chest(1, slices=14)
    answer = register(today, replace(today, values=np.full_like(today.values, -1000)))
    assert isinstance(answer, Omission)
    assert answer.code == "no-body"


def test_noise_is_no_match() -> None:
    today, _ = _chest(1, slices=14)
    noise = np.random.default_rng(0).normal(0, 300, today.values.shape).astype(np.float32)
    answer = register(today, replace(today, values=noise))
    assert isinstance(answer, Omission)


def test_a_nodule_that_the_lung_moved_is_found_again() -> None:
    today, here = _lung(1, 10)
    moved = replace(today, values=np.roll(today.values, (7, -4, 3), axis=(0, 1, 2)))
    found = nodule_place(today, moved, here, UNMOVED)
    assert isinstance(found, NodulePlace)
    assert _distance(found.position_mm, (here[0] + 3, here[1] - 4, here[2] + 7)) < 1
    assert found.shift_mm == pytest.approx(np.sqrt(7**2 + 4**2 + 3**2), abs=1)


@pytest.mark.parametrize("before_mm", [5.0, 9.0])
def test_a_nodule_that_grew_is_found_at_its_center(before_mm: float) -> None:
    (today, here), (then, there) = _lung(1, 18), _lung(1, before_mm)
    found = nodule_through_transform(today, then, here, UNMOVED)
    assert isinstance(found, FollowedNodule)
    assert _distance(found.place.position_mm, there) < 2


def test_a_nodule_that_was_not_there_is_not_found() -> None:
    (today, here), (then, _) = _lung(1, 9), _lung(1)
    answer = nodule_place(today, then, here, UNMOVED)
    assert isinstance(answer, Omission)
    assert answer.code in {"nothing-alike", "nothing-dense"}


def test_a_nodule_outside_of_the_earlier_scan_is_left_out_and_said_so() -> None:
    today, here = _lung(1, 10)
    below = replace(today, values=today.values[:25])
    answer = nodule_through_transform(today, below, here, UNMOVED)
    assert isinstance(answer, Omission)
    assert answer.code == "outside"


def test_a_grid_without_upright_axes_is_no_grid() -> None:
    with pytest.raises(ValueError, match="axes"):
        Grid(np.zeros((2, 2, 2), np.float32), (0, 0, 0), (1, 1, 1), ((0, 0, 1), (0, 1, 0), (0, 1, 1)))
