"""The synthetic radiographs: the same for the same seed, and true to their boxes."""

from __future__ import annotations

import numpy as np
import pytest

from ainode.models.phantoms.spine import REGIONS, VIEWS, spine_radiograph
from ainode.models.phantoms.spine_lesions import IMPLANT


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("region", REGIONS)
def test_the_same_seed_draws_the_same_picture(view: str, region: str) -> None:
    one, two = (
        spine_radiograph(np.random.default_rng(5), rows=400, columns=300, view=view, region=region) for _ in range(2)
    )
    assert np.array_equal(one.image, two.image)
    assert one.boxes == two.boxes


def test_pictures_are_twelve_bit_and_of_the_size_asked_for() -> None:
    drawn = spine_radiograph(np.random.default_rng(1), rows=500, columns=260)
    assert drawn.image.shape == (500, 260)
    assert drawn.image.dtype == np.uint16
    assert 1000 < drawn.image.max() <= 4095


def test_a_normal_picture_has_no_box_and_an_abnormal_one_has_some() -> None:
    for seed in range(6):
        assert spine_radiograph(np.random.default_rng(seed), rows=256, columns=256, abnormal=False).boxes == ()
        assert spine_radiograph(np.random.default_rng(seed), rows=256, columns=256, abnormal=True).boxes


def test_boxes_lie_inside_the_picture() -> None:
    for seed in range(20):
        for _, x0, y0, x1, y1 in spine_radiograph(np.random.default_rng(seed), rows=300, columns=200).boxes:
            assert 0 <= x0 < x1 <= 200
            assert 0 <= y0 < y1 <= 300


def test_a_seed_draws_the_same_patient_at_any_size() -> None:
    small, large = (
        spine_radiograph(np.random.default_rng(11), rows=rows, columns=rows // 2, abnormal=True) for rows in (300, 900)
    )
    for one, other in zip(small.boxes, large.boxes, strict=True):
        assert one[0] == other[0]
        assert np.allclose(np.asarray(one[1:]) * 3, other[1:], atol=3)


def test_metal_is_brighter_inside_its_box_than_around_it() -> None:
    checked = 0
    for seed in range(40):
        drawn = spine_radiograph(np.random.default_rng(seed), rows=400, columns=300, abnormal=True)
        for kind, x0, y0, x1, y1 in drawn.boxes:
            if kind == IMPLANT:
                inside = drawn.image[round(y0) : round(y1), round(x0) : round(x1)]
                row = drawn.image[round(y0) : round(y1)]
                assert np.percentile(inside, 95) > np.median(row)
                checked += 1
    assert checked >= 3


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(ValueError, match="OBLIQUE"):
        spine_radiograph(np.random.default_rng(0), view="OBLIQUE")
