from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from ainode.node import testing
from ainode.node.domain import SyntheticImage
from ainode.node.errors import BrokenSeries
from ainode.node.imaging import pixels

ROWS, COLUMNS = np.mgrid[:96, :120]
NOISE = np.random.default_rng(0).normal(0, 150, ROWS.shape)
RADIOGRAPH = np.asarray(36000 + 22000 * np.sin(ROWS / 14) * np.cos(COLUMNS / 17) + NOISE, np.uint16)
SKIN = np.stack([RADIOGRAPH >> 8, RADIOGRAPH.T.repeat(2, axis=1)[:96, :120] >> 9, 60 + (RADIOGRAPH >> 10)], axis=2)
PHOTOGRAPH = np.asarray(SKIN, np.uint8)


def _data_set(stored: NDArray[np.uint16] = RADIOGRAPH, **header: Any) -> Dataset:  # noqa: ANN401 - any element
    image = SyntheticImage(*stored.shape, stored.astype("<u2").tobytes(), {})
    data_set = testing.dataset(image, study="order")
    data_set.BitsStored, data_set.HighBit = 16, 15
    return _with(data_set, **header)


def _with(data_set: Dataset, **header: Any) -> Dataset:  # noqa: ANN401 - any element
    for keyword, value in header.items():
        setattr(data_set, keyword, value)
    return data_set


def _photograph(samples: NDArray[np.uint8], planar_configuration: int) -> Dataset:
    data_set = _data_set(
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=planar_configuration,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
    )
    data_set.PixelData = samples.tobytes()
    data_set["PixelData"].VR = "OB"
    return data_set


def _by_plane() -> NDArray[np.uint8]:
    return np.ascontiguousarray(PHOTOGRAPH.transpose(2, 0, 1))


def _picture(data_set: Dataset, folder: Path) -> NDArray[np.uint8]:
    data_set.save_as(folder / "image.dcm", enforce_file_format=True)
    return pixels.picture(folder / "image.dcm")


@pytest.mark.parametrize(
    ("contradictory", "reason"),
    [
        (
            lambda: _data_set(Rows=120, Columns=96),
            "Rows is 120 and Columns 96, but its pixels are those of .* 96 x 120",
        ),
        (lambda: _data_set(RADIOGRAPH.byteswap()), "the two bytes of each of its values are swapped"),
        (lambda: _data_set(PixelRepresentation=1), "Pixel Representation is 1, but neighbors lie at the two ends"),
        (
            lambda: _data_set(RADIOGRAPH - np.uint16(32768), PixelRepresentation=0),
            "Pixel Representation is 0, but neighbors lie at the two ends",
        ),
        (lambda: _photograph(_by_plane(), 0), "Planar Configuration is 0, but its colors lie in the other order"),
        (lambda: _photograph(PHOTOGRAPH, 1), "Planar Configuration is 1, but its colors lie in the other order"),
    ],
    ids=["shape", "bytes", "signed", "unsigned", "planes", "pixels"],
)
def test_values_that_lie_otherwise_than_the_header_says_are_refused(
    contradictory: Callable[[], Dataset], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BrokenSeries, match=f"{reason}.*; correct the image at its source"):
        _picture(contradictory(), tmp_path)


@pytest.mark.parametrize(
    "true",
    [
        _data_set,
        lambda: _data_set(RADIOGRAPH - np.uint16(32768), PixelRepresentation=1),
        lambda: _data_set(RADIOGRAPH >> 8 << 8),
        lambda: _data_set(np.where(COLUMNS % 40 < 4, np.uint16(65535), RADIOGRAPH >> 2)),
        lambda: _data_set(np.where((COLUMNS % 40 < 3) & (ROWS < 12), np.uint16(60000) + ROWS % 7, RADIOGRAPH >> 2)),
        lambda: _data_set(np.zeros_like(RADIOGRAPH)),
        lambda: _data_set(np.random.default_rng(1).integers(0, 65536, RADIOGRAPH.shape).astype(np.uint16)),
    ],
    ids=["unsigned", "signed", "8 bits moved up", "saturated lines", "letters", "one value", "noise"],
)
def test_values_that_lie_as_the_header_says_are_read(true: Callable[[], Dataset], tmp_path: Path) -> None:
    assert _picture(true(), tmp_path).shape == (*RADIOGRAPH.shape, 3)


@pytest.mark.parametrize("by_plane", [0, 1])
def test_grays_as_colors_are_read(by_plane: int, tmp_path: Path) -> None:
    grays = np.repeat(PHOTOGRAPH[:, :, :1], 3, axis=2)
    stored = grays.transpose(2, 0, 1) if by_plane else grays
    assert np.array_equal(_picture(_photograph(stored, by_plane), tmp_path), grays)


def test_colors_by_pixel_and_by_plane_are_the_same_picture(tmp_path: Path) -> None:
    assert np.array_equal(_picture(_photograph(PHOTOGRAPH, 0), tmp_path), PHOTOGRAPH)
    assert np.array_equal(_picture(_photograph(_by_plane(), 1), tmp_path), PHOTOGRAPH)


def test_pixel_data_of_several_images_under_the_header_of_one_are_refused(tmp_path: Path) -> None:
    data_set = _data_set()
    data_set.PixelData = data_set.PixelData * 3
    with pytest.raises(BrokenSeries, match="its pixel data are 3 times as long as its header says"):
        _picture(data_set, tmp_path)
    data_set.NumberOfFrames = 3
    assert _picture(data_set, tmp_path).shape == (*RADIOGRAPH.shape, 3)


@pytest.mark.parametrize("limit", [None, 50000])
def test_padding_within_the_values_of_the_image_is_refused(limit: int | None, tmp_path: Path) -> None:
    stored = RADIOGRAPH >> 8 << 8  # many pixels of one value
    data_set = _data_set(stored)
    data_set.add_new("PixelPaddingValue", "US", 36096)
    if limit:
        data_set.add_new("PixelPaddingRangeLimit", "US", limit)
    with pytest.raises(BrokenSeries, match="Pixel Padding Value is 36096, but a part of the image itself has"):
        _picture(data_set, tmp_path)


@pytest.mark.parametrize("value", [0, 36000, 65535])
def test_padding_around_an_image_may_have_any_value(value: int, tmp_path: Path) -> None:
    stored = np.where(np.hypot(ROWS - 48, COLUMNS - 60) < 40, RADIOGRAPH | 1, np.uint16(value & 0xFFFE))
    data_set = _data_set(stored)
    data_set.add_new("PixelPaddingValue", "US", value & 0xFFFE)
    assert _picture(data_set, tmp_path).shape == (*RADIOGRAPH.shape, 3)
