"""Answers of networks that a description does not fit are refused, and never turned or cut until they fit."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ainode.models.described.axes import refuse_other_grid
from ainode.models.described.boxes import Box, BoxForm
from ainode.models.described.labels import Marking
from ainode.models.described.placement import Placement, placed
from ainode.models.described.points import Landmark, PointForm
from ainode.models.errors import ModelError, UnusablePicture

Values = NDArray[np.float32]

# A picture of 256 x 128 pixels in an input of 64 x 48: at a quarter, with 8 columns at each side.
_PLACES = [[10, 10, 20, 20], [30, 30, 40, 40], [10, 40, 20, 60]]


def _placement(shape: tuple[int, int] = (256, 128), size: tuple[int, int] = (64, 48)) -> Placement:
    return placed(np.zeros(shape, np.float32), size, "pad")[1]


def _boxes(*answer: Any, thresholds: tuple[float, ...] = (0.5, 0.6), **form: Any) -> tuple[tuple[Box, ...], Any]:  # noqa: ANN401
    values = {"corners": "xyxy", "is_normalized": False, "first_label": 1, "overlap": 0.5, "most_boxes": 10, **form}
    arrays = [np.asarray(item, np.float32) for item in answer]
    return BoxForm(**values).boxes(arrays, _placement(), thresholds)


def test_scores_of_boxes_along_another_axis_than_their_boxes_are_refused() -> None:
    scores = [[0.9, 0.1, 0.1], [0.2, 0.8, 0.1]]
    with pytest.raises(ModelError, match=r"the scores have the shape \(1, 2, 3\); \(n, 2\) or \(1, n, 2\) is read"):
        _boxes([_PLACES], [scores], first_label=0)
    boxes, best = _boxes([_PLACES], [np.transpose(scores)], first_label=0)
    assert [(box.class_number, box.score) for box in boxes] == [(0, pytest.approx(0.9)), (1, pytest.approx(0.8))]
    assert best == pytest.approx((0.9, 0.8))


def test_boxes_along_another_axis_are_refused() -> None:
    with pytest.raises(ModelError, match=r"the boxes have the shape \(1, 4, 3\); \(n, 4\) or \(1, n, 4\) is read"):
        _boxes([np.transpose(_PLACES)], [0.9, 0.9, 0.9], [1, 1, 1])


@pytest.mark.parametrize("columns", [2, 4])
def test_scores_of_other_classes_than_the_description_names_are_refused(columns: int) -> None:
    with pytest.raises(ModelError, match=rf"\(3, {columns}\); \(n, 3\) or \(1, n, 3\) is read"):
        _boxes(_PLACES, np.full((3, columns), 0.9))


def test_a_last_column_of_no_class_is_left_out_where_the_description_says_so() -> None:
    scores = [[0.1, 0.2, 0.9], [0.1, 0.7, 0.2], [0.2, 0.1, 0.8]]
    (box,), best = _boxes(_PLACES, scores, first_label=0, is_last_background=True)
    assert (box.class_number, best) == (1, pytest.approx((0.2, 0.7)))


@pytest.mark.parametrize(("labels", "words"), [([1, 7, 2], "7"), ([0, 1, 2], "0"), ([1, -1, 2], "-1")])
def test_a_label_that_the_description_does_not_name_is_refused(labels: list[int], words: str) -> None:
    with pytest.raises(ModelError, match=f"a box has the label {words}; the description names the labels 1 to 2"):
        _boxes(_PLACES, [0.9, 0.8, 0.7], labels)


def test_a_label_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(ModelError, match="the labels are no whole numbers"):
        _boxes(_PLACES, [1, 1, 1], [0.9, 0.8, 0.7])
    with pytest.raises(UnusablePicture, match="not finite"):
        _boxes(_PLACES, [0.9, 0.8, 0.7], [1, np.nan, 2])


def test_rows_without_a_score_fill_up_an_answer_and_say_nothing() -> None:
    (box,), best = _boxes([[30, 30, 40, 40], [0, 0, 0, 0]], [0.9, 0], [1, -1])
    assert (box.class_number, best) == (0, (pytest.approx(0.9), 0.0))


@pytest.mark.parametrize("place", [[-50, -50, -5, -5], [1, 10, 7, 20], [60, 70, 90, 99], [20, 20, 20, 30]])
def test_a_class_is_not_present_by_a_box_beside_the_image(place: list[int]) -> None:
    with pytest.raises(UnusablePicture, match=r"a box with the score 0\.900 lies beside the image"):
        _boxes([place], [0.9], [1])
    _, best = _boxes([place], [0.4], [1])
    assert best == (0, 0)


def test_boxes_of_other_corners_than_described_are_refused() -> None:
    with pytest.raises(ModelError, match="a box ends before it begins; the description says corners = xyxy"):
        _boxes([[40, 20, 10, 10]], [0.9], [1])


def test_pixels_where_shares_are_described_are_refused_and_the_other_way_round() -> None:
    with pytest.raises(ModelError, match="normalized"):
        _boxes([[0.1, 0.1, 0.5, 0.6]], [0.9], [1])
    with pytest.raises(ModelError, match="normalized"):
        _boxes([[0, 0, 20, 30]], [0.9], [1], is_normalized=True)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7])
def test_a_class_is_above_its_threshold_by_the_numbers_that_its_boxes_are(threshold: float) -> None:
    boxes, (best,) = _boxes([[10, 10, 20, 20]], [threshold], [1], thresholds=(threshold,))
    assert bool(boxes) == (best > threshold)


def test_the_surest_box_of_each_class_is_among_the_boxes() -> None:
    boxes, _ = _boxes(_PLACES, [0.9, 0.8, 0.7], [1, 1, 2], most_boxes=2)
    assert [box.class_number for box in boxes] == [0, 1]


def _landmarks(answer: Any, count: int = 3, *, form: str = "places", **keys: Any) -> tuple[Landmark | None, ...]:  # noqa: ANN401
    values = {"form": form, "order": "xy", "is_normalized": False, **keys}
    return PointForm(**values).landmarks(np.asarray(answer, np.float32), _placement(), count)


def test_places_along_another_axis_are_refused() -> None:
    with pytest.raises(ModelError, match=r"the shape \(1, 2, 3\); \(1, 3, 2\) or \(1, 6\) is read"):
        _landmarks([[[10, 20, 30], [1, 2, 3]]])
    first = _landmarks([[[10, 1], [20, 2], [30, 3]]])
    assert first == _landmarks([[10, 1, 20, 2, 30, 3]])


def test_a_place_outside_of_the_input_is_refused_and_not_moved_to_the_border() -> None:
    with pytest.raises(UnusablePicture, match="a landmark lies outside of the network's input"):
        _landmarks([[[500, -300], [10, 20], [12, 9]]])


def test_a_place_beside_the_image_is_not_placed() -> None:
    outside, inside, other = _landmarks([[[3, 20], [10, 20], [12, 9]]])
    assert outside is None
    assert inside is not None
    assert other is not None
    assert (inside.column, inside.row) == pytest.approx((8, 80))


def test_places_that_are_shares_where_pixels_are_described_are_refused() -> None:
    with pytest.raises(ModelError, match="normalized"):
        _landmarks([[[0.5, 0.2], [0.3, 0.3], [0.4, 0.9]]])
    with pytest.raises(ModelError, match="normalized"):
        _landmarks([[[0.5, 0.2]]], count=1)


def test_a_flat_heat_map_places_nothing() -> None:
    maps = np.zeros((1, 3, 16, 12), np.float32)
    maps[0, 1, 4, 6] = 0.9
    nowhere, middle, last = _landmarks(maps, form="heatmaps", stride=4)
    assert (nowhere, last) == (None, None)
    assert middle is not None
    assert (middle.column, middle.row) == pytest.approx(((6.5 * 4 - 8) * 4, 4.5 * 16))


def test_heat_maps_behind_rows_and_columns_are_read_where_the_channels_of_the_input_are_last() -> None:
    maps = np.zeros((1, 64, 48, 3), np.float32)
    maps[0, 18, 26, :] = 0.9, 0.8, 0.7
    marks = _landmarks(maps, form="heatmaps", is_channels_last=True)
    assert [mark and mark.score for mark in marks] == pytest.approx([0.9, 0.8, 0.7])
    assert marks == _landmarks(maps.transpose(0, 3, 1, 2), form="heatmaps")
    with pytest.raises(ModelError, match="answers with 64 landmarks"):
        _landmarks(maps, form="heatmaps")


def test_turned_heat_maps_are_refused() -> None:
    with pytest.raises(ModelError, match="12 x 16 cells; the input has 64 x 48"):
        _landmarks(np.eye(3, 12 * 16).reshape(1, 3, 12, 16), form="heatmaps")


@pytest.mark.parametrize(("grid", "stride"), [((64, 48), 1), ((32, 24), 2), ((16, 12), 4), ((4, 3), 16)])
def test_a_grid_over_the_whole_input_is_read(grid: tuple[int, int], stride: int) -> None:
    refuse_other_grid(grid, (64, 48), stride)


@pytest.mark.parametrize(
    "grid", [(48, 64), (48, 2), (2, 64), (24, 32), (56, 40), (63, 47), (32, 24), (16, 12), (22, 16), (2, 2), (128, 96)]
)
def test_a_grid_that_is_turned_cut_coarser_or_of_other_axes_is_refused(grid: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match=f"{grid[0]} x {grid[1]} cells; the input has 64 x 48: "):
        refuse_other_grid(grid, (64, 48))


@pytest.mark.parametrize("cells", [13, 12, 10, 7, 1])
def test_a_heat_map_without_its_border_is_not_stretched_over_the_input(cells: int) -> None:
    with pytest.raises(ModelError, match=f"{cells} x {cells} cells; the input has 224 x 224 and stride = 16"):
        refuse_other_grid((cells, cells), (224, 224), 16)


def test_a_softmax_over_one_channel_is_refused() -> None:
    marking = Marking("channels", (0,), "softmax", 0.5)
    with pytest.raises(ModelError, match="softmax over one channel is 1 everywhere"):
        marking.labels(np.full((1, 1, 8, 8), -4, np.float32), 2, lambda values, _: values)
