"""Pixel data of a copy have the stored values and nothing else: no overlay, no bytes behind the last pixel."""

import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels.utils import set_pixel_data
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from support import installed
from support.servers import program

from ainode.node import testing
from ainode.node.offline.codestream_comments import UnknownBytes
from ainode.node.offline.copied_pixels import copied_pixels
from ainode.node.offline.deidentification import Pseudonyms, deidentified

installed("dicomanonymizer")

NAME = b"KENNEDY^ADA 1917"
VALUES = np.random.default_rng(3).integers(0, 4096, (2, 64, 72), np.uint16)
LETTERS = np.indices(VALUES.shape).sum(0) % 3 == 0


def an_image(pixels: NDArray[np.generic] = VALUES, *, stored: int = 12) -> Dataset:
    """Return an image of frames; its stored bits begin at the lowest."""
    dataset = testing.dataset(testing.noise(8, 8), study="export")
    dataset.SOPInstanceUID = testing.uid("pixels")
    width = 8 * pixels.dtype.itemsize
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    set_pixel_data(dataset, pixels.reshape(-1, *pixels.shape[-2:]), "MONOCHROME2", width)
    dataset.SOPInstanceUID = testing.uid("pixels")
    dataset.BitsStored, dataset.HighBit = stored, stored - 1
    return dataset


def compressed(dataset: Dataset, syntax: str) -> Dataset:
    """Return the image as a file of another transfer syntax, with all its bits in the codestream."""
    stored = dataset.BitsStored
    dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.BitsStored, dataset.HighBit = stored, stored - 1
    return reread(dataset)


def reread(dataset: Dataset) -> Dataset:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return dcmread(BytesIO(file.getvalue()))


def stored_values(dataset: Dataset) -> NDArray[np.generic]:
    dataset["PixelData"] = copied_pixels(dataset)
    return reread(dataset).pixel_array


def test_an_overlay_in_the_high_bits_goes_and_the_values_stay() -> None:
    dataset = an_image(VALUES | LETTERS.astype(np.uint16) << 15)
    assert np.frombuffer(dataset.PixelData, np.uint16).max() > 32768
    assert copied_pixels(dataset).value == VALUES.tobytes()


def test_a_negative_value_keeps_its_sign_and_no_overlay() -> None:
    values = VALUES.astype(np.int16) - 2048
    dataset = an_image(values ^ LETTERS.astype(np.int16) << 14)
    assert dataset.PixelRepresentation == 1
    assert copied_pixels(dataset).value == values.tobytes()


def test_an_overlay_goes_in_big_endian_words_too() -> None:
    dataset = an_image()
    dataset.PixelData = (VALUES | LETTERS.astype(np.uint16) << 15).astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    assert copied_pixels(dataset).value == VALUES.astype(">u2").tobytes()


@pytest.mark.parametrize(("kind", "stored"), [(np.uint8, 7), (np.uint32, 20)])
def test_an_overlay_in_pixels_of_8_and_32_bits_goes(kind: type, stored: int) -> None:
    values = VALUES.astype(kind) & kind(127)
    dataset = an_image()
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * values.dtype.itemsize, stored, stored - 1
    dataset.PixelData = (values | LETTERS.astype(kind) << kind(stored)).tobytes()
    assert copied_pixels(dataset).value == values.tobytes()


def test_stored_bits_that_do_not_begin_at_the_lowest_are_refused_where_others_hold_something() -> None:
    dataset = an_image()
    dataset.PixelData, dataset.HighBit = (VALUES << 4).tobytes(), 15
    assert copied_pixels(dataset).value == (VALUES << 4).tobytes()
    dataset.PixelData = (VALUES << 4 | LETTERS).tobytes()
    with pytest.raises(UnknownBytes, match="overlay"):
        copied_pixels(dataset)
    dataset.HighBit = 5
    with pytest.raises(UnknownBytes, match="High Bit"):
        copied_pixels(dataset)


@pytest.mark.parametrize("behind", [NAME, NAME * 400, b"\0"])
def test_bytes_behind_the_last_pixel_go(behind: bytes) -> None:
    dataset = an_image()
    dataset.PixelData += behind
    assert copied_pixels(dataset).value == VALUES.tobytes()


def test_an_odd_number_of_bytes_is_filled_and_missing_pixels_are_not_made() -> None:
    odd = an_image(np.full((1, 3, 5), 7, np.uint8), stored=8)
    odd.PixelData = bytes([7] * 15) + b"K" + NAME
    assert copied_pixels(odd).value == bytes([7] * 15) + b"\0"
    broken = an_image()
    broken.PixelData = VALUES.tobytes()[:100]
    assert copied_pixels(broken).value == VALUES.tobytes()[:100]


def test_bits_behind_the_last_pixel_of_one_bit_go() -> None:
    dataset = an_image()
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit, dataset.NumberOfFrames, dataset.Rows, dataset.Columns = 0, 1, 2, 6
    dataset.PixelData = b"\xff\xff" + NAME
    assert copied_pixels(dataset).value == b"\xff\x0f"


def test_colors_that_are_said_to_be_subsampled_keep_all_their_bytes() -> None:
    colors = np.random.default_rng(2).integers(0, 255, 4 * 6 * 3, np.uint8).tobytes()
    dataset = an_image()
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames, dataset.SamplesPerPixel = 4, 6, 1, 3
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    for length in (len(colors), len(colors) // 3 * 2):
        dataset.PixelData = colors[:length] + b"KENNEDY^"
        assert copied_pixels(dataset).value == colors[:length]


def test_an_overlay_goes_from_run_lengths_and_words_behind_them_never_leave() -> None:
    dataset = compressed(an_image(VALUES | LETTERS.astype(np.uint16) << 15), RLELossless)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=2))
    assert np.array_equal(stored_values(dataset), VALUES)
    dataset.BitsStored, dataset.HighBit = 16, 15
    assert np.array_equal(dataset.pixel_array, VALUES)
    dataset.PixelData = encapsulate([frame + NAME for frame in frames])
    with pytest.raises(RuntimeError):
        copied_pixels(dataset)


def test_colors_and_signs_survive_run_lengths() -> None:
    colors = np.random.default_rng(2).integers(0, 255, (16, 24, 3), np.uint8)
    dataset = an_image()
    set_pixel_data(dataset, colors, "RGB", 8)
    dataset.compress(RLELossless)
    assert np.array_equal(stored_values(dataset), colors)
    values = VALUES.astype(np.int16) - 2048
    assert np.array_equal(stored_values(compressed(an_image(values), RLELossless)), values)


def test_a_lossless_codestream_with_an_overlay_in_its_high_bits_is_refused_and_one_without_leaves(
    tmp_path: Path,
) -> None:
    with pytest.raises(UnknownBytes, match="overlay"):
        copied_pixels(compressed(an_image(VALUES | LETTERS.astype(np.uint16) << 15), JPEG2000Lossless))
    assert np.array_equal(stored_values(compressed(an_image(), JPEG2000Lossless)), VALUES)
    values = VALUES.astype(np.int16) - 2048
    assert np.array_equal(stored_values(compressed(an_image(values), JPEG2000Lossless)), values)
    for command in ("dcmcjpeg", "dcmcjpls"):
        for pixels, has_overlay in ((VALUES, False), (VALUES | LETTERS.astype(np.uint16) << 15, True)):
            an_image(pixels).save_as(tmp_path / "plain.dcm", enforce_file_format=True)
            words = [program(command), tmp_path / "plain.dcm", tmp_path / "lossless.dcm"]
            subprocess.run(words, check=True, timeout=300)
            dataset = dcmread(tmp_path / "lossless.dcm")
            if has_overlay:
                with pytest.raises(UnknownBytes, match="overlay"):
                    copied_pixels(dataset)
            else:
                assert np.array_equal(stored_values(dataset), VALUES)


def test_frames_in_several_fragments_stay_and_those_behind_the_last_go() -> None:
    dataset = compressed(an_image(), JPEG2000Lossless)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=2))
    dataset.PixelData = encapsulate([*frames, NAME], fragments_per_frame=1, has_bot=False)
    assert NAME not in copied_pixels(dataset).value
    dataset.PixelData = encapsulate(frames, fragments_per_frame=3)
    assert np.array_equal(stored_values(dataset), VALUES)


def test_what_the_node_cannot_search_for_comments_is_refused() -> None:
    dataset = an_image()
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    with pytest.raises(UnknownBytes, match="comments"):
        copied_pixels(dataset)
    packed = an_image()
    packed.BitsAllocated = 12
    with pytest.raises(UnknownBytes, match="12 bits"):
        copied_pixels(packed)


def test_pixels_within_a_sequence_and_tables_of_offsets_go() -> None:
    icon, dataset = Dataset(), compressed(an_image(), JPEG2000Lossless)
    icon.PixelData = NAME
    icon.PixelSpacing = [1, 1]
    icon["PixelData"].VR = "OB"
    dataset.SharedFunctionalGroupsSequence = [icon]
    frames = list(generate_frames(dataset.PixelData, number_of_frames=2))
    values = encapsulate_extended(frames)
    dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = values
    copy = deidentified(dataset, Pseudonyms(bytes(32)))
    assert "PixelData" not in copy.SharedFunctionalGroupsSequence[0]
    assert "ExtendedOffsetTable" not in copy
    assert np.array_equal(reread(copy).pixel_array, VALUES)
