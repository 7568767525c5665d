"""The colors of a picture, where the header and the bytes of the pixels say different things."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit
from support import shared

from ainode.node import testing
from ainode.node.domain import SyntheticImage
from ainode.node.errors import BrokenSeries
from ainode.node.imaging import pixels
from ainode.node.imaging.color_spaces import color_fault

SIDE = 64
RAMP = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
COLORS = np.stack([RAMP >> 4, np.full_like(RAMP, 90), 255 - (RAMP >> 5)], axis=-1).astype(np.uint8)
JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"


def data_set(colors: NDArray[np.uint8] = COLORS, photometric: str = "RGB") -> Dataset:
    image = SyntheticImage(SIDE, SIDE, bytes(2 * SIDE * SIDE), {})
    photograph = testing.dataset(image, study="colors")
    photograph.SamplesPerPixel, photograph.PlanarConfiguration = 3, 0
    photograph.PhotometricInterpretation = photometric
    photograph.BitsAllocated, photograph.BitsStored, photograph.HighBit = 8, 8, 7
    photograph.PixelData = colors.tobytes()
    photograph["PixelData"].VR = "OB"
    return photograph


def picture(photograph: Dataset, folder: Path) -> NDArray[np.int64]:
    path = folder / "image.dcm"
    photograph.save_as(path, enforce_file_format=True)
    return pixels.picture(path).astype(np.int64)


def jpeg(*, marker: bytes, keep_rgb: bool, components: bytes, subsampling: int = 0) -> bytes:
    """A JPEG of the colors with one marker of the space of its colors, or none, and with these identifiers."""
    buffer = io.BytesIO()
    Image.fromarray(COLORS).save(buffer, "JPEG", quality=98, subsampling=subsampling, keep_rgb=keep_rgb)
    stream = bytearray(buffer.getvalue())
    stream[2 : 4 + int.from_bytes(stream[4:6], "big")] = marker
    frame, scan = stream.index(b"\xff\xc0"), stream.index(b"\xff\xda")
    stream[frame + 10 : frame + 19 : 3] = components
    stream[scan + 5 : scan + 11 : 2] = components
    return bytes(stream)


@pytest.mark.filterwarnings("ignore:The .0028,0004.")
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize(
    "stream",
    [
        jpeg(marker=JFIF, keep_rgb=False, components=b"\1\2\3"),
        jpeg(marker=ADOBE + b"\1", keep_rgb=False, components=b"\1\2\3"),
        jpeg(marker=ADOBE + b"\0", keep_rgb=True, components=b"\1\2\3"),
        jpeg(marker=b"", keep_rgb=True, components=b"RGB"),
        jpeg(marker=b"", keep_rgb=False, components=b"\1\2\3", subsampling=2),
    ],
    ids=["JFIF", "Adobe YCbCr", "Adobe RGB", "component identifiers", "fewer samples of two components"],
)
def test_the_colors_of_a_jpeg_are_what_the_jpeg_says(stream: bytes, photometric: str, tmp_path: Path) -> None:
    photograph = data_set(photometric=photometric)
    photograph.PixelData = encapsulate([stream])
    photograph["PixelData"].is_undefined_length = True
    photograph.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    assert np.abs(picture(photograph, tmp_path) - COLORS).mean() < 2


def test_jpeg_2000_that_transformed_its_components_holds_rgb_whatever_the_header_says(tmp_path: Path) -> None:
    photograph = data_set(photometric="YBR_RCT")
    photograph.compress(JPEG2000Lossless, COLORS)
    photograph.PhotometricInterpretation = "YBR_FULL"
    assert np.array_equal(picture(photograph, tmp_path), COLORS)


def palette(*, bits: int, entries: NDArray[np.integer], first: int = 0) -> Dataset:
    """A picture whose 256 indices are in the order of the palette."""
    photograph = data_set(photometric="PALETTE COLOR")
    photograph.SamplesPerPixel = 1
    del photograph.PlanarConfiguration
    photograph.PixelData = (RAMP % 200 + first).astype("<u1").tobytes()
    for number, color in enumerate(("Red", "Green", "Blue")):
        setattr(photograph, f"{color}PaletteColorLookupTableDescriptor", [200, first, bits])
        photograph[f"{color}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(photograph, f"{color}PaletteColorLookupTableData", entries[:, number].tobytes())
    return photograph


PALETTE = np.random.default_rng(0).integers(0, 256, (200, 3))
PALETTE[0] = 255


@pytest.mark.parametrize(
    ("bits", "entries"),
    [
        (16, (PALETTE * 257).astype("<u2")),
        (8, PALETTE.astype("<u1")),
        (16, PALETTE.astype("<u1")),
        (8, PALETTE.astype("<u2")),
        (16, PALETTE.astype("<u2")),
        (12, np.rint(PALETTE * 4095 / 255).astype("<u2")),
        (12, (PALETTE * 257).astype("<u2")),
    ],
    ids=["words", "bytes", "bytes called words", "words called bytes", "bytes in words", "12 bits", "words called 12"],
)
def test_a_palette_has_its_colors_however_its_entries_are_stored(
    bits: int, entries: NDArray[np.integer], tmp_path: Path
) -> None:
    photograph = palette(bits=bits, entries=entries, first=3)
    assert np.abs(picture(photograph, tmp_path) - PALETTE[RAMP % 200]).max() <= 1


@pytest.mark.parametrize("bits", [12, 16])
def test_colors_of_8_bits_that_are_called_more_are_refused(bits: int, tmp_path: Path) -> None:
    photograph = data_set()
    photograph.BitsAllocated, photograph.BitsStored, photograph.HighBit = 16, bits, bits - 1
    photograph.PixelData = COLORS.astype("<u2").tobytes()
    photograph["PixelData"].VR = "OW"
    with pytest.raises(BrokenSeries, match=f"its colors use 8 of its {bits} bits stored"):
        picture(photograph, tmp_path)


@pytest.mark.parametrize("keyword", ["BitsStored", "PixelRepresentation", "PhotometricInterpretation"])
def test_a_header_that_does_not_say_what_the_bytes_are_is_refused_by_what_it_lacks(
    keyword: str, tmp_path: Path
) -> None:
    photograph = data_set()
    delattr(photograph, keyword)
    with pytest.raises(BrokenSeries, match=f"its header has no {keyword}"):
        picture(photograph, tmp_path)


def skin() -> NDArray[np.uint8]:
    """A photograph of a dark lesion on skin, darker to the edges."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    light = np.clip(1.2 - np.hypot(rows, columns) / SIDE * 1.4, 0, 1)[:, :, np.newaxis]
    lesion = (np.hypot(rows, columns) < 12)[:, :, np.newaxis]
    color = np.where(lesion, (110, 70, 60), (225, 175, 160))
    noise = np.random.default_rng(0).normal(0, 3, (SIDE, SIDE, 1))
    return np.asarray(np.clip(color * light + noise, 0, 255), np.uint8)


def test_ybr_that_its_header_calls_rgb_is_refused(tmp_path: Path) -> None:
    ybr = convert_color_space(skin(), "RGB", "YBR_FULL")
    with pytest.raises(BrokenSeries, match="Photometric Interpretation is RGB, but its samples are brightness"):
        picture(data_set(ybr), tmp_path)
    assert np.abs(picture(data_set(ybr, "YBR_FULL"), tmp_path) - skin()).max() < 4


def test_rgb_that_its_header_calls_ybr_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenSeries, match="Photometric Interpretation is YBR_FULL, but its samples are no YBR"):
        picture(data_set(skin(), "YBR_FULL"), tmp_path)
    assert np.array_equal(picture(data_set(skin()), tmp_path), skin())


def test_a_part_that_somebody_blanked_tells_no_color_space(tmp_path: Path) -> None:
    ybr = convert_color_space(skin(), "RGB", "YBR_FULL")
    ybr[:16] = 0
    assert picture(data_set(ybr, "YBR_FULL"), tmp_path).shape == (SIDE, SIDE, 3)
    rgb = skin()
    rgb[:16] = 0
    assert np.array_equal(picture(data_set(rgb), tmp_path), rgb)


@pytest.mark.filterwarnings("ignore")
def test_no_real_photograph_is_taken_for_one_of_the_other_color_space() -> None:
    found = {"RGB": 0, "YBR_FULL": 0}
    photographs = sorted(shared("data/labelled/skin_ham10000/test").rglob("*.jpg"))[::10]
    for path in photographs:
        rgb = np.asarray(Image.open(path).convert("RGB"))
        ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
        assert not color_fault(rgb, "RGB"), path.name
        assert not color_fault(ybr, "YBR_FULL"), path.name
        found["RGB"] += bool(color_fault(ybr, "RGB"))
        found["YBR_FULL"] += bool(color_fault(rgb, "YBR_FULL"))
    assert found["RGB"] > 0.9 * len(photographs)
    assert found["YBR_FULL"] > 0.7 * len(photographs)
