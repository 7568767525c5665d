"""A key of a description that would change nothing is refused, and a PET is read in its units alone."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.described import BOXES, DESCRIPTION, DescribedNode, write_model
from support.graphs import constant_file, mean_file
from support.programs import shell, write_program

from ainode.handlers.described.description import read_description
from ainode.handlers.described.examples import example
from ainode.handlers.described.pictures import prepared
from ainode.node import testing
from ainode.node.domain import OutOfScope, Result, SyntheticImage
from ainode.node.encoding import headers
from ainode.node.errors import ConfigError
from ainode.node.reading import described, registry

_HEAD = BOXES[: BOXES.index("[output]")]
_SEGMENTS = """[output]
masks = "channels"
activation = "softmax"
threshold = 0.5
site = ["816094009", "SCT", "Chest"]

[[output.segments]]
name = "bone"
value = 1
code = ["272673000", "SCT", "Bone"]
"""
_PET = (
    DESCRIPTION.replace('modality = ["DX"]', 'modality = ["PT"]\nimages = "stack"\nsmallest_side = 8\nunits = "GML"')
    .replace("channels = 3", "channels = 1\nrange = [0, 10]")
    .replace("mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n", "")
    .replace("[output]", "[output]\nsaliency = false")
)


def _refused(folder: Path, text: str) -> str:
    write_model(folder / "models", "any", mean_file(folder / "net.onnx"), text)
    with pytest.raises(ConfigError) as refused:
        registry.handler("any", DescribedNode(folder, ()).environment)
    return str(refused.value)


@pytest.mark.parametrize("line", ["max_spacing_mm = 5.0", "min_coverage_mm = 50.0", 'kernel = "soft"'])
def test_what_only_a_stack_has_is_refused_of_images_by_themselves(tmp_path: Path, line: str) -> None:
    text = DESCRIPTION.replace("[takes]", f"[takes]\n{line}")
    assert f"{line.split(maxsplit=1)[0]} = " in (words := _refused(tmp_path, text))
    assert 'it is of a stack of slices: images = "stack"' in words
    write_program(tmp_path / "models", shell("true"), takes=f'images = "all"\n{line}')
    with pytest.raises(ConfigError, match="it is of a stack of slices"):
        registry.handler("tool", DescribedNode(tmp_path, ()).environment)


@pytest.mark.parametrize("letters", ["PL", "PR", "AL", "SR"])
def test_an_orientation_of_images_by_themselves_is_refused(tmp_path: Path, letters: str) -> None:
    text = DESCRIPTION.replace("channels = 3", f'channels = 3\norientation = "{letters}"')
    assert "orientation = " in _refused(tmp_path, text)


def test_what_no_slice_and_no_channel_is_judged_by_is_refused(tmp_path: Path) -> None:
    text = DESCRIPTION.replace("[output]", '[output]\nover_slices = "mean"')
    assert "over_slices = 'mean'; slices are read one by one" in _refused(tmp_path, text)
    assert "threshold = 0.5; labels have none" in _refused(tmp_path, _HEAD.replace('"detect"', '"segment"') + _SEGMENTS)


def test_raw_values_of_a_color_image_are_those_of_the_file(tmp_path: Path) -> None:
    pixels = np.full((64, 48, 3), 200, np.uint8)
    pixels[0, 0] = 255, 0, 100
    header = {"Modality": "XC", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4", "BodyPartExamined": "CHEST"}
    (path,) = testing.write([SyntheticImage(64, 48, pixels.tobytes(), header, 3)], tmp_path / "study", study="color")
    plain = DESCRIPTION.replace("mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n", 'values = "raw"\n')
    write_model(tmp_path / "models", "raw", mean_file(tmp_path / "net.onnx"), plain)
    model_input = read_description(described.described("raw", tmp_path / "models")).input
    inputs, _ = prepared(headers.instance(path, sha256=""), model_input)
    np.testing.assert_array_equal(inputs[0].transpose(1, 2, 0), pixels)


def _pet_answer(folder: Path, images: Iterable[SyntheticImage], text: str = _PET) -> Result | OutOfScope:
    folder.mkdir()
    file = constant_file(folder / "net.onnx", {"answer": [[0.0, 9.0]]}, (1, 1, 64, 48))
    write_model(folder / "models", "pet", file, text)
    return DescribedNode(folder, testing.write(images, folder / "study", study="pet")).answer("pet")


@pytest.mark.parametrize("units", ["BQML", "CNTS", ""])
def test_a_pet_in_other_units_than_the_description_names_is_refused(tmp_path: Path, units: str) -> None:
    write_model(tmp_path / "models", "pet", mean_file(tmp_path / "net.onnx"), _PET)
    images = example(read_description(described.described("pet", tmp_path / "models")).takes, 1).images
    assert isinstance(_pet_answer(tmp_path / "right", images), Result)
    others = [replace(image, header={**image.header, "Units": units}) for image in images]
    refusal = _pet_answer(tmp_path / "wrong", others)
    assert isinstance(refusal, OutOfScope)
    assert refusal.code == "wrong-units"
    assert f"Units (0054,1001) is {units or 'absent'}; the model reads GML" in refusal.reason


def test_a_description_of_pet_names_the_units_and_one_of_others_none(tmp_path: Path) -> None:
    assert "units is missing" in _refused(tmp_path, _PET.replace('units = "GML"', ""))
    assert "units = 'SUV'; it is one of CNTS" in _refused(tmp_path, _PET.replace('"GML"', '"SUV"'))
    text = DESCRIPTION.replace("[takes]", '[takes]\nunits = "GML"')
    assert "units = 'GML'; it is of a PET (PT) alone" in _refused(tmp_path, text)


@pytest.mark.parametrize(
    ("described_as", "written", "is_read"),
    [("BW", "BW", True), ("BW", "", True), ("BW", "LBM", False), ("IBW", "IBW", True), ("IBW", "", False)],
)
def test_uptake_values_are_read_by_what_they_are_normalized_by(
    tmp_path: Path, described_as: str, written: str, *, is_read: bool
) -> None:
    text = _PET.replace('units = "GML"', f'units = "GML"\nsuv = "{described_as}"')
    write_model(tmp_path / "models", "pet", mean_file(tmp_path / "net.onnx"), text)
    images = example(read_description(described.described("pet", tmp_path / "models")).takes, 1).images
    written_so = [replace(image, header={**image.header, "SUVType": written}) for image in images]
    answer = _pet_answer(tmp_path / "study", written_so, text)
    assert isinstance(answer, Result) is is_read
    if isinstance(answer, OutOfScope):
        words = f"SUV Type (0054,1006) is {written or 'BW'}; the model reads {described_as}"
        assert (answer.code, words in answer.reason) == ("wrong-units", True), answer.reason


def test_a_pet_that_was_not_corrected_for_attenuation_is_refused_unless_the_description_takes_it(
    tmp_path: Path,
) -> None:
    write_model(tmp_path / "models", "pet", mean_file(tmp_path / "net.onnx"), _PET)
    images = example(read_description(described.described("pet", tmp_path / "models")).takes, 1).images
    uncorrected = [replace(image, header={**image.header, "CorrectedImage": ("DECY", "SCAT")}) for image in images]
    refusal = _pet_answer(tmp_path / "wrong", uncorrected)
    assert isinstance(refusal, OutOfScope)
    assert "its attenuation is not corrected" in refusal.reason
    taken = _PET.replace("[takes]", '[takes]\nalso = ["uncorrected"]')
    assert isinstance(_pet_answer(tmp_path / "right", uncorrected, taken), Result)


def test_a_normalization_of_other_units_and_an_unknown_kind_of_image_are_refused(tmp_path: Path) -> None:
    text = _PET.replace('units = "GML"', 'units = "BQML"\nsuv = "BW"')
    assert "suv = 'BW'; it is of a PET in units of GML or CM2ML alone" in _refused(tmp_path, text)
    text = DESCRIPTION.replace("[takes]", '[takes]\nalso = ["raw"]')
    assert "also = ['raw']; 'raw' is none of for_processing, localizer" in _refused(tmp_path, text)
