"""The handler of chest CT: what it takes, what it declines and why, and that the answer is the same on every way."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import bodies
from support.files import shared

from ainode.handlers import verdict_on
from ainode.handlers.ct_pneumonia import CtPneumonia, build, contradiction, seed_of, undecided
from ainode.models.ct_pneumonia.card import read_card
from ainode.models.phantoms.abdomen import abdomen
from ainode.node import testing
from ainode.node.disk import sha256_of
from ainode.node.domain import UID, Code, Handler, OutOfScope, Presence, Result, Selection, Study, SyntheticImage
from ainode.node.encoding import headers
from ainode.node.imaging.geometry import Stack, stack, volume
from ainode.node.reading.weights import ModelEnvironment, WeightStore

Change = Callable[[list[SyntheticImage]], list[SyntheticImage]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> CtPneumonia:
    """Return the handler with drawn weights: what is tested here is not how good they are."""
    from unit.models.original_pneumonia import random_pneumonia

    from ainode.models.ct_pneumonia.checkpoints import save_half

    folder, card = tmp_path_factory.mktemp("weights"), read_card()
    save_half(random_pneumonia(0), folder / card.file)
    (folder / "manifest.toml").write_text(
        f'[[weights]]\nname = "{card.weights}"\nmodel = "{card.name}"\nfile = "{card.file}"\n'
        f'sha256 = "{sha256_of(folder / card.file)}"\nbytes = {(folder / card.file).stat().st_size}\n'
        'licence = "none"\nstatus = "demonstration"\nversion = "0"\n',
        "utf-8",
    )
    return build(ModelEnvironment(WeightStore(folder), folder / "cache", device="cpu"))


@pytest.fixture(scope="module")
def outlining(drawn: CtPneumonia, tmp_path_factory: pytest.TempPathFactory) -> CtPneumonia:
    """Return the handler of a site that has weights of the infection, too: they call each bright pixel infected."""
    from unit.models.bright_infection import bright_network

    from ainode.models.lung_infection.card import read_card as read_infection_card
    from ainode.models.running.checkpoints import save_half

    folder, cards = tmp_path_factory.mktemp("site"), (read_card(), read_infection_card())
    shutil.copy(drawn._environment.weights.site / cards[0].file, folder)
    save_half(bright_network(), folder / cards[1].file)
    entries = (
        f'[[weights]]\nname = "{card.weights}"\nmodel = "{card.name}"\nfile = "{card.file}"\n'
        f'sha256 = "{sha256_of(folder / card.file)}"\nbytes = {(folder / card.file).stat().st_size}\n'
        'licence = "none"\nstatus = "site"\nversion = "0"\n'
        for card in cards
    )
    (folder / "manifest.toml").write_text("\n".join(entries), "utf-8")
    return build(ModelEnvironment(WeightStore(folder), folder / "cache", device="cpu"))


@pytest.fixture(scope="module")
def slices(drawn: CtPneumonia) -> list[SyntheticImage]:
    return list(drawn.demonstration(1).images)


def a_study(images: Sequence[SyntheticImage], folder: Path) -> Study:
    paths = testing.write(images, folder, study="study")
    return headers.study(headers.instance(path, sha256=sha256_of(path)) for path in paths)


def read(handler: CtPneumonia, study: Study) -> Result:
    selection = handler.select(study)
    assert isinstance(selection, Selection), selection
    result = handler.read(selection)
    assert isinstance(result, Result), result
    return result


def changed(images: Sequence[SyntheticImage], **header: object) -> list[SyntheticImage]:
    return [replace(one, header={**one.header, **header}) for one in images]  # type: ignore[dict-item]


def every(images: Sequence[SyntheticImage], step: int) -> list[SyntheticImage]:
    return list(images[::step])


def test_it_is_a_handler(drawn: CtPneumonia) -> None:
    assert isinstance(drawn, Handler)
    assert drawn.weights() == ("ct_pneumonia/small",)


def test_the_demonstration_is_read_with_key_slices_that_carry_saliency(
    drawn: CtPneumonia, slices: list[SyntheticImage], tmp_path: Path
) -> None:
    study = a_study(slices, tmp_path)
    result = read(drawn, study)
    (finding,) = result.findings
    assert finding.concept.value == "233604007"
    assert finding.site.value == "39607008"
    assert 0 <= finding.measurements[0].value <= 100
    assert len(result.evidence) < len(slices), "slices above and below the lungs are not read"
    assert 1 <= len(result.key_images) <= 3
    assert set(result.key_images) <= set(result.evidence)
    assert tuple(capture.image for capture in result.captures) == result.key_images
    for capture in result.captures:
        assert capture.saliency is not None
        assert (capture.saliency.rows, capture.saliency.columns) == (192, 192)
        assert capture.findings
        assert all(
            0 <= at <= 192 for one in capture.findings if one.region for point in one.region.points for at in point
        )
    assert {"probability", "diffusion mean", "classifier", "global prior", "local prior"} <= set(result.scores)
    assert sum(value for name, value in result.scores.items() if "attention" in name) == pytest.approx(1, abs=1e-4)


def mirrored(images: list[SyntheticImage]) -> list[SyntheticImage]:
    """Turn pixels and orientation together: rows run to the right and to the front, columns likewise."""
    turned = []
    for one in images:
        x, y, z = one.header["ImagePositionPatient"]  # type: ignore[misc, str-unpack]
        dy, dx = one.header["PixelSpacing"]  # type: ignore[misc, str-unpack]
        pixels = np.frombuffer(one.pixels, "<u2").reshape(one.rows, one.columns)[::-1, ::-1]
        header = {
            **one.header,
            "ImagePositionPatient": (x + dx * (one.columns - 1), y + dy * (one.rows - 1), z),  # type: ignore[operator]
            "ImageOrientationPatient": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
        }
        turned.append(replace(one, pixels=pixels.tobytes(), header=header))
    return turned


@pytest.mark.parametrize("change", [lambda images: images[::-1], mirrored], ids=["permuted", "turned"])
def test_the_order_of_slices_and_the_way_they_lie_do_not_change_the_probability(
    drawn: CtPneumonia, slices: list[SyntheticImage], tmp_path: Path, change: Change
) -> None:
    first = read(drawn, a_study(slices, tmp_path / "as made")).scores
    second = read(drawn, a_study(change(slices), tmp_path / "changed")).scores
    assert second["probability"] == pytest.approx(first["probability"], abs=1e-4)


def crossed(images: Sequence[SyntheticImage], number: int) -> list[SyntheticImage]:
    """Draw a cross as bright as bone into the left lung of one slice, a speck as bright into the corner of each slice.

    Bones are as dark as muscle, so that nothing else is bright.
    """
    changed_images = []
    for at, image in enumerate(images):
        pixels = np.frombuffer(image.pixels, "<u2").reshape(image.rows, image.columns).copy()
        pixels = np.minimum(pixels, 1024 + 60)
        pixels[:2, :2] = 1024 + 1500
        if at == number:
            pixels[78:103, 128:133] = pixels[88:93, 118:143] = 1024 + 1400
        changed_images.append(replace(image, pixels=pixels.astype("<u2").tobytes()))
    return changed_images


@pytest.mark.parametrize("change", [lambda images: images, mirrored], ids=["as made", "turned"])
def test_a_cross_in_the_left_lung_is_outlined_at_its_place_in_segmentation_and_capture(
    outlining: CtPneumonia, slices: list[SyntheticImage], tmp_path: Path, change: Change
) -> None:
    study = a_study(change(crossed(slices, 20)), tmp_path)
    result = read(outlining, study)
    assert result.segmented is not None
    maps = {
        label_map.image: np.frombuffer(label_map.labels, np.uint8).reshape(label_map.rows, label_map.columns)
        for label_map in result.segmented.maps
    }
    heights = sorted(float(one.header["ImagePositionPatient"][2]) for one in study.instances if one.ref in maps)  # type: ignore[index,arg-type]
    assert result.segmented.slice_distance_mm == pytest.approx(heights[1] - heights[0])
    crossing = study.series[0].instances[20].ref
    infected = maps[crossing] == 2
    rows, columns = np.nonzero(infected)
    center = ((rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2)
    expected = (90, 130) if change is not mirrored else (191 - 90, 191 - 130)
    assert center == pytest.approx(expected, abs=1)
    assert infected.sum() > 80, "the arms of the cross; equalization darkens where they meet"
    (capture,) = (capture for capture in result.captures if capture.title.startswith("Infection"))
    assert capture.image == crossing
    assert capture.saliency is not None
    drawn_pixels = np.frombuffer(capture.saliency.values, np.uint8).reshape(192, 192)
    assert (drawn_pixels == 255 * infected).all()
    right, left = result.findings[1:]
    assert (right.laterality, left.laterality) == (
        Code("24028007", "SCT", "Right"),
        Code("7771000", "SCT", "Left"),
    )
    assert left.measurements[0].value > 10 * right.measurements[0].value
    assert set(right.evidence) <= set(result.key_images)
    infected_count, lung_count = (sum(int((plane >= least).sum()) for plane in maps.values()) for least in (2, 1))
    share = 100 * infected_count / lung_count
    assert result.scores["infected share of both lungs in percent"] == pytest.approx(share, rel=1e-9)


def test_without_weights_of_the_infection_the_report_says_what_makes_them(
    drawn: CtPneumonia, slices: list[SyntheticImage], tmp_path: Path
) -> None:
    result = read(drawn, a_study(slices, tmp_path))
    assert len(result.findings) == 1
    assert result.segmented is None
    assert "`ainode train lung_infection`" in dict(result.algorithm.parameters)["infection"]
    assert all(any("Infected share not measured" in text for text in capture.captions) for capture in result.captures)


def test_the_regions_that_are_read_closely_lie_where_the_infection_is(
    outlining: CtPneumonia, slices: list[SyntheticImage], tmp_path: Path
) -> None:
    result = read(outlining, a_study(crossed(slices, 20), tmp_path))
    boxes = [finding.region for capture in result.captures for finding in capture.findings if finding.region]
    assert any(
        min(x for x, _ in box.points) <= 130 <= max(x for x, _ in box.points)
        and min(y for _, y in box.points) <= 90 <= max(y for _, y in box.points)
        for box in boxes
    )


def test_the_seed_hangs_on_the_study_alone() -> None:
    card = read_card()
    assert seed_of(UID("1.2.3"), card) == seed_of(UID("1.2.3"), card) != seed_of(UID("1.2.4"), card)


@pytest.mark.parametrize(
    ("draws", "band", "expected"),
    [
        ((0.2, 0.3), None, None),
        ((0.3, 0.5), None, (0.3, 0.5)),
        ((0.4, 0.4), None, None),
        ((0.3, 0.5), (0.35, 0.6), (0.3, 0.6)),
        ((0.1, 0.2), (0.35, 0.6), (0.35, 0.6)),
    ],
)
def test_draws_on_both_sides_of_the_threshold_decide_nothing(
    draws: tuple[float, ...], band: tuple[float, float] | None, expected: tuple[float, float] | None
) -> None:
    decided = undecided(draws, 0.4, band)
    assert decided == expected
    probability = sum(draws) / len(draws)
    if expected and expected[0] <= probability <= expected[1]:
        assert verdict_on(probability, 0.4, decided).presence is Presence.INDETERMINATE


@pytest.mark.parametrize(
    ("classifier", "diffusion", "contradicts"),
    [(0.016, 0.9, True), (0.9, 0.1, True), (0.4, 0.9, False), (0.1, 0.2, False)],
)
def test_an_answer_whose_parts_lie_on_two_sides_of_the_threshold_says_so(
    classifier: float, diffusion: float, *, contradicts: bool
) -> None:
    sentences = contradiction(classifier, diffusion, 0.35)
    assert bool(sentences) == contradicts
    assert not contradicts or f"classifier {classifier:.2f}, diffusion {diffusion:.2f}" in sentences[0]


def test_the_spread_of_the_draws_stands_beside_their_mean(
    drawn: CtPneumonia, slices: list[SyntheticImage], tmp_path: Path
) -> None:
    result = read(drawn, a_study(slices, tmp_path))
    scores = result.scores
    assert scores["lowest draw"] < scores["probability"] < scores["highest draw"]
    deviation = result.findings[0].measurements[1]
    assert deviation.value == pytest.approx(100 * scores["deviation of draws"], abs=0.01)
    said = contradiction(scores["classifier"], scores["diffusion mean"], read_card().threshold)
    assert result.algorithm.known_limits[: len(said)] == said
    assert "mean of 8 draws," in dict(result.algorithm.parameters)["sampling"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda images: images[:12], "too-few-slices"),
        (lambda images: every(images, 2), "too-coarse"),
        (lambda images: images[:10] + images[12:], "gap"),
        (lambda images: changed(images, ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER")), "no-slices"),
        (lambda images: changed(images, BodyPartExamined="ABDOMEN", SeriesDescription="liver"), "wrong-body-part"),
        (lambda images: changed(images, Modality="MG"), "no-ct"),
    ],
)
def test_what_it_was_not_made_for_is_declined_with_a_coded_reason(
    drawn: CtPneumonia, slices: list[SyntheticImage], tmp_path: Path, change: Change, code: str
) -> None:
    declined = drawn.select(a_study(change(slices), tmp_path))
    assert isinstance(declined, OutOfScope)
    assert declined.code == code, declined


def test_a_stack_that_covers_too_little_of_the_chest_is_declined(
    drawn: CtPneumonia, slices: list[SyntheticImage], tmp_path: Path
) -> None:
    thin = [
        replace(one, header={**one.header, "ImagePositionPatient": (0.0, 0.0, 1.0 * number)})
        for number, one in enumerate(slices)
    ]
    declined = drawn.select(a_study(thin, tmp_path))
    assert isinstance(declined, OutOfScope)
    assert declined.code == "too-short"


def test_a_tilted_gantry_is_declined(drawn: CtPneumonia, slices: list[SyntheticImage], tmp_path: Path) -> None:
    cos, sin = float(np.cos(0.3)), float(np.sin(0.3))
    tilted = changed(slices, ImageOrientationPatient=(1.0, 0.0, 0.0, 0.0, cos, -sin))
    declined = drawn.select(a_study(tilted, tmp_path))
    assert isinstance(declined, OutOfScope)
    assert declined.code == "gantry-tilt"


def test_a_volume_without_lung_is_declined(drawn: CtPneumonia, slices: list[SyntheticImage], tmp_path: Path) -> None:
    water = np.full((192, 192), 1064, "<u2").tobytes()
    selection = drawn.select(a_study([replace(one, pixels=water) for one in slices], tmp_path))
    assert isinstance(selection, Selection)
    declined = drawn.read(selection)
    assert isinstance(declined, OutOfScope)
    assert declined.code == "no-lung"


@pytest.mark.parametrize(
    ("folder", "count", "is_cut"), [("ct_chest_thin_R01-001", 84, True), ("ct_chest_5mm_Lung_Dx-A0001", 49, False)]
)
def test_the_real_chests_are_read_and_the_answer_says_which_is_no_whole_one(
    drawn: CtPneumonia, folder: str, count: int, *, is_cut: bool
) -> None:
    files = sorted(path for path in shared(f"data/dicom/{folder}").rglob("*.dcm"))
    result = read(drawn, headers.study(headers.instance(path, sha256="") for path in files))
    assert len(result.evidence) == count
    statement = dict(result.algorithm.parameters)["read"]
    assert f" of {len(files)}: the lungs" in statement
    assert ("reach the lowest slice of the scan, which does not hold the whole lungs" in statement) == is_cut
    assert 0 < result.scores["probability"] < 1


@pytest.mark.parametrize("values", [bodies.abdomen(0), bodies.head()])
def test_another_part_labelled_chest_is_refused_by_its_pixels(
    drawn: CtPneumonia, tmp_path: Path, values: bodies.Values
) -> None:
    selection = drawn.select(bodies.study(values, tmp_path))
    assert isinstance(selection, Selection)
    refusal = drawn.look(selection)
    assert isinstance(refusal, OutOfScope)
    assert refusal.code == "no-lung"
    assert "the header says CHEST" in refusal.reason


def test_a_chest_above_an_abdomen_is_read_as_the_chest_alone(drawn: CtPneumonia, tmp_path: Path) -> None:
    alone = read(drawn, bodies.study(bodies.chest(0, 4), tmp_path / "alone"))
    values = np.concatenate([bodies.abdomen(0), bodies.chest(0, 4)])
    longer = read(drawn, bodies.study(values, tmp_path / "longer", BodyPartExamined="CHESTABDPELVIS"))
    assert longer.scores == alone.scores
    assert dict(longer.algorithm.parameters)["read"].endswith(" of 80: the lungs")
    first = int(dict(longer.algorithm.parameters)["read"].split()[1])
    for capture, other in zip(longer.captures, alone.captures, strict=True):
        number, count = (int(capture.title.split()[at]) for at in (-3, -1))
        assert count == 80
        assert number - 40 == int(other.title.split()[-3])
        assert longer.evidence[number - first] == capture.image
        assert capture.saliency == other.saliency


def test_the_real_chest_above_an_abdomen_is_read_as_the_chest_alone(drawn: CtPneumonia, tmp_path: Path) -> None:
    files = shared("data/dicom/ct_chest_5mm_Lung_Dx-A0001").rglob("*.dcm")
    slices = stack([headers.instance(path, sha256="") for path in files])
    assert isinstance(slices, Stack)
    chest = volume(slices).values[:, ::4, ::4]
    below = abdomen(np.random.default_rng(0), slices=40, side=128, step_mm=5.0).values
    spacing = (5.0, 4 * slices.spacing_mm[1], 4 * slices.spacing_mm[2])
    alone = read(drawn, bodies.study(chest, tmp_path / "alone", spacing_mm=spacing))
    longer = read(drawn, bodies.study(np.concatenate([below, chest]), tmp_path / "longer", spacing_mm=spacing))
    assert longer.scores == alone.scores
    assert len(longer.evidence) == len(alone.evidence) < 64
