from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)
from support import shared

from ainode.node import testing
from ainode.node.domain import SyntheticImage
from ainode.node.errors import BrokenSeries
from ainode.node.imaging import pixels

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
SYNTAXES_WITHOUT_LOSS = [
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
]
SYNTAXES = "data/dicom/transfer_syntaxes/ct_chest_all_syntaxes"


def _file(folder: Path, stored: NDArray[np.integer] = RAMP, **header: Any) -> Path:  # noqa: ANN401 - any element
    return _written(_data_set(stored, **header), folder)


def _data_set(stored: NDArray[np.integer] = RAMP, **header: Any) -> Dataset:  # noqa: ANN401 - any element
    rows, columns = stored.shape
    image = SyntheticImage(rows, columns, stored.astype("<u2").tobytes(), {})
    data_set = testing.dataset(image, study="pixels")
    for keyword, value in header.items():
        setattr(data_set, keyword, value)
    return data_set


def _written(data_set: Dataset, folder: Path) -> Path:
    path = folder / "image.dcm"
    data_set.save_as(path, enforce_file_format=True)
    return path


def _lut(first: int, table: list[int], bits: int = 16) -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor = [len(table), first, bits]
    item.add_new("LUTData", "OW", np.array(table, dtype="<u2").tobytes())
    return [item]


def test_modality_values_are_rescaled(tmp_path: Path) -> None:
    path = _file(tmp_path, RescaleSlope=2, RescaleIntercept=-1024)
    values = pixels.modality_values(path)
    assert values.dtype == np.float32
    assert np.array_equal(values, RAMP * 2.0 - 1024)


def test_modality_values_go_through_the_lut_where_there_is_one(tmp_path: Path) -> None:
    path = _file(tmp_path, ModalityLUTSequence=_lut(10, [100, 200, 300]))
    values = pixels.modality_values(path)
    assert values[0, 9:14].tolist() == [100, 100, 200, 300, 300]


def test_a_window_is_applied_as_the_standard_says(tmp_path: Path) -> None:
    path = _file(tmp_path, WindowCenter=2048, WindowWidth=1000)
    shown = pixels.display_values(path).ravel()
    expected = np.clip((RAMP.ravel() - 2047.5) / 999 + 0.5, 0, 1)
    assert np.allclose(shown, expected, atol=1e-6)
    assert (shown.min(), shown.max()) == (0, 1)


def test_a_sigmoid_window_is_no_linear_one(tmp_path: Path) -> None:
    path = _file(tmp_path, WindowCenter=2048, WindowWidth=1000, VOILUTFunction="SIGMOID")
    shown = pixels.display_values(path).ravel()
    assert shown[2048] == 0.5
    assert shown[2548] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)


def test_a_voi_lut_is_applied_before_a_window(tmp_path: Path) -> None:
    table = [4095 - value for value in range(4096)]
    path = _file(tmp_path, VOILUTSequence=_lut(0, table, bits=12), WindowCenter=1, WindowWidth=2)
    assert np.allclose(pixels.display_values(path), 1 - RAMP / 4095, atol=1e-6)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"LUTData": None},
        {"LUTDescriptor": None},
        {"LUTDescriptor": [4096, 0, 0]},
        {"LUTDescriptor": 7},
        {"LUTData": b""},
    ],
    ids=["empty", "without data", "without descriptor", "without bits", "descriptor of one value", "of no entries"],
)
def test_a_voi_lut_that_cannot_be_applied_leaves_the_window(broken: dict[str, Any], tmp_path: Path) -> None:
    (item,) = _lut(0, list(range(4096)), bits=12) if broken else [Dataset()]
    for keyword, value in broken.items():
        if value is None:
            del item[keyword]
        else:
            setattr(item, keyword, value)
    shown = pixels.display_values(_file(tmp_path, VOILUTSequence=[item], WindowCenter=2048, WindowWidth=1000))
    assert np.array_equal(shown, pixels.display_values(_file(tmp_path, WindowCenter=2048, WindowWidth=1000)))


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"WindowCenter": 90000, "WindowWidth": 100},
        {"WindowCenter": 2048, "WindowWidth": 0},
        {"WindowCenter": 2048, "WindowWidth": 90000000},
    ],
    ids=["missing", "beside the values", "without width", "so wide that all is gray"],
)
def test_a_window_that_shows_nothing_is_replaced_by_percentiles(window: dict[str, Any], tmp_path: Path) -> None:
    shown = pixels.display_values(_file(tmp_path, **window))
    assert np.percentile(shown, [1, 50, 99]) == pytest.approx([0, 0.5, 1], abs=0.01)


def test_the_first_of_several_windows_counts(tmp_path: Path) -> None:
    several = pixels.display_values(_file(tmp_path, WindowCenter=[2048, 10], WindowWidth=[1000, 5]))
    assert np.array_equal(several, pixels.display_values(_file(tmp_path, WindowCenter=2048, WindowWidth=1000)))


def test_larger_is_brighter_also_in_monochrome1(tmp_path: Path) -> None:
    plain = pixels.display_values(_file(tmp_path, WindowCenter=2048, WindowWidth=4096))
    inverse = pixels.display_values(
        _file(tmp_path, 4095 - RAMP, WindowCenter=2048, WindowWidth=4096, PhotometricInterpretation="MONOCHROME1")
    )
    assert np.allclose(plain, inverse, atol=1e-3)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("padding", [60000, 0])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2048, "WindowWidth": 4000}])
def test_padding_is_black_and_the_rest_is_shown_as_without_padding(
    window: dict[str, Any], padding: int, photometric: str, tmp_path: Path
) -> None:
    header = {"BitsStored": 16, "HighBit": 15, "PhotometricInterpretation": photometric, **window}
    image = RAMP[:, 1:] + np.uint16(1)
    padded = np.concatenate([image, np.full((64, 9), padding, np.uint16)], axis=1)
    path = _file(tmp_path, padded, PixelPaddingValue=padding, **header)
    shown, picture, frame = pixels.display_values(path), pixels.picture(path), pixels.frame(path)
    path = _file(tmp_path, image, **header)
    np.testing.assert_allclose(shown[:, :63], pixels.display_values(path), atol=1e-6)
    assert frame.window == pytest.approx(pixels.frame(path).window)
    assert not shown[:, 63:].any()
    assert not picture[:, 63:].any()


@pytest.mark.parametrize(
    ("header", "padded"),
    [
        ({"PixelPaddingValue": -2000, "PixelRepresentation": 1}, [-2000]),
        ({"PixelPaddingValue": 50, "PixelPaddingRangeLimit": 10}, [10, 50]),
        ({"PixelPaddingValue": 10, "PixelPaddingRangeLimit": 50}, [10, 50]),
        ({"PixelPaddingValue": 50}, [50]),
        ({}, []),
    ],
)
def test_padding_is_what_the_header_calls_so(header: dict[str, Any], padded: list[int], tmp_path: Path) -> None:
    stored = np.asarray([[-2000, 9], [10, 50], [51, 100]], np.int16)
    path = _file(tmp_path, stored.view(np.uint16), BitsStored=16, HighBit=15, **header)
    assert stored[np.isnan(pixels.image_values(path))].tolist() == padded
    assert not np.isnan(pixels.modality_values(path)).any()


@pytest.mark.parametrize(("padding", "expected"), [(-2000, -3024), (3000, -1124), (0, -1124)])
def test_padding_is_never_brighter_than_the_darkest_of_the_image(tmp_path: Path, padding: int, expected: int) -> None:
    stored = np.asarray([[padding, -100], [50, 900]], np.int16)
    header = {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "RescaleIntercept": -1024}
    path = _file(tmp_path, stored.view(np.uint16), PixelPaddingValue=padding, **header)
    assert pixels.modality_values(path).tolist() == [[expected, -1124], [-974, -124]]


def test_padding_of_signed_pixels_that_is_written_without_a_sign_is_padding(tmp_path: Path) -> None:
    stored = np.asarray([[-2000, 9], [10, 50]], np.int16)
    data_set = _data_set(stored.view(np.uint16), BitsStored=16, HighBit=15, PixelRepresentation=1)
    data_set.add_new("PixelPaddingValue", "US", 63536)
    np.testing.assert_array_equal(pixels.image_values(_written(data_set, tmp_path)), [[np.nan, 9], [10, 50]])


def test_a_flat_image_is_no_division_by_zero(tmp_path: Path) -> None:
    shown = pixels.display_values(_file(tmp_path, np.full((64, 64), 7, dtype=np.uint16)))
    assert np.isfinite(shown).all()


def test_a_picture_is_what_is_presented_in_8_bits(tmp_path: Path) -> None:
    path = _file(tmp_path, WindowCenter=2048, WindowWidth=4096)
    picture = pixels.picture(path)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture[..., 0], np.rint(pixels.display_values(path) * 255))


def test_a_color_image_has_a_picture_but_no_values(tmp_path: Path) -> None:
    data_set = _data_set(np.zeros((64, 96), dtype=np.uint16), SamplesPerPixel=3, PhotometricInterpretation="RGB")
    data_set.PlanarConfiguration, data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 0, 8, 8, 7
    data_set.Columns = 64
    path = _written(data_set, tmp_path)
    assert pixels.picture(path).shape == (64, 64, 3)
    with pytest.raises(BrokenSeries, match="color image"):
        pixels.display_values(path)


def test_only_the_first_frame_is_decoded(tmp_path: Path) -> None:
    data_set = _data_set()
    data_set.NumberOfFrames = 3
    data_set.PixelData = data_set.PixelData + bytes(2 * len(data_set.PixelData))
    assert np.array_equal(pixels.modality_values(_written(data_set, tmp_path)), RAMP)


@pytest.mark.parametrize("syntax", SYNTAXES_WITHOUT_LOSS, ids=lambda syntax: syntax.name)
def test_every_lossless_syntax_gives_the_same_values(syntax: UID, tmp_path: Path) -> None:
    data_set = _data_set()
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        data_set.compress(syntax)
    elif syntax == ExplicitVRBigEndian:
        data_set.PixelData = RAMP.astype(">u2").tobytes()
    data_set.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(pixels.modality_values(_written(data_set, tmp_path)), RAMP)


def test_the_two_photometric_twins_are_shown_alike() -> None:
    folder = shared("data/dicom/spine/drr_from_R01-001")
    first, second = (pixels.display_values(folder / f"tspine_lat_mono{number}.dcm") for number in (1, 2))
    assert np.abs(first - second).max() < 1e-6


def _without_pixel_data(data_set: Dataset) -> None:
    del data_set.PixelData


def _with_empty_pixel_data(data_set: Dataset) -> None:
    data_set.PixelData = b""


OVERLAY = np.zeros((64, 64), dtype=np.uint16)
OVERLAY[20:24, 8:56] = 0x3000


def _encoded(stored: NDArray[np.integer], syntax: UID, bits_stored: int = 12, **header: Any) -> Dataset:  # noqa: ANN401
    """All 16 bits of the stored values in a transfer syntax, under a header that may say otherwise."""
    data_set = _data_set(stored.view(np.uint16), BitsStored=16, HighBit=15, **header)
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        data_set.compress(syntax)
    elif syntax == ExplicitVRBigEndian:
        data_set.PixelData = stored.astype(">u2").tobytes()
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.BitsStored, data_set.HighBit = bits_stored, bits_stored - 1
    return data_set


@pytest.mark.parametrize("syntax", SYNTAXES_WITHOUT_LOSS, ids=lambda syntax: syntax.name)
def test_bits_above_bits_stored_are_no_values(syntax: UID, tmp_path: Path) -> None:
    path = _written(_encoded(RAMP | OVERLAY, syntax), tmp_path)
    assert np.array_equal(pixels.modality_values(path), RAMP)
    plain = pixels.picture(_written(_encoded(RAMP, syntax), tmp_path))
    assert np.array_equal(pixels.picture(_written(_encoded(RAMP | OVERLAY, syntax), tmp_path)), plain)


@pytest.mark.parametrize("syntax", SYNTAXES_WITHOUT_LOSS, ids=lambda syntax: syntax.name)
def test_a_signed_value_has_the_sign_of_its_highest_stored_bit(syntax: UID, tmp_path: Path) -> None:
    signed = (RAMP.astype(np.int16) - 2048).view(np.uint16) & 0x0FFF
    path = _written(_encoded(signed | OVERLAY, syntax, PixelRepresentation=1), tmp_path)
    assert np.array_equal(pixels.modality_values(path), RAMP.astype(np.int16) - 2048)


@pytest.mark.parametrize("syntax", SYNTAXES_WITHOUT_LOSS, ids=lambda syntax: syntax.name)
def test_values_below_the_high_bit_are_moved_down(syntax: UID, tmp_path: Path) -> None:
    data_set = _encoded((RAMP << 4) | 0x5, syntax)
    data_set.HighBit = 15
    assert np.array_equal(pixels.modality_values(_written(data_set, tmp_path)), RAMP)


def test_a_codestream_of_the_stored_bits_alone_is_not_moved_again(tmp_path: Path) -> None:
    data_set = _data_set()
    data_set.compress(JPEG2000Lossless)
    data_set.HighBit = 15
    assert np.array_equal(pixels.modality_values(_written(data_set, tmp_path)), RAMP)


@pytest.mark.parametrize("pixel_representation", [0, 1], ids=["unsigned", "signed"])
def test_more_bits_than_bits_stored_are_refused_where_these_make_the_values(
    pixel_representation: int, tmp_path: Path
) -> None:
    stored = RAMP - 2048 * pixel_representation
    path = _written(_encoded(stored, ExplicitVRBigEndian, 10, PixelRepresentation=pixel_representation), tmp_path)
    with pytest.raises(BrokenSeries, match="Bits Stored is 10, but its values have more bits"):
        pixels.display_values(path)


def test_a_high_bit_above_all_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenSeries, match="High Bit is 15, but no value has a bit above bit 11"):
        pixels.display_values(_file(tmp_path, HighBit=15))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless], ids=lambda syntax: syntax.name)
def test_a_frame_of_another_size_than_its_header_says_is_refused_with_both(syntax: UID, tmp_path: Path) -> None:
    data_set = _data_set(RAMP[:, :48])
    data_set.compress(syntax)
    data_set.Rows, data_set.Columns = 48, 64  # as many pixels
    with pytest.raises(BrokenSeries, match="its compressed frame has 64 x 48 pixels, its header says 48 x 64"):
        pixels.modality_values(_written(data_set, tmp_path))


def _jpeg_ls() -> Dataset:
    data_set = _data_set()
    data_set.compress(JPEGLSLossless)
    return data_set


def _jpeg() -> Dataset:
    buffer = BytesIO()
    Image.fromarray((RAMP >> 4).astype(np.uint8)).save(buffer, "JPEG")
    data_set = _data_set(BitsAllocated=8, BitsStored=8, HighBit=7)
    data_set.PixelData = encapsulate([buffer.getvalue()])
    data_set.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return data_set


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("compressed", [_jpeg, _jpeg_ls])
def test_a_compressed_frame_that_is_cut_short_is_refused(
    compressed: Callable[[], Dataset], fragments: int, tmp_path: Path
) -> None:
    data_set = compressed()
    (frame,) = generate_frames(data_set.PixelData, number_of_frames=1)
    data_set.PixelData = encapsulate([frame], fragments_per_frame=fragments)
    assert pixels.modality_values(_written(data_set, tmp_path)).shape == RAMP.shape
    data_set.PixelData = encapsulate([frame[: len(frame) * 9 // 10]], fragments_per_frame=fragments)
    with pytest.raises(BrokenSeries, match="its compressed frame has no end, so it is cut short"):
        pixels.modality_values(_written(data_set, tmp_path))


def _packed_lut(entries: NDArray[np.integer], *, vr: str, order: str = "<") -> Dataset:
    """Entries of 8 bits, two in a word."""
    item = Dataset()
    item.LUTDescriptor = [len(entries), 0, 8]
    words = entries.astype("<u1").view("<u2")
    item.add_new("LUTData", vr, words.astype(f"{order}u2").tobytes() if vr == "OW" else words.tolist())
    return item


@pytest.mark.parametrize("vr", ["OW", "US"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_lut_of_bytes_maps_as_its_twin_of_words(sequence: str, syntax: UID, vr: str, tmp_path: Path) -> None:
    entries = np.arange(4096) >> 4
    data_set = _encoded(RAMP, syntax)
    item = _packed_lut(entries, vr=vr, order=">" if syntax == ExplicitVRBigEndian else "<")
    setattr(data_set, sequence, [item])
    data_set[sequence].value[0].ModalityLUTType = "US"
    path = _written(data_set, tmp_path)
    if sequence == "ModalityLUTSequence":
        assert np.array_equal(pixels.modality_values(path), entries[RAMP])
    else:
        assert np.allclose(pixels.display_values(path), entries[RAMP] / 255)


def test_a_lut_that_says_8_bits_and_holds_words_is_one_of_words(tmp_path: Path) -> None:
    entries = (np.arange(4096) >> 4).tolist()
    path = _file(tmp_path, ModalityLUTSequence=_lut(0, entries, bits=8))
    assert np.array_equal(pixels.modality_values(path), RAMP >> 4)


def test_a_lut_of_65536_entries_says_0(tmp_path: Path) -> None:
    (item,) = _lut(0, [0])
    item.LUTDescriptor = [0, 0, 16]
    item.LUTData = np.arange(65535, -1, -1, dtype="<u2").tobytes()
    assert np.array_equal(pixels.modality_values(_file(tmp_path, ModalityLUTSequence=[item])), 65535.0 - RAMP)


def test_a_voi_lut_begins_below_zero_where_its_values_do(tmp_path: Path) -> None:
    (item,) = _lut(64512, list(range(4096)), bits=12)
    item["LUTDescriptor"].VR = "US"
    path = _file(tmp_path, VOILUTSequence=[item], RescaleIntercept=-1024)
    assert np.allclose(pixels.display_values(path), RAMP / 4095, atol=1e-6)


def _color(bits: int, photometric: str, allocated: int = 16) -> Dataset:
    """The same colors in any number of bits: samples that are colors in RGB, and others in YBR."""
    ramp = np.arange(4096).reshape(64, 64)
    colors = np.stack([64 + (ramp >> 5), 96 + (ramp >> 6), 190 - (ramp >> 5)], axis=-1)
    scaled = np.rint(colors * ((2**bits - 1) / 255)).astype(f"<u{allocated // 8}")
    data_set = _data_set()
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation, data_set.PlanarConfiguration = 3, photometric, 0
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = allocated, bits, bits - 1
    data_set.PixelData = scaled.tobytes()
    return data_set


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_color_in_16_bits_is_scaled_by_its_stored_bits(bits: int, photometric: str, tmp_path: Path) -> None:
    twin = pixels.picture(_written(_color(8, photometric, allocated=8), tmp_path))
    assert np.array_equal(pixels.picture(_written(_color(bits, photometric), tmp_path)), twin)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=lambda syntax: syntax.name)
def test_a_compressed_color_in_16_bits_is_scaled_too(syntax: UID, tmp_path: Path) -> None:
    twin = pixels.picture(_written(_color(8, "RGB", allocated=8), tmp_path))
    data_set = _color(12, "RGB")
    data_set.compress(syntax)
    assert np.array_equal(pixels.picture(_written(data_set, tmp_path)), twin)


@pytest.mark.parametrize("photometric", ["YBR_PARTIAL_420", "HSV", "CMYK"])
def test_colors_of_another_space_are_refused_by_its_name(photometric: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenSeries, match=f"its colors are in {photometric}"):
        pixels.picture(_written(_color(8, photometric, allocated=8), tmp_path))


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"])
def test_a_jpeg_of_12_bits_is_decoded(uid: str) -> None:
    folder = shared(SYNTAXES)
    (path,) = folder.glob(f"CTImage.dcm_*_{uid}.dcm")
    plain = pixels.modality_values(folder / "CTImage.dcm")
    assert np.abs(pixels.modality_values(path) - plain).mean() < 5


@pytest.mark.parametrize("change", [_without_pixel_data, _with_empty_pixel_data])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda syntax: syntax.name)
def test_an_object_without_pixel_data_is_told_from_one_that_cannot_be_decoded(
    syntax: UID, change: Callable[[Dataset], None], tmp_path: Path
) -> None:
    data_set = _encoded(RAMP, syntax)
    change(data_set)
    with pytest.raises(BrokenSeries, match="the object has no pixel data"):
        pixels.modality_values(_written(data_set, tmp_path))


def test_a_transfer_syntax_without_decoder_is_named(tmp_path: Path) -> None:
    data_set = _data_set()
    _unknown_syntax(data_set)
    with pytest.raises(BrokenSeries, match=r"transfer syntax .*1\.2\.840\.10008\.1\.2\.4\.111"):
        pixels.modality_values(_written(data_set, tmp_path))


def _truncated(data_set: Dataset) -> None:
    data_set.PixelData = data_set.PixelData[:100]


def _enormous(data_set: Dataset) -> None:
    data_set.Rows = data_set.Columns = 65535


def _without_pixels(data_set: Dataset) -> None:
    del data_set.PixelData


def _unknown_syntax(data_set: Dataset) -> None:
    data_set.PixelData = encapsulate([bytes(64)])
    data_set.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.111")


def _no_bits(data_set: Dataset) -> None:
    del data_set.BitsAllocated


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("damage", [_truncated, _enormous, _without_pixels, _unknown_syntax, _no_bits])
def test_a_broken_image_is_a_broken_series_that_names_it(damage: Callable[[Dataset], None], tmp_path: Path) -> None:
    data_set = _data_set()
    damage(data_set)
    path = _written(data_set, tmp_path)
    for read in (pixels.modality_values, pixels.display_values, pixels.picture):
        with pytest.raises(BrokenSeries, match=data_set.SOPInstanceUID):
            read(path)


@pytest.mark.parametrize("name", ["no DICOM at all", ""])
def test_a_file_that_is_no_image_is_a_broken_series(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(name)
    with pytest.raises(BrokenSeries):
        pixels.display_values(path)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_small_file_that_would_decode_to_gigabytes_is_refused_before_it_is_decoded(
    syntax: UID, tmp_path: Path
) -> None:
    data_set = _data_set()
    data_set.compress(syntax)
    frame = bytearray(next(generate_frames(data_set.PixelData, number_of_frames=1)))
    if syntax == JPEG2000Lossless:
        frame[8:16] = (60000).to_bytes(4) * 2
    else:
        at = frame.index(b"\xff\xf7") + 5
        frame[at : at + 4] = (60000).to_bytes(2) * 2
    data_set.PixelData = encapsulate([bytes(frame)])
    with pytest.raises(BrokenSeries) as caught:
        pixels.display_values(_written(data_set, tmp_path))
    assert "60000 x 60000" in str(caught.value.__cause__)


@pytest.mark.filterwarnings("ignore")
def test_no_damage_to_a_file_gets_through_as_another_error(tmp_path: Path) -> None:
    random, path = np.random.default_rng(7), tmp_path / "damaged.dcm"
    whole = [_written(_data_set(), tmp_path).read_bytes()]
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        data_set = _data_set()
        data_set.compress(syntax)
        whole.append(_written(data_set, tmp_path).read_bytes())
    refused = 0
    for content in whole * 60:
        damaged = bytearray(content[: random.integers(200, len(content) + 1)])
        for at in random.integers(132, len(damaged), 8):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        try:
            pixels.picture(path)
        except BrokenSeries:
            refused += 1
    assert refused > 60


@pytest.mark.filterwarnings("ignore")
def test_every_shared_file_is_decoded_or_refused() -> None:
    folder = shared("data/dicom")
    seen = {True: 0, False: 0}
    for path in [*sorted((folder / "corrupt_odd").rglob("*.dcm")), *sorted((folder / "transfer_syntaxes").rglob("*"))]:
        try:
            seen[pixels.picture(path).dtype == np.uint8] += 1
        except BrokenSeries:
            seen[False] += 1
    assert all(seen.values())


@pytest.mark.filterwarnings("ignore")
def test_the_transfer_syntaxes_of_one_ct_slice_agree() -> None:
    folder = shared(SYNTAXES)
    plain = pixels.modality_values(folder / "CTImage.dcm")
    for uid in ("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80"):
        (path,) = folder.glob(f"CTImage.dcm_*_{uid}.dcm")
        assert np.array_equal(pixels.modality_values(path), plain), dcmread(path).file_meta.TransferSyntaxUID.name
