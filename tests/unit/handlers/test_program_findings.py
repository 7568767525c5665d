"""What a program finds: held against its description and its image, and on a frame where there are several."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ainode.handlers.program.description import Class, Output, Quantity
from ainode.handlers.program.findings import Seen, findings_of, is_cut
from ainode.node import testing
from ainode.node.domain import Code
from ainode.node.encoding import headers
from ainode.node.errors import HandlerError
from ainode.node.imaging.geometry import Stack, stack

NODULE = Code("27925004", "SCT", "Nodule")
LUNG = Code("39607008", "SCT", "Lung")
VOLUME, MILLILITER = Code("118565006", "SCT", "Volume"), Code("ml", "UCUM", "ml")
FINDING = {"class": "nodule", "probability": 0.9, "image": "00001.dcm"}


def seen(folder: Path, frames: int) -> Seen:
    dataset = testing.dataset(testing.noise(32, 32, seed=1), study="frames")
    dataset.NumberOfFrames = frames
    dataset.PixelData = dataset.PixelData * frames
    path = folder / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return Seen({"00001.dcm": headers.instance(path, sha256="")}, None)


@pytest.fixture
def output() -> Output:
    return Output(LUNG, {"nodule": Class("nodule", NODULE, LUNG, 0.5, "")}, {}, {})


BOX = {"box": [2, 3, 20, 30]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"probability": 7}, "the probability is none of 0 to 1"),
        ({"probability": "0.9"}, "a value is no finite number"),
        ({"box": [0, 0, 99, 9]}, "box is no left, top, right, bottom in pixels of its image"),
        ({"box": [1, 2, 3]}, "box is a list of 4 numbers"),
        ({"image": "/etc/passwd"}, r"image is none of the files in task\.json"),
        ({"class": "x"}, "it is an object with the keys"),
        ({"class": ["nodule"]}, "it is an object with the keys"),
        ({"patient": 1}, "it is an object with the keys"),
    ],
)
def test_a_finding_that_is_not_as_agreed_is_refused_by_its_number(
    tmp_path: Path, output: Output, change: dict[str, object], reason: str
) -> None:
    entries = [FINDING, {**FINDING, **change}]
    with pytest.raises(HandlerError, match=f"finding 2: {reason}"):
        findings_of({"findings": entries}, {}, output, seen(tmp_path, 1))


@pytest.mark.parametrize(
    ("frames", "place", "reason"),
    [
        (5, BOX, "box is on an image of 5 frames; frame is the number of one, from 1 to 5"),
        (5, {**BOX, "frame": 0}, "from 1 to 5"),
        (5, {**BOX, "frame": 6}, "from 1 to 5"),
        (5, {**BOX, "frame": True}, "from 1 to 5"),
        (5, {**BOX, "frame": "2"}, "from 1 to 5"),
        (1, {**BOX, "frame": 2}, "from 1 to 1"),
        (5, {"frame": 2}, "frame is that of a box, and there is none"),
    ],
)
def test_a_box_that_names_no_frame_of_its_image_is_refused(
    tmp_path: Path, output: Output, frames: int, place: dict[str, object], reason: str
) -> None:
    with pytest.raises(HandlerError, match=f"finding 1: .*{reason}"):
        findings_of({"findings": [{**FINDING, **place}]}, {}, output, seen(tmp_path, frames))


@pytest.mark.parametrize(
    ("frames", "place", "frame"),
    [(1, BOX, None), (1, {**BOX, "frame": 1}, None), (5, {**BOX, "frame": 1}, 1), (5, {**BOX, "frame": 5}, 5)],
)
def test_a_box_has_the_number_of_its_frame_where_there_are_several(
    tmp_path: Path, output: Output, frames: int, place: dict[str, object], frame: int | None
) -> None:
    (finding,) = findings_of({"findings": [{**FINDING, **place}]}, {}, output, seen(tmp_path, frames))
    assert finding.region is not None
    assert finding.region.frame == frame


def test_a_finding_without_a_place_is_on_all_frames(tmp_path: Path, output: Output) -> None:
    (finding,) = findings_of({"findings": [FINDING]}, {}, output, seen(tmp_path, 5))
    assert finding.region is None


def test_two_measurements_of_one_code_are_told_apart_by_their_names(tmp_path: Path, output: Output) -> None:
    quantities = {name: Quantity(name, VOLUME, MILLILITER, f"measurements.{name}") for name in ("left", "right")}
    numbers = {"measurements.left": 2.0, "measurements.right": 3.0}
    findings = findings_of({}, numbers, replace(output, quantities=quantities), seen(tmp_path, 1))
    assert [(item.tracking_identifier, item.measurements[0].value) for item in findings] == [("left", 2), ("right", 3)]


def ruler(least: float, most: float = 100) -> Output:
    return Output(LUNG, {}, {"volume": Quantity("volume", VOLUME, MILLILITER, "measurements.volume", least, most)}, {})


def test_a_number_that_a_quantity_cannot_have_is_refused_by_its_name(tmp_path: Path) -> None:
    shown = seen(tmp_path, 1)
    for value in (-5.0, 101.0):
        with pytest.raises(HandlerError, match="volume cannot be: it is 0 at least and 100 at most, in ml"):
            findings_of({}, {"measurements.volume": value}, ruler(0), shown)
    output = replace(ruler(0), classes={"nodule": Class("nodule", NODULE, LUNG, 0.5, "")})
    with pytest.raises(HandlerError, match="finding 1: the number of volume cannot be"):
        findings_of({"findings": [{**FINDING, "measurements": {"volume": -1}}]}, {}, output, shown)
    for least, value in ((0, 0.0), (0, 100.0), (-10, -5.0)):
        (finding,) = findings_of({}, {"measurements.volume": value}, ruler(least), shown)
        assert finding.measurements[0].value == value


@pytest.fixture
def slices(tmp_path: Path) -> Stack:
    """Three slices of 10 x 10 pixels of 1 mm, 2.5 mm apart."""
    values = np.random.default_rng(0).integers(-900, 200, (3, 10, 10)).astype(np.float32)
    images = testing.ct(values, (2.5, 1.0, 1.0), frame="boxes", header={})
    paths = testing.write(images, tmp_path / "slices", study="boxes")
    stacked = stack([headers.instance(path, sha256="") for path in paths])
    assert isinstance(stacked, Stack)
    return stacked


def box_mm(slices: Stack, low: tuple[float, float, float], high: tuple[float, float, float]) -> list[float]:
    """Return a box by two corners as slice, row and column."""
    axes = np.asarray([slices.normal, slices.column_axis, slices.row_axis]) * np.asarray(slices.spacing_mm)[:, None]
    return [float(value) for corner in (low, high) for value in slices.origin_mm + np.asarray(corner) @ axes]


def test_a_box_in_millimeters_and_an_image_that_it_does_not_reach_are_two_places(slices: Stack, output: Output) -> None:
    names = [f"0000{number}.dcm" for number in (1, 2, 3)]
    shown = Seen(dict(zip(names, slices.instances, strict=True)), slices)
    entry = {"class": "nodule", "probability": 0.9, "box_mm": box_mm(slices, (-0.4, 2, 2), (0.4, 6, 6))}
    for image in (None, names[0], names[1]):
        assert len(findings_of({"findings": [{**entry, "image": image}]}, {}, output, shown)) == 1
    with pytest.raises(HandlerError, match="finding 1: image and box_mm name different places"):
        findings_of({"findings": [{**entry, "image": names[2]}]}, {}, output, shown)
    with pytest.raises(HandlerError, match=r"finding 1: image is none of the files in task\.json"):
        findings_of({"findings": [{**entry, "image": "other.dcm"}]}, {}, output, shown)


@pytest.mark.parametrize(
    ("low", "high", "is_beyond"),
    [
        ((0, 0, 0), (2, 9, 9), False),
        ((-0.5, -1, -1), (2.5, 10, 10), False),
        ((0, -3, 0), (2, 9, 9), True),
        ((0, 0, 0), (2, 9, 12), True),
        ((-2, 0, 0), (2, 9, 9), True),
    ],
)
def test_a_box_that_goes_on_beyond_the_images_is_known(
    slices: Stack, low: tuple[float, float, float], high: tuple[float, float, float], *, is_beyond: bool
) -> None:
    assert is_cut(box_mm(slices, low, high), slices) is is_beyond
