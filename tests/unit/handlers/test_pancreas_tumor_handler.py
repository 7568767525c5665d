"""The handler of the pancreas: what it takes, what it declines and why, and that what it marks stays at its place."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bodies import chest, enhanced
from support.bodies import study as body_study
from support.files import shared

from ainode.handlers.pancreas_tumor import PancreasTumor, build
from ainode.handlers.pancreas_tumor.enhancing import phase_reason
from ainode.models.pancreas_tumor.card import read_card
from ainode.models.pancreas_tumor.enhancement import Enhancement
from ainode.models.phantoms.abdomen import abdomen
from ainode.node import testing
from ainode.node.disk import sha256_of
from ainode.node.domain import Handler, OutOfScope, Presence, Result, Selection, Study, SyntheticImage
from ainode.node.encoding import headers
from ainode.node.reading import pipeline
from ainode.node.reading.weights import ModelEnvironment, WeightStore

SPACING_MM = (2.5, 1.4, 1.4)
ROW, COLUMN, FIRST, LAST = 110, 138, 12, 19
SIDE = 256
AGENT = {"BodyPartExamined": "ABDOMEN", "ContrastBolusAgent": "Iohexol", "SeriesDescription": "portal venous"}
Change = Callable[[Sequence[SyntheticImage]], Sequence[SyntheticImage]]


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> PancreasTumor:
    """Return the handler with weights that call what is nearly white a tumor."""
    from unit.models.bright_pancreas import bright_network

    from ainode.models.running.checkpoints import save_half

    folder, card = tmp_path_factory.mktemp("weights"), read_card()
    save_half(bright_network(), folder / card.file)
    (folder / "manifest.toml").write_text(
        f'[[weights]]\nname = "{card.weights}"\nmodel = "{card.name}"\nfile = "{card.file}"\n'
        f'sha256 = "{sha256_of(folder / card.file)}"\nbytes = {(folder / card.file).stat().st_size}\n'
        'licence = "none"\nstatus = "research"\nversion = "0"\n',
        "utf-8",
    )
    return build(ModelEnvironment(WeightStore(folder), folder / "cache", device="cpu"))


def images(*, has_cross: bool = True, is_fork: bool = False) -> tuple[SyntheticImage, ...]:
    """Return an abdomen in which nothing but a cross is nearly white, or two prongs that the highest slices join."""
    phantom = abdomen(np.random.default_rng(1), slices=40, step_mm=SPACING_MM[0], tumor=False)
    values = np.minimum(phantom.values, 120)
    if is_fork:
        for row, rows in ((ROW - 24, 18), (ROW + 8, 14)):
            values[FIRST : LAST - 3, row : row + rows, COLUMN - 6 : COLUMN + 6] = 300
        values[LAST - 3 : LAST, ROW - 16 : ROW + 16, COLUMN - 6 : COLUMN + 6] = 300
    elif has_cross:
        values[FIRST:LAST, ROW - 12 : ROW + 12, COLUMN - 4 : COLUMN + 4] = 300
        values[FIRST:LAST, ROW - 4 : ROW + 4, COLUMN - 12 : COLUMN + 12] = 300
    header = {**AGENT, "ConvolutionKernel": "STANDARD"}
    return testing.ct(values, SPACING_MM, frame="an abdomen", header=header)


def a_study(pictures: Sequence[SyntheticImage], folder: Path) -> Study:
    paths = testing.write(pictures, folder, study="study")
    return headers.study(headers.instance(path, sha256=sha256_of(path)) for path in paths)


def read(handler: PancreasTumor, study: Study) -> Result:
    selection = handler.select(study)
    assert isinstance(selection, Selection), selection
    result = handler.read(selection)
    assert isinstance(result, Result), result
    return result


def declined(handler: PancreasTumor, study: Study) -> OutOfScope:
    answer = pipeline.selection_of(study, handler)
    assert isinstance(answer, OutOfScope), answer
    return answer


def turned(pictures: Sequence[SyntheticImage]) -> list[SyntheticImage]:
    """Turn pixels and orientation together: rows run to the right, columns to the front."""
    result = []
    for picture in pictures:
        x, y, z = picture.header["ImagePositionPatient"]  # type: ignore[misc, str-unpack]
        dy, dx = picture.header["PixelSpacing"]  # type: ignore[misc, str-unpack]
        pixels = np.frombuffer(picture.pixels, "<u2").reshape(picture.rows, picture.columns)[::-1, ::-1]
        header = {
            **picture.header,
            "ImagePositionPatient": (x + dx * (picture.columns - 1), y + dy * (picture.rows - 1), z),  # type: ignore[operator]
            "ImageOrientationPatient": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
        }
        result.append(replace(picture, pixels=pixels.tobytes(), header=header))
    return result


def mirrored(pictures: Sequence[SyntheticImage]) -> list[SyntheticImage]:
    """Mirror pixels and orientation together: rows run to the right."""
    result = []
    for picture in pictures:
        x, y, z = picture.header["ImagePositionPatient"]  # type: ignore[misc, str-unpack]
        dx = picture.header["PixelSpacing"][1]  # type: ignore[index]
        pixels = np.frombuffer(picture.pixels, "<u2").reshape(picture.rows, picture.columns)[:, ::-1]
        header = {
            **picture.header,
            "ImagePositionPatient": (x + dx * (picture.columns - 1), y, z),  # type: ignore[operator]
            "ImageOrientationPatient": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        }
        result.append(replace(picture, pixels=pixels.tobytes(), header=header))
    return result


def test_it_is_a_handler(bright: PancreasTumor) -> None:
    assert isinstance(bright, Handler)
    assert bright.weights() == ("pancreas_tumor/lite0",)


@pytest.mark.parametrize(
    ("change", "row", "column"),
    [
        (lambda pictures: pictures, ROW, COLUMN),
        (lambda pictures: pictures[::-1], ROW, COLUMN),
        (turned, SIDE - ROW, SIDE - COLUMN),
        (mirrored, ROW, SIDE - COLUMN),
    ],
    ids=["as made", "permuted", "turned", "mirrored"],
)
def test_a_cross_stands_at_its_place_in_segmentation_region_outline_and_capture(
    bright: PancreasTumor, tmp_path: Path, change: Change, row: int, column: int
) -> None:
    study = a_study(change(images()), tmp_path)
    result = read(bright, study)
    (finding,) = result.findings
    heights = {instance.ref: instance.header["ImagePositionPatient"][2] for instance in study.instances}  # type: ignore[index]
    slices = {heights[label_map.image] for label_map in result.segmented.maps} if result.segmented else set()
    z = [(number - 19.5) * SPACING_MM[0] for number in range(FIRST, LAST)]
    assert slices
    assert result.segmented is not None
    assert result.segmented.slice_distance_mm == pytest.approx(SPACING_MM[0])
    assert min(slices) == pytest.approx(min(z), abs=2.6)
    assert max(slices) == pytest.approx(max(z), abs=2.6)
    for label_map in result.segmented.maps if result.segmented else ():
        mask = np.frombuffer(label_map.labels, np.uint8).reshape(label_map.rows, label_map.columns)
        assert np.argwhere(mask).mean(axis=0) + 0.5 == pytest.approx((row, column), abs=1)
    assert finding.region is not None
    columns, rows = np.asarray(finding.region.points).T
    assert ((rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2) == pytest.approx((row, column), abs=1.5)
    assert finding.region.image == result.captures[0].image
    assert finding.outline is not None
    middle = np.mean([np.mean(contour[:-1], axis=0) for contour in finding.outline.contours], axis=0)
    expected = [(at - (SIDE - 1) / 2) * SPACING_MM[1] for at in (COLUMN - 0.5, ROW - 0.5)]
    assert middle[:2] == pytest.approx(expected, abs=2.5)
    saliency = result.captures[0].saliency
    assert saliency is not None
    shown = np.frombuffer(saliency.values, np.uint8).reshape(saliency.rows, saliency.columns)
    assert np.argwhere(shown > 128).mean(axis=0) + 0.5 == pytest.approx((row, column), abs=1.5)


def test_a_region_is_a_candidate_with_a_longest_axis_and_without_a_probability(
    bright: PancreasTumor, tmp_path: Path
) -> None:
    result = read(bright, a_study(images(), tmp_path))
    (finding,) = result.findings
    assert (finding.is_candidate, finding.verdict) == (True, None)
    assert finding.presence is Presence.INDETERMINATE
    assert result.presence is Presence.INDETERMINATE
    assert "indeterminate" in result.headline
    (axis,) = finding.measurements
    assert (axis.concept.value, axis.unit.value) == ("103339001", "mm")
    # The cross is 24 pixels of 1.4 mm long; its corners reach a little farther.
    assert axis.value == pytest.approx(24 * 1.4, abs=4)
    assert axis.of_outline
    assert "probability" not in result.scores
    words = " ".join(result.captures[0].captions)
    assert "patients who all have a tumor" in words
    assert "not ruled out" in words
    assert any("no probability" in text for text in result.algorithm.known_limits)


def test_of_a_region_in_two_pieces_on_its_slice_the_answer_says_that_one_is_outlined(
    bright: PancreasTumor, tmp_path: Path
) -> None:
    (finding,) = read(bright, a_study(images(is_fork=True), tmp_path)).findings
    (axis,) = finding.measurements
    assert finding.region is not None
    rows = [row for _, row in finding.region.points]
    assert max(rows) < ROW, "the upper prong, which is the longer one"
    assert axis.value > 1.4 * (max(rows) - min(rows)) + 20, "the axis runs through both"
    assert ("outlined-region", "largest-piece") in {(name.value, value.value) for name, value in finding.qualities}
    assert finding.outline is not None
    heights = [round(contour[0][2], 1) for contour in finding.outline.contours]
    assert len(heights) > len(set(heights)), "the contours are those of both prongs"
    (whole,) = read(bright, a_study(images(), tmp_path / "whole")).findings
    assert len(whole.qualities) == 1


def test_an_abdomen_without_a_mark_is_not_called_healthy(bright: PancreasTumor, tmp_path: Path) -> None:
    selection = bright.select(a_study(images(has_cross=False), tmp_path))
    assert isinstance(selection, Selection)
    answer = bright.read(selection)
    assert isinstance(answer, OutOfScope)
    assert answer.code == "no-region"
    assert answer.reason.startswith("no region marked")
    assert "not ruled out" in answer.reason
    assert "no tumor" not in answer.reason


@pytest.mark.parametrize(
    ("header", "code", "words"),
    [
        ({"BodyPartExamined": "CHEST"}, "wrong-body-part", "reads ABDOMEN"),
        ({"BodyPartExamined": "HEAD"}, "wrong-body-part", "HEAD"),
        ({"SeriesDescription": "arterial"}, "wrong-contrast-phase", "names the arterial phase"),
        ({"SeriesDescription": "Abdomen nativ"}, "wrong-contrast-phase", "names the native phase"),
        ({"SeriesDescription": "delayed 5 min"}, "wrong-contrast-phase", "names the late phase"),
        ({"ContrastBolusAgent": "none"}, "wrong-contrast-phase", "says that there is none"),
        ({"RescaleIntercept": 0.0}, "not-hounsfield", "Hounsfield units are read"),
    ],
)
def test_what_it_was_not_made_for_is_declined_with_the_reason(
    bright: PancreasTumor, tmp_path: Path, header: dict[str, Any], code: str, words: str
) -> None:
    answer = declined(
        bright, body_study(enhanced(150, 110), tmp_path, spacing_mm=(5.0, 1.5, 1.5), **{**AGENT, **header})
    )
    assert (answer.code, words in answer.reason) == (code, True), answer.reason


def test_pictures_are_told_how_many_slices_are_needed_as_what(bright: PancreasTumor, tmp_path: Path) -> None:
    answer = declined(bright, body_study(enhanced(150, 110), tmp_path, **{**AGENT, "Modality": "OT"}))
    assert answer.code == "no-ct"
    assert "8 slices or more, as DICOM or NIfTI, and no pictures" in answer.reason


def test_too_few_slices_are_declined(bright: PancreasTumor, tmp_path: Path) -> None:
    answer = declined(bright, body_study(enhanced(150, 110, 5), tmp_path, spacing_mm=(5.0, 1.5, 1.5), **AGENT))
    assert (answer.code, "5 slices; 8 are needed" in answer.reason) == ("too-few-slices", True)


@pytest.mark.parametrize(
    ("aorta", "liver", "words"),
    [(320.0, 65.0, "of the arterial phase"), (45.0, 55.0, "without contrast agent")],
)
def test_where_no_header_says_it_the_pixels_tell_another_phase_with_what_was_measured(
    bright: PancreasTumor, tmp_path: Path, aorta: float, liver: float, words: str
) -> None:
    for name, header in (("silent", {"BodyPartExamined": "ABDOMEN"}), ("wrong", AGENT)):
        study = body_study(enhanced(aorta, liver), tmp_path / name, spacing_mm=(5.0, 1.5, 1.5), **header)
        answer = declined(bright, study)
        assert answer.code == "wrong-contrast-phase"
        assert words in answer.reason
        numbers = re.search(r"aorta (\d+) HU, liver (\d+) HU", answer.reason)
        assert numbers is not None
        assert [float(number) for number in numbers.groups()] == pytest.approx([aorta, liver], abs=6)


def test_where_no_header_says_it_the_portal_venous_phase_is_taken(bright: PancreasTumor, tmp_path: Path) -> None:
    study = body_study(enhanced(160, 112), tmp_path, spacing_mm=(5.0, 1.5, 1.5), BodyPartExamined="ABDOMEN")
    assert isinstance(pipeline.selection_of(study, bright), Selection)


@pytest.mark.parametrize(
    ("aorta", "liver", "words"),
    [
        (150.0, 110.0, ""),
        (140.0, 60.0, ""),
        (None, 105.0, ""),
        (None, 60.0, "the pixels tell no phase"),
        (320.0, 70.0, "the pixels are of the arterial phase"),
        (320.0, None, "the pixels are of the arterial phase"),
        (310.0, 95.0, "the pixels are of the arterial phase"),
        (230.0, 98.0, ""),
        (42.0, 58.0, "the pixels are of a scan without contrast agent, or long after it"),
    ],
)
def test_a_fatty_liver_is_no_reason_and_a_bright_aorta_beside_a_dark_liver_is(
    aorta: float | None, liver: float | None, words: str
) -> None:
    assert phase_reason(Enhancement(aorta, liver)) == words


def test_a_chest_that_a_header_calls_an_abdomen_is_declined(bright: PancreasTumor, tmp_path: Path) -> None:
    assert declined(bright, body_study(chest(), tmp_path, spacing_mm=(5.0, 3.9, 3.9), **AGENT)).code == "no-abdomen"


def a_folder(name: str) -> Study:
    files = sorted(shared(f"data/dicom/{name}").rglob("*.dcm"))
    return headers.study(headers.instance(path, sha256="") for path in files)


def test_the_real_arterial_slices_are_declined_by_their_header_and_without_it_by_their_pixels(
    bright: PancreasTumor,
) -> None:
    study = a_folder("ct_abdomen/KiTS-00072")
    answer = declined(bright, study)
    assert (answer.code, "names the arterial phase" in answer.reason) == ("wrong-contrast-phase", True)
    silent = [
        replace(instance, header={**instance.header, "SeriesDescription": "", "ProtocolName": ""})
        for instance in study.instances
    ]
    # The twelve slices end above the pancreas.
    assert (
        declined(bright, replace(study, series=(replace(study.series[0], instances=tuple(silent)),))).code
        == "no-abdomen"
    )


@pytest.mark.parametrize("folder", ["ct_chest_5mm_Lung_Dx-A0001", "ct_chest_thin_R01-001"])
def test_the_real_chests_are_declined(bright: PancreasTumor, folder: str) -> None:
    answer = declined(bright, a_folder(folder))
    assert answer.code in {"wrong-body-part", "no-abdomen", "wrong-contrast-phase"}
    assert "ABDOMEN" in answer.reason or "abdomen" in answer.reason or "phase" in answer.reason
