"""What a site's networks answer, in the node's words: held against torch, SciPy and pydicom alone."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conformance.made import CONTEXT
from numpy.typing import ArrayLike, NDArray
from pydicom import dcmread
from scipy import ndimage
from support import judges
from support.described import (
    BOXES,
    CT_CLASSES,
    DESCRIPTION,
    VOLUME,
    DescribedNode,
    SmallVolumeNetwork,
    onnx_file,
    script_file,
    small_network,
    write_model,
)
from support.graphs import constant_file, mean_file, node_file

from ainode.handlers.described.description import read_description
from ainode.handlers.described.drafting import draft
from ainode.handlers.described.examples import example
from ainode.handlers.described.pictures import prepared
from ainode.models.described.attention import attention
from ainode.models.described.network import NetworkFile, opened
from ainode.models.errors import UnusablePicture
from ainode.models.running.runtime import Execution
from ainode.node import reports, testing
from ainode.node.console.measurements import measurements_of
from ainode.node.domain import DocumentKind, OutOfScope, Presence, Result, Selection, SyntheticImage
from ainode.node.encoding import headers
from ainode.node.errors import ConfigError, WeightsError
from ainode.node.reading import described, registry


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Return a phantom's slices, the lowest first."""
    folder = tmp_path_factory.mktemp("chest")
    write_model(folder / "models", "any", mean_file(folder / "net.onnx"), CT_CLASSES)
    takes = read_description(described.described("any", folder / "models")).takes
    return testing.write(example(takes, 1).images, folder / "study", study="chest")


def _hounsfield(paths: tuple[Path, ...]) -> NDArray[np.float64]:
    """Return the values of axial slices from the feet to the head, by the headers alone."""
    images = sorted(map(dcmread, paths), key=lambda image: float(image.ImagePositionPatient[2]))
    return np.stack([image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept) for image in images])


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return Hounsfield units as the description scales them: the window -400, 1500, less 0.5, by 0.25."""
    return ((np.clip((values + 1150) / 1500, 0, 1) - 0.5) / 0.25).astype(np.float32)


@pytest.mark.parametrize("over", ["max", "mean"])
def test_slices_are_read_one_by_one_and_the_decisive_one_is_shown(
    tmp_path: Path, chest: tuple[Path, ...], over: str
) -> None:
    network = small_network(4, channels=1, outputs=1)
    file = onnx_file(network, tmp_path / "net.onnx", (1, 1, 48, 40))
    write_model(tmp_path / "models", "slices", file, CT_CLASSES.replace('"max"', f'"{over}"'))
    result = DescribedNode(tmp_path, chest).answer("slices")
    assert isinstance(result, Result)
    unit = np.clip((_hounsfield(chest) + 1150) / 1500, 0, 1).astype(np.float32)
    small = np.stack([cv2.resize(plane, (40, 48), interpolation=cv2.INTER_AREA) for plane in unit])
    with torch.no_grad():
        each = network(torch.from_numpy((small[:, None] - 0.5) / 0.25)).sigmoid().numpy()[:, 0]
    expected = each.max() if over == "max" else each.mean()
    assert result.scores["opacity"] == pytest.approx(float(expected), abs=1e-4)
    positions = {str(dcmread(path).SOPInstanceUID): float(dcmread(path).ImagePositionPatient[2]) for path in chest}
    heights = sorted(positions.values())
    assert positions[result.key_images[0].sop_instance_uid] == heights[int(each.argmax())]
    assert len(result.evidence) == len(chest)
    assert result.captures[0].saliency is not None


def test_a_volume_is_read_as_scipy_resamples_it(tmp_path: Path, chest: tuple[Path, ...]) -> None:
    torch.manual_seed(5)
    network, size, spacing = SmallVolumeNetwork().eval(), (20, 40, 44), (4.5, 2.8, 2.9)
    text = CT_CLASSES.replace("size = [48, 40]", f"size = {list(size)}\nspacing_mm = {list(spacing)}")
    text = text.replace("dimensions = 2", 'dimensions = 3\norientation = "SRA"').replace('over_slices = "max"\n', "")
    file = onnx_file(network, tmp_path / "net.onnx", (1, 1, *size))
    write_model(tmp_path / "models", "volume", file, text.replace('over_slices = "max"\n', ""))
    result = DescribedNode(tmp_path, chest).answer("volume")
    assert isinstance(result, Result)
    values, own = _hounsfield(chest), np.asarray((5.0, 3.0, 3.0))
    places = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(size, spacing, strict=True)), indexing="ij"
    )
    up, right, front = places
    middle = (np.asarray(values.shape) - 1) / 2
    index = [middle[0] + up / own[0], middle[1] - front / own[1], middle[2] - right / own[2]]
    inside = np.ones(size, bool)
    for axis, count in zip(index, values.shape, strict=True):
        inside &= (axis >= -0.5) & (axis < count - 0.5)
    unit = np.clip((ndimage.map_coordinates(values, index, order=1, mode="nearest") + 1150) / 1500, 0, 1)
    inputs = ((np.where(inside, unit, 0) - 0.5) / 0.25).astype(np.float32)
    with torch.no_grad():
        expected = float(network(torch.from_numpy(inputs[None, None])).sigmoid())
    assert result.scores["opacity"] == pytest.approx(expected, abs=1e-4)
    assert result.findings[0].verdict is not None


def _film(folder: Path, **header: str) -> tuple[Path, ...]:
    values = {"BodyPartExamined": "CHEST", **header}
    return testing.write([testing.noise(256, 128, **values)], folder / "study", study="film")


def _of_film(folder: Path, answers: Mapping[str, ArrayLike], text: str = BOXES) -> Result:
    """Return what a model says of a film whose network answers with these values."""
    write_model(folder / "models", "film", constant_file(folder / "net.onnx", answers), text)
    result = DescribedNode(folder, _film(folder)).answer("film")
    assert isinstance(result, Result)
    return result


def _boxes(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Mapping[str, ArrayLike]:
    return {"boxes": boxes, "scores": scores, "labels": labels}


def test_boxes_lie_on_the_pixels_of_the_film_and_what_is_below_its_threshold_is_absent(tmp_path: Path) -> None:
    # 256 x 128 pixels in 64 x 48: at a quarter, with 8 columns at each side.
    boxes = [[10, 20, 30, 40], [11, 20, 30, 40], [9, 1, 12, 5], [8, 0, 40, 64]]
    result = _of_film(tmp_path, _boxes(boxes, [0.9, 0.8, 0.55, 0.3], [1, 1, 2, 1]))
    nodule, fracture, box = result.findings
    assert (nodule.presence, fracture.presence) == (Presence.PRESENT, Presence.ABSENT)
    assert result.scores["image 1 fracture"] == pytest.approx(0.55)
    assert box.region is not None
    assert box.region.points[0] == pytest.approx((8, 80))
    assert box.region.points[2] == pytest.approx((88, 160))
    assert box.tracking_identifier == "image 1 box 1 nodule"


def test_a_film_without_a_box_has_an_answer(tmp_path: Path) -> None:
    result = _of_film(tmp_path, _boxes([[0, 0, 1, 1]], [0.0], [0]))
    assert [finding.presence for finding in result.findings] == [Presence.ABSENT] * 2


def test_an_activation_map_is_the_features_weighted_by_the_linear_layer(tmp_path: Path) -> None:
    network = small_network(6)
    file = NetworkFile(onnx_file(network, tmp_path / "net.onnx"), "onnx", (1, 3, 64, 48))
    inputs = np.random.default_rng(0).normal(size=(1, 3, 64, 48)).astype(np.float32)
    with torch.no_grad():
        features = network.body(torch.from_numpy(inputs))[0]
        maps = torch.einsum("kc,chw->khw", network.head.weight, features).clamp(min=0).numpy()
    number = int(maps.max(axis=(1, 2)).argmax())
    shown, kind = attention(opened(file, Execution(tmp_path)), inputs, number, "softmax", is_channels_last=False)
    assert kind == "activation map"
    np.testing.assert_allclose(shown, maps[number] / maps[number].max(), atol=1e-4)


class Corner(torch.nn.Module):
    """Answers with the brightness of the lower right corner alone."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return (B, 1) of (B, 1, rows, columns)."""
        return 4 * pictures[:, :, -8:, -8:].mean(dim=(1, 2, 3)).reshape(-1, 1)


def test_occlusion_shows_the_place_that_an_answer_hangs_on(tmp_path: Path) -> None:
    file = NetworkFile(script_file(Corner(), tmp_path / "net.pt", (1, 1, 56, 56)), "torchscript", (1, 1, 56, 56))
    inputs = np.zeros((1, 1, 56, 56), np.float32)
    inputs[..., -8:, -8:] = 1
    shown, kind = attention(opened(file, Execution(tmp_path)), inputs, 0, "sigmoid", is_channels_last=False)
    assert (kind, shown.shape) == ("occlusion", (7, 7))
    assert shown[-1, -1] == 1
    assert shown.sum() == 1


def _answer_on(folder: Path, images: list[SyntheticImage], text: str = DESCRIPTION) -> Result | OutOfScope:
    write_model(folder / "models", "any", mean_file(folder / "net.onnx"), text)
    return DescribedNode(folder, testing.write(images, folder / "study", study="refused")).answer("any")


@pytest.mark.parametrize(
    ("image", "code", "words"),
    [
        (
            testing.noise(99, 99, BodyPartExamined="CHEST", Modality="CR"),
            "wrong-modality",
            "Modality is CR; the model reads DX",
        ),
        (testing.noise(99, 99, BodyPartExamined="FOOT"), "wrong-body-part", "the body part is FOOT"),
        (testing.noise(99, 99), "wrong-body-part", "reads CHEST"),
        (testing.noise(99, 20, BodyPartExamined="CHEST"), "too-small", "32 a side are needed"),
        (testing.noise(99, 99, BodyPartExamined="CHEST", NumberOfFrames=2), "multi-frame", "has 2 frames"),
    ],
)
def test_a_refusal_says_what_is_read_and_what_the_image_is(
    tmp_path: Path, image: SyntheticImage, code: str, words: str
) -> None:
    answer = _answer_on(tmp_path, [image])
    assert isinstance(answer, OutOfScope)
    assert (answer.code, words in answer.reason) == (code, True), answer.reason


@pytest.mark.parametrize("also", ["", '\nalso = ["for_processing"]'])
def test_of_a_raw_image_beside_the_one_for_presentation_nothing_is_said_unless_the_description_takes_it(
    tmp_path: Path, also: str
) -> None:
    shown = testing.noise(99, 99, BodyPartExamined="CHEST", PresentationIntentType="FOR PRESENTATION")
    raw = testing.noise(99, 99, BodyPartExamined="CHEST", PresentationIntentType="FOR PROCESSING")
    answer = _answer_on(tmp_path, [shown, raw], DESCRIPTION.replace('modality = ["DX"]', f'modality = ["DX"]{also}'))
    assert isinstance(answer, Result)
    assert len(answer.findings) == (2 if also else 1)
    assert ("raw values of a detector" in dict(answer.algorithm.parameters).get("images not read", "")) is not bool(
        also
    )


def test_a_series_of_localizers_of_an_mr_is_no_stack_and_its_refusal_says_how_it_would_be(tmp_path: Path) -> None:
    images = [
        replace(image, header={**image.header, "ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")})
        for image in _series("survey")
    ]
    text = VOLUME.replace("{orientation}", "RAS").replace("{spacing}", "[2.0, 2.0, 2.0]").replace("{size}", "[8, 8, 8]")
    answer = _answer_on(tmp_path, images, text)
    assert isinstance(answer, OutOfScope)
    assert (answer.code, "a localizer by Image Type" in answer.reason) == ("no-picture", True), answer.reason
    assert 'also = ["localizer"] in [takes] takes this, too' in answer.reason


@pytest.mark.parametrize(
    "scaling",
    [
        "",
        "\npercentiles = [1, 99]",
        "\nrange = [0, 4095]",
        "\nwindow = [40, 400]",
        '\nvalues = "raw"',
        '\nvalues = "zscore"',
    ],
)
def test_an_image_of_one_value_is_refused_whatever_the_scaling(tmp_path: Path, scaling: str) -> None:
    flat = SyntheticImage(64, 64, np.full((64, 64), 7, "<u2").tobytes(), {"BodyPartExamined": "CHEST"})
    text = DESCRIPTION.replace('fit = "pad"', f'fit = "pad"{scaling}')
    answer = _answer_on(tmp_path, [flat], text)
    assert isinstance(answer, OutOfScope)
    assert (answer.code, "its pixels have one value" in answer.reason) == ("unusable-pixels", True)


@pytest.mark.parametrize("values", ["percentiles = [0.5, 99.5]", 'values = "zscore"', 'values = "display"'])
def test_padding_of_a_film_counts_in_no_percentile_and_no_mean(tmp_path: Path, values: str) -> None:
    stored = np.random.default_rng(0).integers(0, 300, (64, 48)).astype("<u2")
    stored[24:32, 24:32] = 1000
    padded = np.concatenate([stored, np.full((64, 6), 60000, "<u2")], axis=1)
    text = DESCRIPTION.replace('fit = "pad"', f'fit = "center"\n{values}').replace("channels = 3\n", "channels = 1\n")
    text = text.replace("size = [64, 48]", "size = [64, 54]")
    text = text.replace("mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n", "")
    write_model(tmp_path / "models", "any", mean_file(tmp_path / "net.onnx"), text)
    network_input = read_description(described.described("any", tmp_path / "models")).input
    header = {"BodyPartExamined": "CHEST", "BitsStored": 16, "HighBit": 15}
    inputs = []
    for name, pixels, padding in (("alone", stored, {}), ("padded", padded, {"PixelPaddingValue": 60000})):
        image = SyntheticImage(64, pixels.shape[1], pixels.tobytes(), {**header, **padding})
        (path,) = testing.write([image], tmp_path / name, study=name)
        inputs.append(prepared(headers.instance(path, sha256=""), network_input)[0][0, 0])
    alone, with_padding = inputs
    np.testing.assert_allclose(with_padding[:, :48], alone[:, 3:51], atol=1e-5)
    np.testing.assert_allclose(with_padding[:, 48:], alone[:, 3:51].min(), atol=1e-5)


def test_a_picture_of_one_color_is_refused(tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), (200, 30, 30), np.uint8)
    header = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8}
    paths = testing.write([SyntheticImage(64, 64, pixels[..., 0].astype("<u2").tobytes(), {})], tmp_path, study="color")
    image = dcmread(paths[0])
    image.BitsStored, image.HighBit, image.PixelData = 8, 7, pixels.tobytes()
    for keyword, value in header.items():
        setattr(image, keyword, value)
    image.save_as(paths[0])
    write_model(tmp_path / "models", "any", mean_file(tmp_path / "net.onnx"), DESCRIPTION)
    network_input = read_description(described.described("any", tmp_path / "models")).input
    with pytest.raises(UnusablePicture, match="one value"):
        prepared(headers.instance(paths[0], sha256=""), network_input)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("size = [64, 48]", "size = [64, 48, 2]", r"\[input\]: size = \[64, 48, 2\]; a list of 2 numbers is needed"),
        ("size = [64, 48]", "size = [64, 0]", "whole numbers from 1 to 8192 are needed"),
        ("dimensions = 2", "dimensions = 4", "a whole number from 2 to 3 is needed"),
        ('fit = "pad"', 'fit = "fill"', r"fit = 'fill'; it is one of stretch, pad, crop, center"),
        ('fit = "pad"', "window = [40, 400]\nrange = [0, 1]", "window and range are given"),
        ('fit = "pad"', "widnow = [40, 400]", "widnow is no key here; the keys are .*window"),
        ("std = [0.229, 0.224, 0.225]", "std = [0.0]", "std = .*; numbers above 0 are needed"),
        ("threshold = 0.5", "threshold = 1.5", "threshold = 1.5; a number from 1e-06 to 0.999999 is needed"),
        ("threshold = 0.5\n", "", "no class has a threshold"),
        ('name = "fracture"', 'name = "normal"', "two classes have one name"),
        ('"125605004"', '"12345678901234567"', "value and scheme have 16 characters at most"),
        ('"125605004"', '"125605005"', "this is no identifier of SNOMED CT"),
        ('activation = "softmax"', 'activation = "relu"', "it is one of softmax, sigmoid, none"),
        ('modality = ["DX"]', 'modality = "DX"', "a list of texts is needed"),
        ('modality = ["DX"]', "modality = []", "a list of texts is needed"),
        ("[takes]", 'architecture = "resnet18"\n[takes]', "architecture is no key here"),
        ('format = "onnx"', 'format = "safetensors"', "architecture is missing"),
    ],
)
def test_a_fault_of_a_description_is_told_by_file_key_value_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in DESCRIPTION.replace("{format}", "onnx")
    path = write_model(tmp_path / "models", "any", mean_file(tmp_path / "net.onnx"))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=rf"any/model\.toml: .*{words}"):
        registry.handler("any", DescribedNode(tmp_path, ()).environment)


def _labels_of(segmentation: bytes) -> dict[str, NDArray[np.uint8]]:
    """Return the label of each pixel by the UID of its image, from the object itself."""
    content = dcmread(BytesIO(segmentation))
    frames = content.pixel_array.reshape(-1, content.Rows, content.Columns)
    groups = content.PerFrameFunctionalGroupsSequence
    uids = (group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID for group in groups)
    return dict(zip(map(str, uids), frames, strict=True))


def test_what_is_marked_leaves_as_a_segmentation_on_the_very_pixels(tmp_path: Path, chest: tuple[Path, ...]) -> None:
    node = _bright_node(tmp_path, chest)
    result = node.answer("bright")
    assert isinstance(result, Result)
    sources = {dcmread(path).SOPInstanceUID: path for path in chest}
    context = replace(CONTEXT, optional=(DocumentKind.SEGMENTATION_LABELMAP,))
    documents = reports.documents(result, sources, context)  # type: ignore[arg-type]
    (segmentation,) = (item for item in documents if item.kind is DocumentKind.SEGMENTATION_LABELMAP)
    labels = _labels_of(segmentation.content)
    measures = dcmread(BytesIO(segmentation.content)).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    marked = 0
    for path in chest:
        image = dcmread(path)
        bright = image.pixel_array + float(image.RescaleIntercept) > 100
        got = labels.get(str(image.SOPInstanceUID), np.zeros_like(bright, np.uint8))
        np.testing.assert_array_equal(got == 1, bright)
        marked += int(bright.sum())
    (finding,) = result.findings
    volume_ml = marked * 5.0 * 3.0 * 3.0 / 1000
    assert marked * measures.SpacingBetweenSlices * np.prod(measures.PixelSpacing) / 1000 == pytest.approx(volume_ml)
    assert result.scores["bone ml"] == pytest.approx(volume_ml)
    assert finding.measurements[0].value == float(f"{volume_ml:.3g}")


def _pieces(mask: NDArray[np.bool_]) -> list[int]:
    """Return the number of pixels of each piece, the largest first; pixels may touch at a corner."""
    pieces, _ = ndimage.label(mask, np.ones((3, 3)))
    return sorted(np.bincount(pieces.ravel())[1:].tolist(), reverse=True)


def test_of_several_pieces_on_a_slice_the_area_is_that_of_the_outlined_one(
    tmp_path: Path, chest: tuple[Path, ...]
) -> None:
    result = _bright_node(tmp_path, chest).answer("bright")
    assert isinstance(result, Result)
    (finding,) = result.findings
    masks = {
        str(image.SOPInstanceUID): image.pixel_array + float(image.RescaleIntercept) > 100
        for image in map(dcmread, chest)
    }
    assert finding.region is not None
    key = masks[finding.region.image.sop_instance_uid]
    largest, *others = _pieces(key)
    assert others, "the phantom has ribs beside its spine"
    values = {one.concept.meaning: one.value for one in finding.measurements}
    assert values["Area"] == float(f"{largest * 0.09:.3g}")
    (capture,) = result.captures
    place = capture.title.rpartition(", ")[2]
    assert re.fullmatch(r"slice \d+ of \d+", place)
    assert {one.concept.meaning: one.place for one in finding.measurements} == {
        "Volume": "",
        "Area": place,
        "Area of all pieces on the image": place,
    }
    assert f", Area {values['Area']:.4g} cm2 on {place}" in reports.report_text(result)
    shown = measurements_of(json.loads(reports.result_json(result, CONTEXT))["findings"])
    assert [item.value.partition(" on ")[2] for item in shown] == ["", place, place]
    assert values["Area of all pieces on the image"] == float(f"{key.sum() * 0.09:.3g}")
    columns, rows = np.floor(np.asarray(finding.region.points)).astype(int).T
    pieces, _ = ndimage.label(key, np.ones((3, 3)))
    (number,) = {int(pieces[row, column]) for row, column in zip(rows, columns, strict=True)}
    assert (pieces == number).sum() == largest
    assert finding.label.endswith(f" in all; here the largest of {len(others) + 1} pieces")
    assert ("outlined-region", "largest-piece") in {(name.value, value.value) for name, value in finding.qualities}
    # The volume is of all pieces, and so is its surface.
    assert finding.outline is not None
    heights = {contour[0][2] for contour in finding.outline.contours}
    assert len(finding.outline.contours) > len(heights)


def test_a_report_of_several_pieces_with_their_contours_is_valid(tmp_path: Path, chest: tuple[Path, ...]) -> None:
    result = _bright_node(tmp_path, chest).answer("bright")
    assert isinstance(result, Result)
    sources = {dcmread(path).SOPInstanceUID: path for path in chest}
    report = reports.documents(result, sources, CONTEXT)[-1]  # type: ignore[arg-type]
    (path := tmp_path / "report.dcm").write_bytes(report.content)
    assert str(dcmread(path)).count("'SCOORD3D'") == len(result.findings[0].outline.contours)  # type: ignore[union-attr]
    assert [*judges.module_errors(path), *judges.tree_errors(path), *judges.template_errors(path)] == []


def _bright_node(folder: Path, paths: tuple[Path, ...]) -> DescribedNode:
    """Return a node with a network that marks what is above 100 HU, slice by slice."""
    columns = int(dcmread(paths[0]).Columns)
    shape = (1, 1, columns, columns)
    file = node_file(folder / "net.onnx", shape, "Add", [-0.55])  # of -1000 to 1000 HU
    text = CT_CLASSES[: CT_CLASSES.index("[output]")].replace('"classify"', '"segment"')
    text = text.replace("size = [48, 40]", f"size = [{columns}, {columns}]").replace("mean = [0.5]\nstd = [0.25]\n", "")
    text = text.replace("window = [-400, 1500]", "range = [-1000, 1000]")
    write_model(folder / "models", "bright", file, text + MASKS.replace('"none"', '"sigmoid"'))
    return DescribedNode(folder, paths)


def film_text(handler: str, output: str) -> str:
    """Return the description of a model of films by its handler and the table of its output."""
    return BOXES[: BOXES.index("[output]")].replace('"detect"', f'"{handler}"') + output


POINTS = """[output]
form = "places"
site = ["816094009", "SCT", "Chest"]

[[output.points]]
name = "carina"
code = ["28700002", "SCT", "Carina"]

[[output.points]]
name = "apex"
code = ["86598002", "SCT", "Apex of lung"]
"""


_DIGEST = {"net.onnx": "of these bytes"}


@pytest.mark.parametrize("kind", ["classify", "landmarks", "segment"])
def test_of_several_outputs_the_one_that_the_description_names_is_read(tmp_path: Path, kind: str) -> None:
    answers = {"classify": np.asarray([[0.0, 9.0]]), "landmarks": np.asarray([[[10.5, 12.5], [40.5, 30.5]]])}
    answers["segment"] = np.ones((1, 1, 64, 48))
    outputs = {"classify": DESCRIPTION[DESCRIPTION.index("[output]") :], "landmarks": POINTS, "segment": MASKS}
    text = DESCRIPTION[: DESCRIPTION.index("[output]")].replace('"classify"', f'"{kind}"') + outputs[kind]
    file = constant_file(tmp_path / "net.onnx", {"aux": np.zeros((1, 3)), "prob": answers[kind]})
    write_model(tmp_path / "models", "several", file, text)
    with pytest.raises(WeightsError, match="has 2 outputs, aux, prob; write the one to read below"):
        DescribedNode(tmp_path, _film(tmp_path)).answer("several")
    write_model(tmp_path / "models", "several", file, text.replace("[output]", '[output]\nname = "prob"'))
    assert isinstance(DescribedNode(tmp_path, _film(tmp_path)).answer("several"), Result)
    assert any("of the output that is read" in question for question in draft(file, kind, _DIGEST).questions)


@pytest.mark.filterwarnings("ignore:invalid value")  # of softmax
@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_an_answer_that_is_not_finite_says_nothing_of_an_image(tmp_path: Path, activation: str, number: float) -> None:
    text = DESCRIPTION.replace('"softmax"', f'"{activation}"\nsaliency = false')
    answer = np.asarray([[number, 1.0]], np.float32)
    write_model(tmp_path / "models", "infinite", constant_file(tmp_path / "net.onnx", {"answer": answer}), text)
    refusal = DescribedNode(tmp_path, _film(tmp_path)).answer("infinite")
    assert isinstance(refusal, OutOfScope)
    assert "is no probability of 0 to 1" in refusal.reason


@pytest.mark.parametrize(("number", "is_read"), [(1 + 1e-6, True), (1.001, False)])
def test_what_rounding_puts_beyond_1_is_1_and_what_is_farther_refuses_the_image(
    tmp_path: Path, number: float, *, is_read: bool
) -> None:
    text = DESCRIPTION.replace('activation = "softmax"', 'activation = "none"\nsaliency = false')
    write_model(tmp_path / "models", "sure", constant_file(tmp_path / "net.onnx", {"answer": [[0.0, number]]}), text)
    answer = DescribedNode(tmp_path, _film(tmp_path / "film")).answer("sure")
    if is_read:
        assert isinstance(answer, Result)
        assert answer.scores["image 1 fracture"] == 1.0
    else:
        assert isinstance(answer, OutOfScope)
        assert "the network's answer is no probability of 0 to 1" in answer.reason


def test_a_score_of_a_box_that_rounding_puts_beyond_1_is_1(tmp_path: Path) -> None:
    result = _of_film(tmp_path, _boxes([[10, 20, 30, 40]], [1 + 1e-6], [1]))
    assert result.scores["image 1 nodule"] == 1.0


@pytest.mark.parametrize("form", ["places", "shares", "heatmaps"])
def test_landmarks_lie_on_the_pixels_of_the_film(tmp_path: Path, form: str) -> None:
    # 256 x 128 pixels in 64 x 48: at a quarter, with 8 columns at each side.
    output = POINTS.replace('"places"', '"heatmaps"' if form == "heatmaps" else '"places"\norder = "yx"')
    answer = np.asarray([[[10.5, 12.5], [40.5, 30.5]]], np.float32)
    if form == "shares":
        answer, output = answer / np.asarray((64, 48), np.float32), output.replace('"yx"', '"yx"\nnormalized = true')
    if form == "heatmaps":
        maps = np.zeros((1, 2, 64, 48), np.float32)
        maps[0, 0, 10, 12], maps[0, 1, 40, 30] = 0.9, 0.2
        answer, output = maps, output.replace('"heatmaps"', '"heatmaps"\nthreshold = 0.5')
    result = _of_film(tmp_path, {"answer": answer}, film_text("landmarks", output))
    placed = {finding.label: finding.region.points[0] for finding in result.findings if finding.region}
    assert placed["carina"] == pytest.approx((18, 42), abs=1e-3)
    if form == "heatmaps":
        assert set(placed) == {"carina"}
        assert result.captures[0].captions == ("not placed: apex",)
    else:
        assert placed["apex"] == pytest.approx((90, 162), abs=1e-3)


def test_a_landmark_beside_the_film_is_said_not_to_be_placed(tmp_path: Path) -> None:
    answer = [[[3.0, 12.5], [30.5, 40.5]]]  # 8 columns at each side are no film
    result = _of_film(tmp_path, {"answer": answer}, film_text("landmarks", POINTS))
    assert [finding.label for finding in result.findings] == ["apex"]
    assert result.captures[0].captions == ("not placed: carina",)


MASKS = """[output]
masks = "channels"
activation = "none"
site = ["816094009", "SCT", "Chest"]

[[output.segments]]
name = "bone"
value = 0
code = ["272673000", "SCT", "Bone"]
"""


@pytest.mark.parametrize("shape", [(1, 64, 48, 2), (1, 2, 48, 64), (1, 2, 44, 28)])
def test_masks_on_other_axes_than_the_input_are_refused_by_their_cause(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(WeightsError, match=r"cells; the input has 64 x 48: .*another order than `layout` says"):
        _of_film(tmp_path, {"answer": np.ones(shape)}, film_text("segment", MASKS))


def test_a_coarser_mask_is_read_by_its_stride_alone(tmp_path: Path) -> None:
    cells = np.zeros((1, 1, 32, 24), np.float32)
    cells[0, 0, 8:16, 6:12] = 1  # rows 16 to 31 and columns 12 to 23 of the input, at a quarter of the film
    text = film_text("segment", MASKS)
    with pytest.raises(WeightsError, match=r"32 x 24 cells; the input has 64 x 48: .*or a cell covers another number"):
        _of_film(tmp_path, {"answer": cells}, text)
    result = _of_film(tmp_path, {"answer": cells}, text.replace("[output]", "[output]\nstride = 2"))
    assert result.segmented is not None
    (marked,) = result.segmented.maps
    places = np.argwhere(np.frombuffer(marked.labels, np.uint8).reshape(marked.rows, marked.columns))
    np.testing.assert_allclose(places.min(axis=0), (64, 16), atol=1)
    np.testing.assert_allclose(places.max(axis=0), (127, 63), atol=1)


def test_the_share_of_an_outlined_piece_of_a_film_stands_beside_that_of_all_pieces(tmp_path: Path) -> None:
    masks = np.zeros((1, 1, 64, 48), np.float32)
    masks[0, 0, 8:16, 12:20] = masks[0, 0, 40:44, 20:24] = 1
    result = _of_film(tmp_path, {"answer": masks}, film_text("segment", MASKS))
    (finding,) = result.findings
    assert finding.region is not None
    assert max(row for _, row in finding.region.points) < 80, "the region is the upper piece alone"
    of_all, of_piece = finding.measurements
    assert (of_all.concept.value, of_piece.concept.value) == ("share-of-pieces", "image-share")
    assert of_all.value / of_piece.value == pytest.approx(80 / 64, rel=0.1)
    assert finding.label.endswith("% in all; here the largest of 2 pieces")
    masks[0, 0, 40:44] = 0
    (tmp_path / "alone").mkdir()
    (alone,) = _of_film(tmp_path / "alone", {"answer": masks}, film_text("segment", MASKS)).findings
    assert [one.concept.value for one in alone.measurements] == ["image-share"]
    assert alone.qualities == ()
    assert alone.measurements[0].value == pytest.approx(of_piece.value)


@pytest.mark.parametrize(
    ("handler", "output", "words"),
    [
        (
            "segment",
            MASKS.replace("[output]", "[output]\nstride = 5"),
            "a whole part of each side of the input, 64 x 48",
        ),
        ("segment", MASKS.replace("[output]", "[output]\nstride = 0.5"), "a whole number from 1 to 64 is needed"),
        ("landmarks", POINTS.replace("[output]", "[output]\nstride = 4"), "places have no cells; heat maps have"),
    ],
)
def test_a_stride_that_no_answer_can_have_is_refused(tmp_path: Path, handler: str, output: str, words: str) -> None:
    write_model(tmp_path / "models", "any", mean_file(tmp_path / "net.onnx"), film_text(handler, output))
    with pytest.raises(ConfigError, match=words):
        registry.handler("any", DescribedNode(tmp_path, ()).environment)


def test_a_draft_asks_how_many_pixels_a_cell_of_a_coarser_answer_covers(tmp_path: Path) -> None:
    coarse = constant_file(tmp_path / "net.onnx", {"answer": np.ones((1, 2, 16, 12), np.float32)})
    questions = draft(coarse, "segment", _DIGEST).questions
    assert any("stride = " in question and "4 x 4 pixels" in question for question in questions)
    fine = constant_file(tmp_path / "net.onnx", {"answer": np.ones((1, 2, 64, 48), np.float32)})
    assert "stride" not in draft(fine, "segment", _DIGEST).text


def test_a_softmax_over_one_class_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    normal = DESCRIPTION[DESCRIPTION.index("[[output.classes]]") : DESCRIPTION.rindex("[[output.classes]]")]
    path = write_model(tmp_path / "models", "any", mean_file(tmp_path / "net.onnx"))
    path.write_text(path.read_text().replace(normal, ""))
    with pytest.raises(ConfigError, match="softmax over one class is 1 always"):
        registry.handler("any", DescribedNode(tmp_path, ()).environment)


def test_a_report_of_landmarks_alone_is_valid(tmp_path: Path) -> None:
    answer = [[[10.5, 12.5], [30.5, 40.5]]]
    result = _of_film(tmp_path, {"answer": answer}, film_text("landmarks", POINTS))
    (path,) = (tmp_path / "study").iterdir()
    documents = reports.documents(result, {dcmread(path).SOPInstanceUID: path}, CONTEXT)
    report = next(item for item in documents if item.kind is DocumentKind.STRUCTURED_REPORT)
    (tmp_path / "report.dcm").write_bytes(report.content)
    assert judges.module_errors(tmp_path / "report.dcm") == []
    assert judges.template_errors(tmp_path / "report.dcm") == []


def test_white_is_high_also_where_the_image_says_monochrome1(tmp_path: Path) -> None:
    image = testing.noise(64, 64, BodyPartExamined="CHEST")
    pixels = np.frombuffer(image.pixels, "<u2")
    header = {**image.header, "PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
    inverted = SyntheticImage(64, 64, (4095 - pixels).astype("<u2").tobytes(), header)
    for scaling in ('values = "display"', "range = [0, 4095]", "percentiles = [1, 99]", 'values = "zscore"'):
        text = DESCRIPTION.replace('fit = "pad"', f'fit = "pad"\n{scaling}')
        answers = []
        for number, item in enumerate((image, inverted)):
            folder = tmp_path / f"{scaling[-4:-1]} {number}"
            folder.mkdir()
            answers.append(_answer_on(folder, [item], text))
        first, second = (answer.scores["image 1 normal"] for answer in answers if isinstance(answer, Result))
        assert first == pytest.approx(second, abs=1e-5), scaling


@pytest.mark.parametrize(("color", "code"), [("any", ""), ("color", ""), ("gray", "not-gray")])
def test_a_photograph_is_read_in_its_colors_where_the_description_takes_colors(
    tmp_path: Path, color: str, code: str
) -> None:
    pixels = np.zeros((80, 60, 3), np.uint8)
    pixels[..., 0] = 255  # red
    pixels[0, 0, 2] = 255  # a picture of one color is refused
    header = {"Modality": "XC", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4", "BodyPartExamined": "CHEST"}
    text = DESCRIPTION.replace('["DX"]', f'["XC"]\ncolor = "{color}"').replace("mean = [0.485, 0.456, 0.406]\n", "")
    text = text.replace("std = [0.229, 0.224, 0.225]\n", "").replace('fit = "pad"', 'fit = "stretch"')
    answer = _answer_on(tmp_path, [SyntheticImage(80, 60, pixels.tobytes(), header, 3)], text)
    assert (answer.code if isinstance(answer, OutOfScope) else "") == code
    if isinstance(answer, Result):  # the network answers with the means of red and green
        assert answer.scores["image 1 normal"] == pytest.approx(float(np.exp(1) / (np.exp(1) + 1)), abs=1e-4)


def test_of_two_series_that_fit_equally_well_none_is_chosen(tmp_path: Path) -> None:
    text = VOLUME.replace("{orientation}", "RAS").replace("{spacing}", "[2.0, 2.0, 2.0]").replace("{size}", "[8, 8, 8]")
    takes = text.replace("min_instances = 4", 'min_instances = 4\nseries = "T2"')
    slices = [image for name in ("T1 axial", "T2 axial") for image in _series(name)]
    paths = testing.write(slices, tmp_path / "study", study="two")
    for name, description in (("any", text), ("t2", takes)):
        write_model(tmp_path / "models", name, mean_file(tmp_path / "net.onnx"), description)
    node = DescribedNode(tmp_path, paths)
    study = headers.study(headers.instance(path, sha256="") for path in paths)
    refusal = registry.handler("any", node.environment).select(study)
    assert isinstance(refusal, OutOfScope)
    assert (refusal.code, "fit equally well" in refusal.reason) == ("several-series", True)
    selection = registry.handler("t2", node.environment).select(study)
    assert isinstance(selection, Selection)
    assert {instance.text("SeriesDescription") for instance in selection.instances} == {"T2 axial"}


def test_of_a_ct_and_an_mr_that_fit_none_is_chosen_and_a_ct_that_does_not_fit_hides_no_mr(
    tmp_path: Path,
) -> None:
    text = CT_CLASSES.replace('["CT"]', '["CT", "MR"]').replace('body_part = ["CHEST"]\n', "min_instances = 6\n")
    write_model(tmp_path / "models", "both", mean_file(tmp_path / "net.onnx"), text)
    values = np.random.default_rng(2).normal(size=(6, 64, 64)).astype(np.float32)
    ct = testing.ct(values, (4.0, 3.0, 3.0), frame="ct", header={"SeriesDescription": "CT"})
    paths = testing.write([*ct, *_series("T1")], tmp_path / "study", study="both")
    study = headers.study(headers.instance(path, sha256="") for path in paths)
    handler = registry.handler("both", DescribedNode(tmp_path, paths).environment)
    refusal = handler.select(study)
    assert isinstance(refusal, OutOfScope)
    assert (refusal.code, "fit equally well" in refusal.reason) == ("several-series", True)
    ct_alone = [item for item in study.series if item.modality == "CT"]
    assert isinstance(handler.select(replace(study, series=tuple(ct_alone))), Selection)
    few = [replace(item, instances=item.instances[: 3 if item.modality == "CT" else 6]) for item in study.series]
    selection = handler.select(replace(study, series=tuple(few)))
    assert isinstance(selection, Selection)
    assert {instance.text("Modality") for instance in selection.instances} == {"MR"}


def test_a_ct_of_fewer_pixels_a_side_than_are_needed_is_refused(tmp_path: Path, chest: tuple[Path, ...]) -> None:
    text = CT_CLASSES.replace('images = "stack"', 'images = "stack"\nsmallest_side = 200')
    write_model(tmp_path / "models", "large", mean_file(tmp_path / "net.onnx"), text)
    answer = DescribedNode(tmp_path, chest).answer("large")
    assert isinstance(answer, OutOfScope)
    assert (answer.code, "128 x 128 pixels; 200 a side are needed" in answer.reason) == ("too-small", True)


def _series(description: str) -> tuple[SyntheticImage, ...]:
    header = {"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "SeriesDescription": description}
    return testing.ct(np.zeros((6, 40, 40), np.float32), (4.0, 1.0, 1.0), frame="mr", header=header)


@pytest.mark.parametrize("also", ["", '\nalso = ["secondary_capture"]'])
def test_captures_that_lie_like_slices_of_a_ct_are_read_only_where_the_description_takes_them(
    tmp_path: Path, also: str
) -> None:
    values = np.random.default_rng(1).integers(-900, 900, (9, 40, 40)).astype(np.float32)
    header = {"BodyPartExamined": "CHEST", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}
    paths = testing.write(
        testing.ct(values, (4.0, 1.0, 1.0), frame="ct", header=header), tmp_path / "study", study="ct"
    )
    file = onnx_file(small_network(4, channels=1, outputs=1), tmp_path / "net.onnx", (1, 1, 48, 40))
    write_model(tmp_path / "models", "slices", file, CT_CLASSES.replace('["CT"]', f'["CT"]{also}'))
    answer = DescribedNode(tmp_path, paths).answer("slices")
    reason = answer.reason if isinstance(answer, OutOfScope) else ""
    assert ("it is a Secondary Capture (without Conversion Type)" in reason) is not bool(also), answer
    assert ('also = ["secondary_capture"] in [takes] takes this, too' in reason) is not bool(also)


def test_an_empty_slice_of_a_stack_does_not_refuse_the_stack(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(100, 900, (9, 40, 40)).astype(np.float32)
    values[0] = values[-1] = 0
    header = {"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "BodyPartExamined": "CHEST"}
    slices = testing.ct(values - 1024, (4.0, 1.0, 1.0), frame="mr", header={**header, "RescaleIntercept": 0.0})
    paths = testing.write(slices, tmp_path / "study", study="mr")
    for scaling in ("percentiles = [1, 99]", 'values = "zscore"'):
        text = CT_CLASSES.replace("window = [-400, 1500]", scaling).replace('["CT"]', '["MR"]')
        file = onnx_file(small_network(4, channels=1, outputs=1), tmp_path / "net.onnx", (1, 1, 48, 40))
        write_model(tmp_path / "models", "slices", file, text)
        assert isinstance(DescribedNode(tmp_path, paths).answer("slices"), Result)


def test_a_picture_is_about_the_class_that_exceeds_its_threshold_most_whatever_its_name_ends_in(tmp_path: Path) -> None:
    older = 'name = "old fracture"\nthreshold = 0.9\n'
    text = DESCRIPTION.replace('name = "normal"\n', older).replace("threshold = 0.5", "threshold = 0.1")
    answer = _answer_on(tmp_path, [testing.noise(64, 48, BodyPartExamined="CHEST")], text)
    assert isinstance(answer, Result)
    (capture,) = answer.captures
    assert capture.subject is not None
    assert capture.subject.tracking_identifier == "image 1 fracture"
    assert [finding.tracking_identifier for finding in capture.beside] == ["image 1 old fracture"]


def test_a_picture_of_boxes_is_about_a_class_that_is_present_and_not_about_a_surer_one_that_is_absent(
    tmp_path: Path,
) -> None:
    answers = _boxes([[9, 1, 12, 5], [9, 1, 12, 5]], [0.45, 0.4], [1, 2])
    result = _of_film(tmp_path, answers, BOXES.replace("threshold = 0.6", "threshold = 0.3"))
    assert result.captures[0].subject is not None
    assert result.captures[0].subject.conclusion == "image 1 fracture: present"


def _cut(text: str) -> str:
    """Return a description whose input is 64 x 48 pixels around the middle of an image."""
    return text.replace('fit = "pad"', 'fit = "center"')


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        (_cut(DESCRIPTION), {"answer": [[0.0, 1.0]]}),
        (_cut(BOXES), _boxes([[9, 1, 12, 5]], [0.9], [1])),
        (
            _cut(film_text("landmarks", POINTS)),
            {"answer": [[9, 1, 12, 5]]},
        ),
        (
            _cut(film_text("segment", MASKS)),
            {"answer": np.ones((1, 1, 64, 48))},
        ),
    ],
    ids=["classify", "detect", "landmarks", "segment"],
)
def test_the_share_of_an_image_that_was_seen_is_said(
    tmp_path: Path, text: str, answers: Mapping[str, ArrayLike]
) -> None:
    seen = "9 % of the image lie in the input; the rest was not seen"  # 64 x 48 of 256 x 128
    result = _of_film(tmp_path, answers, text)
    assert dict(result.algorithm.parameters)["seen"] == seen
    assert seen in result.captures[0].captions
    assert (seen in result.summary) == bool(result.summary)
    whole = _of_film(tmp_path, answers, text.replace('fit = "center"', 'fit = "pad"'))
    assert "seen" not in dict(whole.algorithm.parameters)


def test_nothing_marked_on_a_part_of_an_image_names_the_part(tmp_path: Path) -> None:
    text = film_text("segment", MASKS).replace('fit = "pad"', 'fit = "crop"')
    file = constant_file(tmp_path / "net.onnx", {"answer": np.zeros((1, 1, 64, 48))})
    write_model(tmp_path / "models", "cut", file, text)
    answer = DescribedNode(tmp_path, _film(tmp_path)).answer("cut")
    assert isinstance(answer, OutOfScope)
    seen = "66 % of the image lie in the input; the rest was not seen"  # 171 of 256 rows
    assert answer.reason == f"nothing marked (bone); {seen}; what is not marked was not ruled out"


def test_a_range_of_one_unit_is_no_window_of_a_picture(tmp_path: Path, chest: tuple[Path, ...]) -> None:
    text = CT_CLASSES.replace("window = [-400, 1500]", "range = [0, 1]")
    write_model(tmp_path / "models", "narrow", node_file(tmp_path / "net.onnx", (1, 1, 48, 40), "GlobalMaxPool"), text)
    result = DescribedNode(tmp_path, chest).answer("narrow")
    assert isinstance(result, Result)
    assert result.captures[0].window is None
