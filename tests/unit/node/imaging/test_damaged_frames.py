import random
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless
from support import program

from ainode.node import testing
from ainode.node.domain import SyntheticImage
from ainode.node.errors import BrokenSeries
from ainode.node.imaging import pixels
from ainode.node.imaging.damaged_frames import (
    ENDS_ELSEWHERE,
    HAS_HOLE,
    HAS_POINT_TRANSFORM,
    jpeg_damage,
    lossless_jpeg_damage,
)

ROWS, COLUMNS = np.mgrid[:120, :136]
STORED = np.asarray(
    1000 + 8 * ROWS + 300 * (COLUMNS // 20 % 2) + np.random.default_rng(1).integers(0, 40, ROWS.shape), np.uint16
)
RECEIVED = np.asarray(STORED >> 4, np.uint8)
COLORS = np.stack([RECEIVED, RECEIVED.T.repeat(2, axis=1)[:120, :136], 255 - RECEIVED], axis=2)


def _data_set() -> Dataset:
    image = SyntheticImage(*STORED.shape, STORED.astype("<u2").tobytes(), {})
    return testing.dataset(image, study="damaged")


def _compressed(syntax: UID) -> Dataset:
    data_set = _data_set()
    data_set.compress(syntax)
    return data_set


def _jpeg(**options: int | bool) -> bytes:
    buffer = BytesIO()
    Image.fromarray(RECEIVED).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _color_jpeg(**options: int | bool) -> bytes:
    buffer = BytesIO()
    Image.fromarray(COLORS).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _baseline() -> Dataset:
    data_set = _data_set()
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 8, 8, 7
    data_set.PixelData = encapsulate([_jpeg(quality=90)])
    data_set.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return data_set


def _lossless(*options: str, data_set: Dataset | None = None) -> Dataset:
    plain = BytesIO()
    (data_set or _data_set()).save_as(plain, enforce_file_format=True)
    command = [program("dcmcjpeg"), *(options or ("+e1",)), "-", "-"]
    run = subprocess.run(command, input=plain.getvalue(), capture_output=True, check=True, timeout=60)
    return dcmread(BytesIO(run.stdout))


def _frame(data_set: Dataset) -> bytes:
    return next(generate_frames(data_set.PixelData, number_of_frames=1))


def _overwritten(frame: bytes, start: int, content: bytes) -> bytes:
    return frame[:start] + content + frame[start + len(content) :]


def _written(data_set: Dataset, frame: bytes, folder: Path) -> Path:
    data_set.PixelData = encapsulate([frame])
    data_set.save_as(folder / "image.dcm", enforce_file_format=True)
    return folder / "image.dcm"


HUFFMAN = [_baseline, _lossless]
COUNTED = [*HUFFMAN, lambda: _compressed(RLELossless)]
NAMES = ["baseline", "lossless", "RLE"]


@pytest.mark.parametrize("content", [bytes(256), random.Random(5).randbytes(256)], ids=["zeros", "noise"])
@pytest.mark.parametrize("compressed", COUNTED, ids=NAMES)
def test_a_frame_with_a_damaged_part_is_refused_though_it_has_its_end(
    compressed: Callable[[], Dataset], content: bytes, tmp_path: Path
) -> None:
    data_set = compressed()
    frame = _frame(data_set)
    path = _written(data_set, _overwritten(frame, len(frame) // 2, content), tmp_path)
    reason = f"({ENDS_ELSEWHERE}|its image cannot be decoded .*); resend it"
    with pytest.raises(BrokenSeries, match=f"instance {data_set.SOPInstanceUID}: {reason}"):
        pixels.modality_values(path)


def _signed() -> Dataset:
    data_set = _data_set()
    data_set.PixelRepresentation = 1
    data_set.BitsStored, data_set.HighBit = 16, 15
    data_set.PixelData = (STORED.astype(np.int16) - 2000).tobytes()
    return data_set


def _sixteen_bits() -> Dataset:
    """Return an image of noise in all 16 bits, in which every prediction is beyond what 16 bits hold somewhere."""
    data_set = _data_set()
    data_set.BitsStored, data_set.HighBit = 16, 15
    data_set.PixelData = np.random.default_rng(2).integers(0, 1 << 16, STORED.shape, np.uint16).tobytes()
    return data_set


def _eight_bits() -> Dataset:
    data_set = _data_set()
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 8, 8, 7
    data_set.PixelData = RECEIVED.tobytes()
    return data_set


def _colored() -> Dataset:
    data_set = _eight_bits()
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation, data_set.PlanarConfiguration = 3, "RGB", 0
    del data_set.RescaleIntercept, data_set.RescaleSlope, data_set.RescaleType
    data_set.PixelData = COLORS.tobytes()
    return data_set


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("data_set", [_data_set, _signed, _eight_bits, _colored])
def test_the_bits_of_lossless_pixels_tell_a_whole_frame_from_a_damaged_one(
    data_set: Callable[[], Dataset], predictor: int
) -> None:
    compressed = _lossless("+el", "+sv", str(predictor), data_set=data_set())
    frame = _frame(compressed)
    assert not lossless_jpeg_damage(frame, pixel_array(compressed, raw=True))
    compressed.PixelData = encapsulate([_overwritten(frame, len(frame) // 2, bytes(64))])
    damaged = pixel_array(compressed, raw=True)
    assert lossless_jpeg_damage(_frame(compressed), damaged) == ENDS_ELSEWHERE


@pytest.mark.parametrize("predictor", range(1, 8))
def test_lossless_pixels_that_fill_their_bits_are_no_damaged_ones(predictor: int) -> None:
    compressed = _lossless("+el", "+sv", str(predictor), data_set=_sixteen_bits())
    assert not lossless_jpeg_damage(_frame(compressed), pixel_array(compressed, raw=True))


def test_a_point_transform_which_the_decoder_gets_wrong_is_refused(tmp_path: Path) -> None:
    compressed = _lossless("+el", "+sv", "1", "+pt", "2")
    with pytest.raises(BrokenSeries, match=f"{HAS_POINT_TRANSFORM}; resend it"):
        pixels.modality_values(_written(compressed, _frame(compressed), tmp_path))


def test_any_damaged_byte_of_a_jpeg_ls_frame_is_refused(tmp_path: Path) -> None:
    data_set = _compressed(JPEGLSLossless)
    frame = _frame(data_set)
    for start in range(200, len(frame) - 200, len(frame) // 20):
        damaged = _overwritten(frame, start, bytes([frame[start] ^ 0x55]))
        with pytest.raises(BrokenSeries, match="resend it"):
            pixels.modality_values(_written(data_set, damaged, tmp_path))


def test_a_hole_in_a_jpeg_2000_frame_is_refused(tmp_path: Path) -> None:
    data_set = _compressed(JPEG2000Lossless)
    frame = _frame(data_set)
    with pytest.raises(BrokenSeries, match=HAS_HOLE):
        pixels.modality_values(_written(data_set, _overwritten(frame, len(frame) // 2, bytes(256)), tmp_path))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=lambda syntax: syntax.name)
def test_an_image_of_one_value_is_no_damaged_one(syntax: UID, tmp_path: Path) -> None:
    data_set = _data_set()
    data_set.PixelData = bytes(len(data_set.PixelData))
    data_set.compress(syntax)
    assert not pixels.modality_values(_written(data_set, _frame(data_set), tmp_path)).any()


@pytest.mark.filterwarnings("ignore:The decoded RLE segment contains")
@pytest.mark.parametrize("padding", [b"", b"\0", bytes(6)], ids=len)
def test_zeros_behind_a_segment_of_rle_are_padding(padding: bytes, tmp_path: Path) -> None:
    data_set = _compressed(RLELossless)
    path = _written(data_set, _frame(data_set) + padding, tmp_path)
    assert np.array_equal(pixels.modality_values(path), STORED)


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 100},
        {"quality": 30, "optimize": True},
        {"restart_marker_blocks": 1},
        {"restart_marker_rows": 1},
        {"progressive": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("encoded", [_jpeg, _color_jpeg], ids=["gray", "color"])
def test_a_whole_jpeg_is_no_damaged_one(encoded: Callable[..., bytes], options: dict[str, int | bool]) -> None:
    assert not jpeg_damage(encoded(**options))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_colors_with_fewer_samples_are_counted_by_their_own_blocks(subsampling: int) -> None:
    frame = _color_jpeg(quality=90, subsampling=subsampling)
    assert not jpeg_damage(frame)
    assert jpeg_damage(_overwritten(frame, len(frame) // 2, bytes(200))) == ENDS_ELSEWHERE


def test_a_restart_that_is_missing_is_a_damage() -> None:
    frame = _jpeg(quality=90, restart_marker_rows=1)
    start = frame.index(b"\xff\xd3")
    assert jpeg_damage(frame[:start] + frame[start + 2 :]) == ENDS_ELSEWHERE
