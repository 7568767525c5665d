"""The shape of a pixel, as any of four elements says."""

import pytest
from pydicom import Dataset

from ainode.node.imaging.pixel_shape import height_per_width


@pytest.mark.parametrize(
    ("header", "ratio"),
    [
        ({}, 1),
        ({"PixelSpacing": (0.4, 0.2)}, 2),
        ({"ImagerPixelSpacing": ("0.1", "0.2")}, 0.5),
        ({"PixelAspectRatio": (1, 2)}, 0.5),
        ({"PixelSpacing": (0.3, 0.3), "PixelAspectRatio": (1, 2)}, 1),
        ({"PixelSpacing": (0.0, 0.3), "PixelAspectRatio": (1, 2)}, 0.5),
        ({"PixelSpacing": 0.3}, 1),
        ({"PixelSpacing": ("wide", "high")}, 1),
    ],
)
def test_the_first_element_with_two_sizes_says_the_shape(header: dict[str, object], ratio: float) -> None:
    assert height_per_width(header) == pytest.approx(ratio)


def test_a_data_set_says_it_as_a_header_does() -> None:
    data_set = Dataset()
    data_set.PixelAspectRatio = [2, 1]
    assert height_per_width(data_set) == 2
