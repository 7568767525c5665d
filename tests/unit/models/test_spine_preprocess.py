"""Preparation, the letterbox, and the way back to the source grid."""

from __future__ import annotations

import numpy as np
import pytest
from support.letterbox import on_input

from ainode.models.errors import UnusablePicture
from ainode.models.phantoms.spine import spine_radiograph
from ainode.models.spine_radiograph.preprocess import (
    Placement,
    classifier_input,
    letterbox,
    map_on_source_grid,
    reason_unusable,
)


def test_the_input_is_one_square_channel_from_zero_to_one() -> None:
    drawn = spine_radiograph(np.random.default_rng(0), rows=600, columns=400)
    for resize in ("stretch", "pad"):
        prepared = classifier_input(drawn.image.astype(np.float32), 224, resize)
        assert prepared.shape == (1, 1, 224, 224)
        assert prepared.dtype == np.float32
        assert prepared.min() >= 0
        assert prepared.max() <= 1


def test_scale_and_offset_of_the_stored_values_do_not_matter() -> None:
    pixels = spine_radiograph(np.random.default_rng(0), rows=400, columns=300).image.astype(np.float32)
    assert np.allclose(classifier_input(pixels, 224), classifier_input(pixels * 7 - 1000, 224), atol=1e-4)


def test_a_small_picture_is_refused_with_its_size() -> None:
    assert "200" in str(reason_unusable(np.zeros((200, 900), np.float32)))
    with pytest.raises(UnusablePicture, match="256"):
        classifier_input(np.zeros((200, 900), np.float32), 224)


def test_a_uniform_picture_is_refused() -> None:
    picture = np.full((400, 400), 2000, np.float32)
    assert "uniform" in str(reason_unusable(picture))
    picture[10:14, 10:14] = 4095
    assert "uniform" in str(reason_unusable(picture))


def test_pixels_that_are_no_numbers_are_refused() -> None:
    assert "finite" in str(reason_unusable(np.full((300, 300), np.nan, np.float32)))


def test_a_spine_is_usable() -> None:
    assert (
        reason_unusable(spine_radiograph(np.random.default_rng(0), rows=400, columns=300).image.astype(np.float32))
        is None
    )


@pytest.mark.parametrize("shape", [(1000, 500), (500, 1000), (333, 777), (640, 640)])
def test_boxes_come_back_from_the_letterbox_to_where_they_were(shape: tuple[int, int]) -> None:
    rows, columns = shape
    boxes = np.asarray([[10, 20, 200, 300], [0, 0, columns, rows]], np.float32)
    _, placement = letterbox(np.zeros(shape, np.float32), 320)
    assert np.allclose(placement.to_source(on_input(boxes, placement)), boxes, atol=1e-2)


def test_a_bright_square_lies_in_the_letterbox_where_its_placement_says() -> None:
    picture = np.zeros((800, 400), np.float32)
    picture[200:400, 100:200] = 1
    square, placement = letterbox(picture, 320, fill=0)
    x0, y0, x1, y1 = on_input(np.asarray([[100, 200, 200, 400]], np.float32), placement)[0]
    rows, columns = np.nonzero(square > 0.5)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx((x0, y0, x1, y1), abs=1)


def test_boxes_are_clipped_to_the_source() -> None:
    placement = Placement((0.5, 0.5), (0.0, 0.0), (100, 60))
    assert placement.to_source(np.asarray([[-5, -5, 900, 900]], np.float32)).tolist() == [[0, 0, 60, 100]]


def test_a_map_fills_the_source_grid_and_an_empty_one_stays_empty() -> None:
    small = np.zeros((7, 7), np.float32)
    placement = Placement((1.0, 1.0), (0.0, 0.0), (70, 140))
    assert map_on_source_grid(small, placement).max() == 0
    small[6, 0] = 3
    large = map_on_source_grid(small, placement)
    assert large.shape == (70, 140)
    assert large[-1, 0] == pytest.approx(1)
    assert large[0, -1] == 0


@pytest.mark.parametrize("height_per_width", [0.5, 2.0])
def test_a_picture_of_pixels_that_are_no_squares_is_stretched_in_the_letterbox(height_per_width: float) -> None:
    rows, columns = round(400 / height_per_width), 300
    picture = np.zeros((rows, columns), np.float32)
    picture[rows // 4 : rows // 2, 75:150] = 1
    square, placement = letterbox(picture, 320, fill=0, height_per_width=height_per_width)
    bright_rows, bright_columns = np.nonzero(square > 0.5)
    assert np.ptp(bright_rows) / np.ptp(bright_columns) == pytest.approx(100 / 75, rel=0.05)
    corners = np.array([[bright_columns.min(), bright_rows.min(), bright_columns.max() + 1, bright_rows.max() + 1]])
    expected = [75, rows / 4, 150, rows / 2]
    assert placement.to_source(corners.astype(np.float32))[0] == pytest.approx(expected, abs=2 / min(placement.scale))
