"""The shape of a pixel, as any of four elements says."""

import re

import pytest
from pydicom import Dataset

from ainode.node.imaging.pixel_shape import PixelWidth, height_per_width, pixel_width, shape_fault


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


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({}, None),
        ({"PixelSpacing": ("0.143", "0.143"), "ImagerPixelSpacing": ("0.15", "0.15")}, None),
        ({"PixelSpacing": ("0.4", "0.2"), "ImagerPixelSpacing": ("0.402", "0.2")}, None),
        ({"PixelSpacing": ("Zebulon", "x")}, None),
        (
            {"PixelSpacing": ("0.3", "0.6"), "ImagerPixelSpacing": ("0.15", "0.15")},
            "PixelSpacing says that a pixel is 0.5 times as high as wide, ImagerPixelSpacing says 1 times",
        ),
        ({"PixelSpacing": (0.3, 0.3), "PixelAspectRatio": (1, 2)}, "PixelAspectRatio says 0.5 times"),
        ({"PixelSpacing": ("1e9", "1e-9")}, "1e\\+18 times as high as wide"),
    ],
)
def test_elements_that_contradict_each_other_leave_the_shape_unknown(
    header: dict[str, object], said: str | None
) -> None:
    fault = shape_fault(header)
    assert (fault is None) == (said is None)
    if fault and said:
        assert re.search(said, fault)


def test_a_size_without_an_end_says_nothing() -> None:
    assert height_per_width({"PixelSpacing": ("inf", "1")}) == 1
    assert shape_fault({"PixelSpacing": ("inf", "inf"), "PixelAspectRatio": (1, 2)}) is None


def test_a_width_on_the_receptor_is_said_to_be_one() -> None:
    assert pixel_width({"PixelSpacing": ("no", "number")}) is None
    calibrated = pixel_width({"PixelSpacing": ("0.14", "0.14"), "ImagerPixelSpacing": ("0.15", "0.15")})
    measured = pixel_width({"ImagerPixelSpacing": ("0.15", "0.16")})
    assert calibrated == PixelWidth(0.14, "PixelSpacing")
    assert measured == PixelWidth(0.16, "ImagerPixelSpacing")
    assert "on the receptor" in str(measured)
    assert "receptor" not in str(calibrated)
