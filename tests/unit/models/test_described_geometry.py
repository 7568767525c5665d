"""Where images lie in the input of a site's network, and the way back: held against SciPy's own coordinates."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from ainode.models.described.boxes import BoxForm
from ainode.models.described.grids import enlarged, grid_placement
from ainode.models.described.placement import placed

SIDES = {"S": (0, 1), "I": (0, -1), "P": (1, 1), "A": (1, -1), "L": (2, 1), "R": (2, -1)}
SHAPE, SPACING = (7, 10, 13), (4.0, 1.5, 0.8)


def _volume() -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 1.0).astype(np.float32)


def _truth(orientation: str, spacing_mm: tuple[float, ...], size: tuple[int, ...]) -> np.ndarray:
    """Return for each voxel of an input its place in the volume, by millimeters around the middle of both."""
    middle_mm = (np.asarray(SHAPE) - 1) / 2 * SPACING
    grids = np.meshgrid(*(np.arange(count) - (count - 1) / 2 for count in size), indexing="ij")
    place_mm = np.zeros((3, *size))
    for grid, letter, step in zip(grids, orientation, spacing_mm, strict=True):
        axis, sign = SIDES[letter]
        place_mm[axis] += sign * step * grid
    return (place_mm + middle_mm[:, None, None, None]) / np.asarray(SPACING)[:, None, None, None]


@pytest.mark.parametrize("orientation", ["SPL", "RAS", "LPS", "ILA", "PIR"])
def test_a_volume_is_turned_and_resampled_as_scipy_does_by_the_places_of_voxels(orientation: str) -> None:
    spacing_mm, size, volume = (0.79, 0.71, 0.61), (24, 25, 26), _volume()  # finer than each side of a voxel
    placement = grid_placement(SHAPE, SPACING, orientation, target_mm=spacing_mm, size=size)
    places = _truth(orientation, spacing_mm, size)
    expected = ndimage.map_coordinates(volume, places, order=1, mode="nearest")
    np.testing.assert_allclose(placement.sampled(volume), expected, atol=1e-5)
    beyond = np.zeros(size, bool)
    for axis, count in enumerate(SHAPE):
        beyond |= (places[axis] < -0.5) | (places[axis] >= count - 0.5)
    np.testing.assert_array_equal(placement.outside(), beyond)
    for index in ((0, 0, 0), (8, 3, 5)):
        np.testing.assert_allclose(placement.index_on_source(index), places[(slice(None), *index)])


def _means(values: np.ndarray, axis: int, middles: np.ndarray, width: float) -> np.ndarray:
    """Return the means of constant voxels, the outer ones going on, around some middles along an axis."""
    beyond = 100
    lines = np.pad(np.moveaxis(values, axis, -1).astype(float), [(0, 0)] * 2 + [(beyond, beyond)], "edge")
    edges = np.arange(lines.shape[-1] + 1) - 0.5 - beyond

    def mean(line: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0], np.cumsum(line)])
        high, low = (np.interp(middles + side * width / 2, edges, total) for side in (1, -1))
        return (high - low) / width

    return np.moveaxis(np.apply_along_axis(mean, -1, lines), -1, axis)


@pytest.mark.parametrize("orientation", ["SPL", "RAS", "LPS", "ILA", "PIR"])
def test_a_coarser_voxel_is_the_mean_of_what_lies_in_it(orientation: str) -> None:
    spacing_mm, size, expected = (5.0, 2.0, 4.1), (9, 8, 12), _volume()
    placement = grid_placement(SHAPE, SPACING, orientation, target_mm=spacing_mm, size=size)
    sampled = placement.sampled(expected)
    places = _truth(orientation, spacing_mm, size)
    for number, letter in enumerate(orientation):
        axis = SIDES[letter][0]
        middles = np.moveaxis(places[axis], number, 0)[:, 0, 0]
        expected = _means(expected, axis, middles, max(1.0, spacing_mm[number] / SPACING[axis]))
    order = [SIDES[letter][0] for letter in orientation]
    np.testing.assert_allclose(sampled, expected.transpose(order), atol=1e-5)


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("fit", ["center", "stretch"])
def test_a_small_bright_place_keeps_its_volume_at_a_coarser_spacing_wherever_it_lies(shift: int, fit: str) -> None:
    volume = np.zeros((16, 32, 32), np.float32)
    volume[4:6, 8 + shift : 10 + shift, 11 + shift : 13 + shift] = 1
    kind = {"target_mm": (4.0, 4.0, 4.0)} if fit == "center" else {"size": (4, 8, 8)}
    sampled = grid_placement(volume.shape, (1.0, 1.0, 1.0), "RAS", fit=fit, **kind).sampled(volume)  # type: ignore[arg-type]
    assert sampled.sum() * 64 == pytest.approx(8, rel=1e-5)


@pytest.mark.parametrize("orientation", ["SPL", "RAS", "PIR"])
def test_values_of_the_input_come_back_to_the_voxels_that_lie_there(orientation: str) -> None:
    spacing_mm, size = (1.0, 0.9, 1.1), (40, 40, 40)
    placement = grid_placement(SHAPE, SPACING, orientation, target_mm=spacing_mm, size=size)
    places = _truth(orientation, spacing_mm, size)
    for axis in range(
        3
    ):  # the input tells for each of its voxels where it lies; the volume's voxels get their own index
        back = placement.on_source(places[axis].astype(np.float32))
        inside = back[2:-2, 2:-2, 2:-2]
        np.testing.assert_allclose(inside, np.indices(SHAPE)[axis][2:-2, 2:-2, 2:-2], atol=1e-4)


@pytest.mark.parametrize("letters", list(itertools.product("SI", "PA", "LR")))
def test_own_voxels_that_are_only_turned_come_back_to_the_last_bit(letters: tuple[str, ...]) -> None:
    volume = _volume()
    for order in itertools.permutations(letters):
        placement = grid_placement(SHAPE, SPACING, "".join(order))
        np.testing.assert_array_equal(placement.on_source(placement.sampled(volume)), volume)


def test_what_was_cut_off_is_nothing_on_the_volume() -> None:
    placement = grid_placement(SHAPE, SPACING, "SPL", size=(3, 4, 5))
    back = placement.on_source(np.ones((3, 4, 5), np.float32), nearest=True)
    assert back.sum() == 3 * 4 * 5
    assert back[2:5, 3:7, 4:9].all()


def test_a_coarse_map_is_laid_over_the_whole_grid() -> None:
    large = enlarged(np.asarray([[[0.0, 1.0]]], np.float32), (1, 1, 8))
    np.testing.assert_allclose(large[0, 0], [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1], atol=1e-6)


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop", "center"])
@pytest.mark.parametrize("shape", [(120, 80), (60, 200)])
def test_a_point_of_a_picture_is_where_the_input_shows_it_and_comes_back(fit: str, shape: tuple[int, int]) -> None:
    picture = np.zeros(shape, np.float32)
    row, column = shape[0] // 2 + 4, shape[1] // 2 - 6
    picture[row - 2 : row + 3, column - 2 : column + 3] = 1
    values, placement = placed(picture, (90, 100), fit)  # type: ignore[arg-type]
    middle = ndimage.center_of_mass(values)
    back = placement.to_source(np.float32(middle[0] + 0.5), np.float32(middle[1] + 0.5))  # type: ignore[arg-type]
    np.testing.assert_allclose(back, (row + 0.5, column + 0.5), atol=0.3)
    np.testing.assert_allclose(ndimage.center_of_mass(placement.on_source(values)), (row, column), atol=0.3)
    coarse = placement.on_source(values.reshape(45, 2, 50, 2).mean(axis=(1, 3)))
    np.testing.assert_allclose(ndimage.center_of_mass(coarse), (row, column), atol=0.3)


@pytest.mark.parametrize(
    ("corners", "box"), [("xyxy", (10, 20, 30, 60)), ("cxcywh", (20, 40, 20, 40)), ("xywh", (10, 20, 20, 40))]
)
@pytest.mark.parametrize("is_normalized", [False, True])
def test_a_box_of_any_form_lies_on_the_same_pixels(corners: str, box: tuple[int, ...], is_normalized: bool) -> None:  # noqa: FBT001
    _, placement = placed(np.zeros((200, 400), np.float32), (100, 100), "pad")  # at a quarter, 25 rows from the top
    form = BoxForm(corners, is_normalized, 1, 0.5, 10)  # type: ignore[arg-type]
    places = np.asarray([box, box], np.float32) / (100 if is_normalized else 1)
    answer = (places, np.asarray([0.9, 0.8], np.float32), np.asarray([1, 1], np.float32))
    (shown,), best = form.boxes(answer, placement, (0.5,))
    assert best == (pytest.approx(0.9),)
    assert (shown.left, shown.right, shown.top, shown.bottom) == pytest.approx((40, 120, 0, 140))


def test_boxes_by_scores_of_each_class_count_above_the_threshold_of_their_class() -> None:
    _, placement = placed(np.zeros((100, 100), np.float32), (100, 100), "stretch")
    places = np.asarray([[0, 0, 10, 10], [20, 20, 40, 40], [21, 20, 41, 40]], np.float32)
    scores = np.asarray([[0.9, 0.3, 0.1], [0.1, 0.8, 0.2], [0.1, 0.7, 0.65]], np.float32)  # the first is background
    boxes, best = BoxForm("xyxy", is_normalized=False, first_label=1, overlap=0.5, most_boxes=10).boxes(
        (places, scores), placement, (0.5, 0.6)
    )
    assert [(box.class_number, round(box.score, 2)) for box in boxes] == [(0, 0.8), (1, 0.65)]
    assert best == pytest.approx((0.8, 0.65))


@pytest.mark.parametrize("step", [1, 4, 16, 32])
@pytest.mark.parametrize("nearest", [False, True])
def test_nothing_is_marked_on_pixels_that_a_network_did_not_see(step: int, nearest: bool) -> None:  # noqa: FBT001
    _, placement = placed(np.zeros((64, 192), np.float32), (64, 64), "crop")
    marked = placement.on_source(np.ones((64 // step, 64 // step), np.float32), nearest=nearest)
    assert marked[:, 64:128].all()
    assert not marked[:, :64].any()
    assert not marked[:, 128:].any()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("start", [1000, 1001, 1002, 1003, 1005])
def test_a_thin_line_keeps_its_share_where_one_axis_shrinks_and_the_other_grows(axis: int, start: int) -> None:
    picture = np.zeros((100, 2000), np.float32)
    picture[:, start : start + 3] = 1
    values, _ = placed(picture if axis else picture.T, (224, 224), "stretch")
    assert values.mean() == pytest.approx(3 / 2000, rel=1e-4)
