"""Stacks of slices in a site's network: what it marks lies on the very pixels, held against headers alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from support.described import CT_CLASSES, VOLUME, DescribedNode, write_model
from support.graphs import brightness_file, node_file, ramp_file

from ainode.handlers.described.description import read_description
from ainode.handlers.described.volumes import Scan, prepared_volume
from ainode.models.described.labels import Marking
from ainode.models.errors import ModelError, UnusablePicture
from ainode.node import testing
from ainode.node.domain import OutOfScope, Result, SyntheticImage
from ainode.node.encoding import headers
from ainode.node.errors import ConfigError, WeightsError
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.reading import described

SIDES = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "I": (2, -1), "S": (2, 1)}
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
# A row axis and a column axis as scanners write them: tilted about two axes, and sagittal with rows to the head.
OBLIQUE = ((0.9396926, 0.3420201, 0.0), (-0.3213938, 0.8830222, 0.3420201))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
ROWS, COLUMNS, SLICES = 36, 50, 11
SPACING = (3.5, 1.4, 0.9)
"""mm between slices, rows, columns"""


def _gray(value: int) -> NDArray[np.uint16]:
    """Return a volume of one value, but for a voxel: what has one value alone is refused."""
    values = np.full((SLICES, ROWS, COLUMNS), value, np.uint16)
    values[5, 6, 7] += 1
    return values


def _slices(
    axes: tuple[tuple[float, ...], ...], step: int = 1, *, values: NDArray[np.uint16] | None = None
) -> tuple[SyntheticImage, ...]:
    """Return a stack of an MR along any axes; `step` -1 stores the last slice first."""
    row, column = map(np.asarray, axes)
    normal = np.cross(row, column)
    pixels = _gray(500) if values is None else values
    common = {
        "Modality": "MR",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "FrameOfReferenceUID": "2.25.7",
        "ImageOrientationPatient": (*map(float, row), *map(float, column)),
        "PixelSpacing": SPACING[1:],
        "SliceThickness": SPACING[0],
    }
    images = []
    for number in range(SLICES)[::step]:
        at = np.asarray((-20.0, 5.0, 40.0)) + normal * SPACING[0] * number
        place = {"ImagePositionPatient": tuple(map(float, at)), "InstanceNumber": number + 1}
        images.append(SyntheticImage(ROWS, COLUMNS, pixels[number].astype("<u2").tobytes(), {**common, **place}))
    return tuple(images)


def _answer(folder: Path, images: tuple[SyntheticImage, ...], text: str, file: Path) -> Result | OutOfScope:
    write_model(folder / "models", "half", file, text)
    return DescribedNode(folder, testing.write(images, folder / "study", study="study")).answer("half")


def _places(image: Dataset) -> NDArray[np.float64]:
    """Return the position of each pixel in mm, (3, rows, columns), by PS3.3 C.7.6.2.1.1."""
    row, column = np.asarray(image.ImageOrientationPatient, float).reshape(2, 3)
    down, right = map(float, image.PixelSpacing)
    rows, columns = np.mgrid[: image.Rows, : image.Columns]
    origin = np.asarray(image.ImagePositionPatient, float)
    steps = column[:, None, None] * down * rows + row[:, None, None] * right * columns
    return np.asarray(origin[:, None, None] + steps)


def _masks(folder: Path, result: Result) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return the marked pixels of every slice, and the places of all pixels, from the files themselves."""
    assert result.segmented is not None
    maps = {item.image.sop_instance_uid: item for item in result.segmented.maps}
    masks, places = [], []
    for path in sorted((folder / "study").glob("*.dcm")):
        image = dcmread(path)
        item = maps.get(image.SOPInstanceUID)
        labels = np.frombuffer(item.labels, np.uint8) if item else np.zeros(image.Rows * image.Columns, np.uint8)
        masks.append(labels.reshape(image.Rows, image.Columns) == 1)
        places.append(_places(image))
    return np.stack(masks), np.stack(places)


@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE, SAGITTAL], ids=["axial", "oblique", "sagittal"])
@pytest.mark.parametrize("step", [1, -1], ids=["upward", "downward"])
@pytest.mark.parametrize("orientation", ["RAS", "SPL"])
def test_the_half_that_a_network_marks_is_that_half_of_the_patient(
    tmp_path: Path, axes: tuple[tuple[float, ...], ...], step: int, orientation: str
) -> None:
    size = (64, 64, 64)
    text = VOLUME.replace("{orientation}", orientation).replace("{spacing}", "[1.0, 1.3, 0.8]")
    text = text.replace("{size}", str(list(size)))
    file = ramp_file(tmp_path / "ramp.onnx", (1, 1, *size), axis=2)
    result = _answer(tmp_path, _slices(axes, step), text, file)
    assert isinstance(result, Result)
    masks, places = _masks(tmp_path, result)
    # The input runs along the axis of the stack that lies nearest to its letter: the middle plane parts the stack.
    component, sign = SIDES[orientation[0]]
    row, column = map(np.asarray, axes)
    vectors = (row, column, np.cross(row, column))
    nearest = max(vectors, key=lambda vector: abs(vector[component]))
    direction = nearest * np.sign(nearest[component]) * sign
    along = np.einsum("i,nirc->nrc", direction, places)
    beyond_mm = along - along.mean()
    np.testing.assert_array_equal(masks[np.abs(beyond_mm) > 0.6], (beyond_mm > 0)[np.abs(beyond_mm) > 0.6])
    (finding,) = result.findings
    volume_ml = masks.sum() * np.prod(SPACING) / 1000
    assert result.scores["half ml"] == pytest.approx(volume_ml)
    assert (finding.measurements[0].value, finding.measurements[0].unit.value) == (float(f"{volume_ml:.3g}"), "ml")


def test_bright_voxels_are_marked_to_the_last_pixel_in_own_voxels(tmp_path: Path) -> None:
    bright = np.random.default_rng(0).random((SLICES, ROWS, COLUMNS)) > 0.8
    bright[:, :2] = False
    bright[0] = True
    text = VOLUME.replace("{orientation}", "RAS").replace("spacing_mm = {spacing}\n", "")
    text = text.replace("size = {size}\n", "[input.sliding]\nroi = [16, 16, 8]\noverlap = 0.25\n")
    text = text.replace("range = [0, 1000]\n", "").replace("dimensions = 3", "dimensions = 3\nrange = [0, 1000]")
    file = brightness_file(tmp_path / "bright.onnx", (1, 1, 16, 16, 8))
    result = _answer(tmp_path, _slices(OBLIQUE, values=np.where(bright, 900, 100).astype(np.uint16)), text, file)
    assert isinstance(result, Result)
    masks, _ = _masks(tmp_path, result)
    np.testing.assert_array_equal(masks, bright)


def test_a_stack_of_one_value_or_wider_than_any_body_is_refused(tmp_path: Path) -> None:
    text = VOLUME.replace("{orientation}", "RAS").replace("{spacing}", "[2.0, 2.0, 2.0]")
    text = text.replace("{size}", "[24, 24, 24]")
    file = brightness_file(tmp_path / "bright.onnx", (1, 1, 24, 24, 24))
    flat = np.full((SLICES, ROWS, COLUMNS), 900, np.uint16) + np.arange(SLICES, dtype=np.uint16)[:, None, None]
    answer = _answer(tmp_path, _slices(AXIAL, values=flat), text, file)
    assert isinstance(answer, OutOfScope)
    assert (answer.code, "all pixels of each slice have one value" in answer.reason) == ("unusable-pixels", True)
    wide = tuple(replace(image, header={**image.header, "PixelSpacing": (20.0, 20.0)}) for image in _slices(AXIAL))
    answer = _answer(tmp_path, wide, text, file)
    assert isinstance(answer, OutOfScope)
    assert answer.code == "wrong-pixel-size"
    assert "by Pixel Spacing its slices are 720 mm wide; at most 700 mm are read" in answer.reason


def test_a_stack_on_which_nothing_is_marked_is_no_healthy_one(tmp_path: Path) -> None:
    text = VOLUME.replace("{orientation}", "RAS").replace("{spacing}", "[2.0, 2.0, 2.0]")
    text = text.replace("{size}", "[24, 24, 24]")
    file = brightness_file(tmp_path / "bright.onnx", (1, 1, 24, 24, 24))
    answer = _answer(tmp_path, _slices(AXIAL, values=_gray(100)), text, file)
    assert isinstance(answer, OutOfScope)
    assert answer.code == "nothing-marked"
    # Of 36 rows of 1.4 mm, 48 mm lie in the input.
    seen = "94 % of the volume lie in the input; the rest was not seen"
    assert answer.reason == f"nothing marked (half); {seen}; what is not marked was not ruled out"


@pytest.mark.parametrize("scaling", ["percentiles = [10, 60]", 'values = "zscore"'])
def test_a_volume_is_scaled_by_the_scan_and_not_by_what_lies_around_it(tmp_path: Path, scaling: str) -> None:
    values = np.random.default_rng(5).integers(0, 1000, (SLICES, ROWS, COLUMNS)).astype(np.uint16)
    values[:2] = values[-2:] = 900  # the outer voxels, which go on beyond the scan
    paths = testing.write(_slices(AXIAL, values=values), tmp_path / "study", study="study")
    text = VOLUME.replace("{orientation}", "SPL").replace("spacing_mm = {spacing}\n", "")
    text = text.replace("{size}", "[64, 64, 64]").replace("range = [0, 1000]", scaling)
    write_model(tmp_path / "models", "half", ramp_file(tmp_path / "ramp.onnx", (1, 1, 64, 64, 64), axis=2), text)
    network_input = read_description(described.described("half", tmp_path / "models")).input
    slices = stack(headers.instance(path, sha256="") for path in paths)
    assert isinstance(slices, Stack)
    inputs, placement = prepared_volume(Scan(slices), network_input)
    exact = values.astype(np.float64)
    low, high = np.percentile(exact, (10, 60))
    expected = np.clip((exact - low) / (high - low), 0, 1)
    if "zscore" in scaling:
        expected = (exact - exact.mean()) / exact.std()
    np.testing.assert_allclose(placement.on_source(inputs[0, 0]), expected, atol=1e-5)


OWN_VOXELS = VOLUME.replace("{orientation}", "SPL").replace("spacing_mm = {spacing}\n", "")
OWN_VOXELS = OWN_VOXELS.replace("{size}", str([SLICES, ROWS, COLUMNS]))
SLICE_BY_SLICE = OWN_VOXELS.replace("dimensions = 3", "dimensions = 2").replace('orientation = "SPL"\n', "")
SLICE_BY_SLICE = SLICE_BY_SLICE.replace(str([SLICES, ROWS, COLUMNS]), str([ROWS, COLUMNS]))
SLICE_BY_SLICE = SLICE_BY_SLICE.replace("[takes]", '[takes]\nimages = "stack"')
BRIGHT = np.full((SLICES, ROWS, COLUMNS), 100, np.uint16)
BRIGHT[:, 20:30, 8:22] = 900
BRIGHT[:, 0, 0] = 0
BRIGHT[:, 0, 1] = 1000


def _dark_is_high(images: tuple[SyntheticImage, ...], **header: str) -> tuple[SyntheticImage, ...]:
    header = {"PhotometricInterpretation": "MONOCHROME1", **header}
    return tuple(replace(image, header={**image.header, **header}) for image in images)


@pytest.mark.parametrize("text", [OWN_VOXELS, SLICE_BY_SLICE], ids=["volume", "slices"])
@pytest.mark.parametrize("scaling", ["range = [0, 1000]", "percentiles = [0, 100]", 'values = "zscore"'])
def test_what_is_bright_on_a_stack_is_marked_also_where_the_slices_say_monochrome1(
    tmp_path: Path, text: str, scaling: str
) -> None:
    shape = (1, 1, SLICES, ROWS, COLUMNS) if text is OWN_VOXELS else (1, 1, ROWS, COLUMNS)
    file = brightness_file(tmp_path / "bright.onnx", shape)
    images = _dark_is_high(_slices(AXIAL, values=(1000 - BRIGHT).astype(np.uint16)))
    result = _answer(tmp_path, images, text.replace("range = [0, 1000]", scaling), file)
    assert isinstance(result, Result)
    masks, _ = _masks(tmp_path, result)
    np.testing.assert_array_equal(masks, BRIGHT > 500)


@pytest.mark.parametrize("text", [OWN_VOXELS, SLICE_BY_SLICE], ids=["volume", "slices"])
@pytest.mark.parametrize("scaling", ["range = [0, 1000]", "percentiles = [0, 100]", 'values = "zscore"'])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_dark_and_changes_nothing_of_what_is_marked(
    tmp_path: Path, text: str, scaling: str, photometric: str
) -> None:
    shape = (1, 1, SLICES, ROWS, COLUMNS) if text is OWN_VOXELS else (1, 1, ROWS, COLUMNS)
    file = brightness_file(tmp_path / "bright.onnx", shape)
    values = (1000 - BRIGHT if photometric == "MONOCHROME1" else BRIGHT).astype(np.uint16)
    values[:, :, -6:] = 60000
    values[-1] = 60000  # a slice without an image
    header = {"PixelPaddingValue": 60000, "BitsStored": 16, "HighBit": 15, "PhotometricInterpretation": photometric}
    images = _slices(AXIAL, values=values)
    padded = tuple(replace(image, header={**image.header, **header}) for image in images)
    result = _answer(tmp_path, padded, text.replace("range = [0, 1000]", scaling), file)
    assert isinstance(result, Result)
    masks, _ = _masks(tmp_path, result)
    expected = BRIGHT > 500
    expected[-1] = False
    np.testing.assert_array_equal(masks, expected)


@pytest.mark.parametrize("text", [OWN_VOXELS, SLICE_BY_SLICE], ids=["volume", "slices"])
def test_a_stack_that_is_padding_alone_is_refused(tmp_path: Path, text: str) -> None:
    shape = (1, 1, SLICES, ROWS, COLUMNS) if text is OWN_VOXELS else (1, 1, ROWS, COLUMNS)
    file = brightness_file(tmp_path / "bright.onnx", shape)
    values = np.random.default_rng(0).integers(3000, 4000, (SLICES, ROWS, COLUMNS)).astype(np.uint16)
    header = {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 2000}
    images = _slices(AXIAL, values=values)
    padded = tuple(replace(image, header={**image.header, **header}) for image in images)
    refusal = _answer(tmp_path, padded, text, file)
    assert isinstance(refusal, OutOfScope)
    assert "all pixels of each slice have one value" in refusal.reason


def test_values_as_they_are_and_slices_of_both_kinds_are_refused_where_high_is_dark(tmp_path: Path) -> None:
    file = brightness_file(tmp_path / "bright.onnx", (1, 1, SLICES, ROWS, COLUMNS))
    images = _slices(AXIAL, values=BRIGHT)
    raw = OWN_VOXELS.replace("range = [0, 1000]", 'values = "raw"')
    answer = _answer(tmp_path, _dark_is_high(images), raw, file)
    assert isinstance(answer, OutOfScope)
    assert (answer.code, "high values are dark (MONOCHROME1)" in answer.reason) == ("unusable-pixels", True)
    paths = testing.write(images, tmp_path / "both", study="both")
    for path in paths[:5]:
        image = dcmread(path)
        image.PhotometricInterpretation = "MONOCHROME1"
        image.save_as(path)
    slices = stack(headers.instance(path, sha256="") for path in paths)
    assert isinstance(slices, Stack)
    with pytest.raises(UnusablePicture, match=r"high values are dark on some slices \(MONOCHROME1\)"):
        prepared_volume(Scan(slices), read_description(described.described("half", tmp_path / "models")).input)


@pytest.mark.parametrize(
    ("operator", "attributes", "grid"),
    [
        ("AveragePool", {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}, "20 x 22 x 24"),
        ("AveragePool", {"kernel_shape": [5, 5, 5]}, "36 x 40 x 44"),
        ("Transpose", {"perm": [0, 2, 3, 4, 1]}, "44 x 48 x 1"),
        ("Transpose", {"perm": [0, 1, 3, 2, 4]}, "44 x 40 x 48"),
    ],
    ids=["half as fine", "cut", "channels last", "axes exchanged"],
)
@pytest.mark.parametrize("spacing", ["", "spacing_mm = [3.5, 1.4, 0.9]\n"])
def test_an_answer_on_another_grid_than_the_input_is_never_placed(
    tmp_path: Path, operator: str, attributes: dict[str, list[int]], grid: str, spacing: str
) -> None:
    size = (40, 44, 48)
    file = node_file(tmp_path / "other.onnx", (1, 1, *size), operator, **attributes)
    text = OWN_VOXELS.replace(str([SLICES, ROWS, COLUMNS]), str(list(size))).replace("size =", f"{spacing}size =")
    with pytest.raises(
        WeightsError, match=rf"half: the network answers on a grid of {grid} for an input of 40 x 44 x 48"
    ):
        _answer(tmp_path, _slices(AXIAL, values=BRIGHT), text, file)


LABELS = OWN_VOXELS.replace('masks = "channels"\nactivation = "sigmoid"\nthreshold = 0.5', 'masks = "labels"')
LABELS = LABELS.replace("value = 0", "value = 1").replace("range = [0, 1000]", 'values = "raw"')


@pytest.mark.parametrize(
    ("label", "shown"), [(7, "7"), (-1, "-1"), (1.5, "1.5")], ids=["undescribed", "negative", "no whole number"]
)
def test_a_label_that_the_description_does_not_know_is_refused_by_its_value(
    tmp_path: Path, label: float, shown: str
) -> None:
    file = node_file(tmp_path / "same.onnx", (1, 1, SLICES, ROWS, COLUMNS), "Identity")
    scaled = LABELS.replace('values = "raw"', f'values = "raw"\nmean = [{1 - 2 * label}]\nstd = [2.0]')
    values = np.where(BRIGHT > 500, 1, 0).astype(np.uint16)
    values[3, 4, 5] = 2  # 1 becomes the label, 0 something else again
    with pytest.raises(WeightsError, match=r"half: the network marks with .*; the description knows 0, 1: name"):
        _answer(tmp_path, _slices(AXIAL, values=values), scaled, file)
    with pytest.raises(ModelError, match=rf"the network marks with {shown}; the description knows 0, 1, 3"):
        Marking("labels", (1,), "none", 0.5, left_out=(3,)).labels(
            np.asarray([[[[0, 1], [label, 3]]]], np.float32), 2, lambda labels, _: labels
        )


def test_labels_that_are_left_out_by_name_stay_unmarked(tmp_path: Path) -> None:
    file = node_file(tmp_path / "same.onnx", (1, 1, SLICES, ROWS, COLUMNS), "Identity")
    values = np.where(BRIGHT > 500, 1, 0).astype(np.uint16)
    values[:, 2, 2] = 7
    text = LABELS.replace('masks = "labels"', 'masks = "labels"\nleft_out = [7, 8]')
    result = _answer(tmp_path, _slices(AXIAL, values=values), text, file)
    assert isinstance(result, Result)
    masks, _ = _masks(tmp_path, result)
    np.testing.assert_array_equal(masks, BRIGHT > 500)


@pytest.mark.parametrize(
    ("text", "old", "new", "words"),
    [
        (LABELS, "value = 1", "value = 0", "a segment has the value 0, which in a map is what nothing marks"),
        (LABELS, 'masks = "labels"', 'masks = "labels"\nleft_out = [0]', "left_out = .*whole numbers from 1 to 1000"),
        (OWN_VOXELS, "threshold = 0.5", "threshold = 0.5\nleft_out = [3]", "left_out = .* it names values of a map"),
        (LABELS, 'name = "half"', f'name = "{65 * "h"}"', "64 characters are needed at most"),
        (LABELS, "[output]", "[input.sliding]\nroi = [8, 8, 8]\n\n[output]", "labels have no mean there"),
    ],
)
def test_a_description_whose_labels_cannot_be_told_apart_is_refused(
    tmp_path: Path, text: str, old: str, new: str, words: str
) -> None:
    assert text.count(old) == 1
    file = node_file(tmp_path / "same.onnx", (1, 1, SLICES, ROWS, COLUMNS), "Identity")
    with pytest.raises(ConfigError, match=words):
        _answer(tmp_path, (), text.replace(old, new), file)


@pytest.mark.parametrize(("axes", "name"), [(SAGITTAL, "sagittal"), (((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)), "coronal")])
def test_slices_across_another_direction_than_the_input_wants_are_refused_by_name(
    tmp_path: Path, axes: tuple[tuple[float, ...], ...], name: str
) -> None:
    text = SLICE_BY_SLICE.replace("dimensions = 2", 'dimensions = 2\norientation = "RA"')
    file = brightness_file(tmp_path / "bright.onnx", (1, 1, ROWS, COLUMNS))
    answer = _answer(tmp_path, _slices(axes, values=BRIGHT), text, file)
    assert isinstance(answer, OutOfScope)
    assert answer.code == "unusable-pixels"
    assert f"rows and columns run to R and A in the input; the slices are {name}" in answer.reason


@pytest.mark.parametrize("shear", [0.004, 0.01, 0.12])
def test_each_pixel_is_marked_where_rows_are_not_quite_perpendicular_to_columns(tmp_path: Path, shear: float) -> None:
    axes = ((1.0, 0.0, 0.0), (shear, float(np.sqrt(1 - shear**2)), 0.0))
    file = brightness_file(tmp_path / "bright.onnx", (1, 1, SLICES, ROWS, COLUMNS))
    result = _answer(tmp_path, _slices(axes, values=BRIGHT), OWN_VOXELS, file)
    assert isinstance(result, Result)
    masks, _ = _masks(tmp_path, result)
    np.testing.assert_array_equal(masks, BRIGHT > 500)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_windows_slide_also_where_the_channels_are_last(tmp_path: Path, dimensions: int) -> None:
    text, roi = (SLICE_BY_SLICE, (16, 24)) if dimensions == 2 else (OWN_VOXELS, (8, 16, 24))
    size = [SLICES, ROWS, COLUMNS][-dimensions:]
    text = text.replace(f"size = {size}\n", "").replace("range =", 'layout = "channels_last"\nrange =')
    text = text.replace("[output]", f"[input.sliding]\nroi = {list(roi)}\noverlap = 0.25\n\n[output]")
    result = _answer(
        tmp_path,
        _slices(AXIAL, values=BRIGHT),
        text,
        brightness_file(tmp_path / "bright.onnx", (1, *roi, 1)),
    )
    assert isinstance(result, Result)
    masks, _ = _masks(tmp_path, result)
    np.testing.assert_array_equal(masks, BRIGHT > 500)


def test_windows_are_refused_where_the_whole_input_is_read_at_once(tmp_path: Path) -> None:
    text = CT_CLASSES.replace("size = [48, 40]\n", "").replace(
        "[output]", "[input.sliding]\nroi = [48, 40]\n\n[output]"
    )
    write_model(tmp_path / "models", "half", ramp_file(tmp_path / "ramp.onnx", (1, 1, 48, 40), axis=2), text)
    with pytest.raises(ConfigError, match=r"classify reads the whole input at once: no \[input\.sliding\]"):
        DescribedNode(tmp_path, ()).answer("half")


def test_an_answer_that_is_smaller_than_its_window_is_not_stretched(tmp_path: Path) -> None:
    text = SLICE_BY_SLICE.replace(f"size = {[ROWS, COLUMNS]}\n", "")
    text = text.replace("[output]", "[input.sliding]\nroi = [16, 24]\n\n[output]")
    file = node_file(tmp_path / "cut.onnx", (1, 1, 16, 24), "AveragePool", kernel_shape=[5, 5])
    with pytest.raises(
        WeightsError, match=r"half: the network answers a window of \(16, 24\) in the shape \(1, 1, 12, 20\)"
    ):
        _answer(tmp_path, _slices(AXIAL, values=BRIGHT), text, file)


@pytest.mark.parametrize("whole_text", [OWN_VOXELS, SLICE_BY_SLICE], ids=["volume", "slices"])
def test_the_share_of_a_volume_that_was_seen_is_said(tmp_path: Path, whole_text: str) -> None:
    size = [SLICES, ROWS, COLUMNS] if whole_text is OWN_VOXELS else [ROWS, COLUMNS]
    cut_size = [18 if side == ROWS else side for side in size]
    text = whole_text.replace("size =", 'fit = "center"\nsize =').replace(str(size), str(cut_size))
    file = brightness_file(tmp_path / "bright.onnx", (1, 1, *cut_size))
    share = "50 % of the volume lie in the input; the rest was not seen"
    result = _answer(tmp_path, _slices(AXIAL, values=BRIGHT), text, file)
    assert isinstance(result, Result)
    assert dict(result.algorithm.parameters)["seen"] == share
    assert result.summary.endswith(f"; {share}")
    assert result.captures[0].captions == (share,)
    answer = _answer(tmp_path, _slices(AXIAL, values=_gray(100)), text, file)
    assert isinstance(answer, OutOfScope)
    assert answer.reason == f"nothing marked (half); {share}; what is not marked was not ruled out"
    whole = _answer(tmp_path, _slices(AXIAL, values=BRIGHT), whole_text, brightness_file(file, (1, 1, *size)))
    assert isinstance(whole, Result)
    assert "seen" not in dict(whole.algorithm.parameters)


CLASSES = (
    VOLUME[: VOLUME.index("[output]")].replace('"segment"', '"classify"')
    + """[output]
activation = "none"
site = ["38266002", "SCT", "Entire body"]

[[output.classes]]
name = "bright"
code = ["27925004", "SCT", "Nodule"]
threshold = 0.5
"""
)


@pytest.mark.parametrize("step", [1, -1], ids=["upward", "downward"])
@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL], ids=["axial", "sagittal"])
def test_the_picture_of_a_volume_is_a_slice_through_what_the_answer_hangs_on(
    tmp_path: Path, axes: tuple[tuple[float, ...], ...], step: int
) -> None:
    values = np.full((SLICES, ROWS, COLUMNS), 10, np.uint16)
    values[7:9, 20:30, 8:18] = 1000
    text = CLASSES.replace("{orientation}", "RAS").replace("{spacing}", "[1.0, 1.0, 1.0]")
    file = node_file(tmp_path / "mean.onnx", (1, 1, 64, 64, 64), "ReduceMean", axes=[2, 3, 4], keepdims=1)
    result = _answer(tmp_path, _slices(axes, step, values=values), text.replace("{size}", "[64, 64, 64]"), file)
    assert isinstance(result, Result)
    images = map(dcmread, (tmp_path / "study").glob("*.dcm"))
    numbers = {image.SOPInstanceUID: int(image.InstanceNumber) for image in images}
    assert numbers[result.key_images[0].sop_instance_uid] - 1 in {7, 8}
