"""Vertebrae and angles: geometry of drawn columns, places in the input, maps to columns and back."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ainode.models.errors import CheckpointRefused, ModelError, UnusablePicture
from ainode.models.phantoms.spine import spine_radiograph
from ainode.models.running.checkpoints import save_half
from ainode.models.running.runtime import Execution
from ainode.models.spine_vertebrae.augment import varied
from ainode.models.spine_vertebrae.card import read_card
from ainode.models.spine_vertebrae.changed_films import CHANGES
from ainode.models.spine_vertebrae.column import column_of
from ainode.models.spine_vertebrae.companions import drawn_side_views, drawn_spines, others
from ainode.models.spine_vertebrae.dataset import COUNT, Film, films_of_part
from ainode.models.spine_vertebrae.evaluation import Measurement
from ainode.models.spine_vertebrae.geometry import (
    challenge_angles,
    curves,
    height_ratios,
    largest,
    offset,
    tilts,
)
from ainode.models.spine_vertebrae.model import Prediction, VertebraModel
from ainode.models.spine_vertebrae.network import SpineNetwork, VertebraNetwork
from ainode.models.spine_vertebrae.preprocess import COLUMNS, ROWS, equalized, fitted, framed, network_input
from ainode.models.spine_vertebrae.targets import targets
from ainode.models.spine_vertebrae.training import Material, trained
from ainode.models.spine_vertebrae.views import View, learn_view, views
from ainode.models.training.experiment import TrainingOptions

_S_SHAPE = [0, 5, 12, 18, 15, 6, -4, -14, -22, -24, -18, -8, 2, 10, 12, 8, 3]
"""tilts in degrees of seventeen vertebrae, positive where the right side is lower"""


def a_column(degrees: list[float], *, width: float = 60, height: float = 40, gap: float = 12) -> NDArray[np.float64]:
    """Return corners (n, 4, 2) of vertebrae with these tilts, each below the one before."""
    corners, place = [], np.array([160.0, 40.0])
    for tilt in np.radians(degrees):
        across, down = np.array([np.cos(tilt), np.sin(tilt)]), np.array([-np.sin(tilt), np.cos(tilt)])
        corners.append([place + x * width / 2 * across + y * height / 2 * down for y in (-1, 1) for x in (-1, 1)])
        place = place + (height + gap) * down
    return np.asarray(corners)


def a_drawn_film() -> Film:
    """Return a drawn film whose seventeen vertebrae lie inside."""
    drawn = spine_radiograph(
        np.random.default_rng(5), rows=1024, columns=440, view="AP", region="WHOLE", abnormal=False
    )
    corners = drawn.corners[(drawn.corners[:, :, 1] < 1000).all(axis=1)]
    angle = largest(curves(corners)).angle
    picture = (drawn.image >> 4).astype(np.uint8)
    return Film("drawn", "drawn", picture, corners.astype(np.float32), angle, has_right_corners=True)


def a_film(corners: NDArray[np.float64]) -> Film:
    return Film(
        "film", "patient", np.zeros((900, 400), np.uint8), corners.astype(np.float32), 0.0, has_right_corners=True
    )


def test_a_curve_lies_between_the_vertebrae_that_are_tilted_most_against_each_other() -> None:
    found = curves(a_column(_S_SHAPE))
    main = largest(found)
    assert main.ends == (3, 9)
    assert main.angle == pytest.approx(42)
    assert [curve.ends for curve in found] == [(0, 3), (3, 9), (9, 14), (14, 16)]
    assert [round(curve.angle) for curve in found] == [18, 42, 36, 9]


def test_a_spine_whose_vertebrae_fall_to_the_right_above_and_to_the_left_below_bulges_to_the_left() -> None:
    column = a_column(_S_SHAPE)
    main = largest(curves(column))
    middles = column.mean(axis=1)[:, 0]
    bulge = middles[main.apex] - middles[list(main.ends)].mean()
    assert bulge < 0
    assert not main.is_convex_right


def test_a_mirrored_spine_has_the_same_angles_and_the_other_convex_side() -> None:
    column = a_column(_S_SHAPE)
    mirrored = (column * (-1, 1) + (320, 0))[:, [1, 0, 3, 2]]
    pairs = list(zip(curves(column), curves(mirrored), strict=True))
    assert all(one.angle == pytest.approx(other.angle) and one.ends == other.ends for one, other in pairs)
    assert all(one.is_convex_right != other.is_convex_right for one, other in pairs)
    assert offset(mirrored) == pytest.approx(-offset(column))


def test_the_convex_side_is_that_of_the_apex() -> None:
    column = a_column(_S_SHAPE)
    curve = curves(column)[0]
    middles = column.mean(axis=1)
    beside = middles[curve.apex, 0] - (middles[curve.upper, 0] + middles[curve.lower, 0]) / 2
    assert curve.is_convex_right == (beside > 0)
    # The vertebrae between the ends lie to the other side, the ends are tilted as before.
    shift = np.zeros(len(column))
    shift[curve.upper + 1 : curve.lower] = -4 * beside
    moved = curves(column + np.stack([shift, np.zeros_like(shift)], axis=1)[:, None])[0]
    assert moved.ends == curve.ends
    assert moved.is_convex_right != curve.is_convex_right


def test_a_straight_spine_has_no_angle_and_no_wedge() -> None:
    column = a_column([3.0] * COUNT)
    assert tilts(column) == pytest.approx(np.full(COUNT, 3.0))
    assert largest(curves(column)).angle == pytest.approx(0, abs=1e-6)
    assert height_ratios(column) == pytest.approx(np.ones(COUNT))


def test_a_turned_film_has_the_same_angles() -> None:
    turned = a_column([tilt + 5 for tilt in _S_SHAPE])
    assert largest(curves(turned)).angle == pytest.approx(42)


def test_a_wedge_is_the_ratio_of_its_sides() -> None:
    column = a_column([0.0] * 3)
    column[1, 2, 1] -= 10  # the left side of the second vertebra loses a quarter
    assert height_ratios(column) == pytest.approx([1, 0.75, 1])


def test_the_challenge_counts_both_further_angles_above_a_low_curve_of_an_s_shaped_spine() -> None:
    low = a_column([0, 10, -12, -2, 0, 2, 4, 6, 8, 10, 12, 14, -10, -20, -15, -10, -5])
    angles = challenge_angles(low, rows=950)
    assert angles[0] == pytest.approx(34)
    assert angles[1] == pytest.approx(26)  # from the twelfth vertebra to the third
    assert angles[2] == pytest.approx(22)  # from the third to the second


@pytest.mark.parametrize("height_per_width", [1.0, 0.5, 2.0])
def test_what_lies_in_the_film_lies_at_its_place_in_the_input(height_per_width: float) -> None:
    film = np.zeros((1000, 400), np.float32)
    film[300:308, 100:108] = 1  # its middle is (104, 304)
    place = fitted(*film.shape, height_per_width=height_per_width)
    shown = place.applied(film)
    rows, columns = np.nonzero(shown > shown.max() / 2)
    middle = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    assert place.on_input(np.array([104.0, 304.0])) == pytest.approx(middle, abs=0.6)
    assert place.on_source(middle) == pytest.approx(np.array([104.0, 304.0]), abs=1.5)


@pytest.mark.parametrize("height_per_width", [1.0, 0.5])
def test_a_column_is_framed_whole_and_large_wherever_it_stands(height_per_width: float) -> None:
    small = a_column(_S_SHAPE) * (0.4, 0.4 / height_per_width) + (1500, 200)
    seen = framed(small, height_per_width=height_per_width).on_input(small).reshape(-1, 2)
    assert (seen.min(axis=0) > 0).all()
    assert (seen.max(axis=0) < (COLUMNS, ROWS)).all()
    assert np.ptp(seen[:, 1]) > 0.8 * ROWS


def test_a_column_is_read_back_from_the_maps_that_a_film_should_give() -> None:
    corners = a_column(_S_SHAPE, width=44, height=24, gap=8)
    peaks, values, _ = targets(corners)
    column = column_of(peaks, values)
    assert len(column) == COUNT
    assert np.abs(column.corners - corners).max() < 0.5
    assert column.numbers == pytest.approx(np.arange(COUNT), abs=0.01)


def test_a_peak_beside_the_spine_is_no_vertebra_of_the_chain() -> None:
    corners = a_column(_S_SHAPE, width=44, height=24, gap=8)
    beside = corners[8:9] + np.array([90, 10])
    peaks, values, _ = targets(np.concatenate([corners, beside]))
    column = column_of(peaks, values)
    assert len(column) == COUNT
    assert column.corners[:, :, 0].max() < beside[:, :, 0].max() - 40


def test_of_more_vertebrae_than_from_t1_to_l5_the_surest_in_a_row_are_taken() -> None:
    corners = a_column([0.0] * 19, width=40, height=20, gap=8)
    peaks, values, _ = targets(corners)
    faint = [int(corners[number, :, 1].mean() // 4) for number in (0, 18)]
    for row in faint:
        peaks[row - 3 : row + 4] *= 0.5
    column = column_of(peaks, values)
    assert len(column) == COUNT
    assert np.abs(column.corners - corners[1:18]).max() < 0.5


def test_no_peak_is_no_column() -> None:
    assert len(column_of(np.zeros((160, 80), np.float32), np.zeros((9, 160, 80), np.float32))) == 0


def test_a_vertebra_outside_of_the_input_teaches_nothing() -> None:
    peaks, values, weight = targets(a_column([0.0] * 3) + np.array([0, 2000]))
    assert not peaks.any()
    assert not values.any()
    assert not weight.any()


def test_a_changed_film_keeps_its_corners_on_its_vertebrae() -> None:
    corners = a_column([0.0] * 12, width=80, height=40, gap=30)
    picture = np.zeros((900, 400), np.uint8)
    for four in corners.astype(int):
        picture[four[0, 1] : four[2, 1], four[0, 0] : four[1, 0]] = 200
    film = Film("film", "patient", picture, corners.astype(np.float32), 0.0, has_right_corners=True)
    for seed in range(8):
        shown, moved = varied(film, np.random.default_rng(seed))
        assert (moved[:, 0, 0] < moved[:, 1, 0]).all(), "left stays left"
        inside = [m for m in moved.mean(axis=1) if 8 < m[0] < COLUMNS - 8 and 8 < m[1] < ROWS - 8]
        gaps = [(moved[n, 2:].mean(axis=0) + moved[n + 1, :2].mean(axis=0)) / 2 for n in range(11)]
        gaps = [g for g in gaps if 8 < g[0] < COLUMNS - 8 and 8 < g[1] < ROWS - 8]
        bodies, discs = ([shown[int(y), int(x)] for x, y in places] for places in (inside, gaps))
        assert abs(float(np.mean(bodies)) - float(np.mean(discs))) > 0.1


def test_a_film_whose_corners_somebody_exchanged_is_measured_by_its_angle_alone() -> None:
    right = a_film(a_column(_S_SHAPE))
    wrong = replace(right, largest_angle=42.0, has_right_corners=False)
    measurement = Measurement([right.corners.astype(np.float64)] * 2)
    errors = measurement.corner_errors([right, wrong])
    assert errors[0] == 0
    assert np.isnan(errors[1])
    assert measurement.angle_errors([right, wrong])[1] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_film_has_its_vertebrae_where_its_corners_are(name: str) -> None:
    film = a_drawn_film()
    changed = CHANGES[name](film)
    inside = changed.corners.mean(axis=1).round().astype(int)
    rows, columns = changed.picture.shape
    assert ((inside >= 0) & (inside < (columns, rows))).all()
    bodies = np.mean([changed.picture[y, x] for x, y in inside], dtype=float)
    discs = (changed.corners[:-1, 2:].mean(axis=1) + changed.corners[1:, :2].mean(axis=1)) / 2
    between = np.mean([changed.picture[y, x] for x, y in discs.round().astype(int)], dtype=float)
    assert (bodies > between + 5) if name != "negative" else (bodies < between - 5)
    if "60" not in name:
        assert changed.largest_angle == film.largest_angle
        assert largest(curves(changed.corners.astype(np.float64))).angle == pytest.approx(film.largest_angle, abs=0.1)


def test_a_film_without_a_spine_counts_as_no_angle() -> None:
    film = replace(a_film(a_column(_S_SHAPE)), largest_angle=42.0)
    measurement = Measurement([None])
    assert measurement.angle_errors([film]) == pytest.approx([42])
    assert measurement.symmetric_errors([film]) == pytest.approx([100])


def test_the_films_of_a_part_come_with_their_corners(tmp_path: Path) -> None:
    column = a_column(_S_SHAPE)
    Image.fromarray(np.full((900, 400), 7, np.uint8)).save(tmp_path / "one.png")
    row = {"file": "one.png", "split": "test", "group": "case1", "max_cobb": "42", "corners_ok": "1"}
    places = {f"{axis}{n}": column.reshape(-1, 2)[n, i] for i, axis in enumerate("xy") for n in range(4 * COUNT)}
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*row, *places])
        writer.writeheader()
        writer.writerow(row | places)
    (film,) = films_of_part(tmp_path, "test")
    assert film.picture.shape == (900, 400)
    assert film.corners == pytest.approx(column, abs=1e-3)
    with pytest.raises(ModelError, match="nothing of the part train"):
        films_of_part(tmp_path, "train")


def test_an_empty_folder_stands_for_drawn_films_and_another_one_is_refused(tmp_path: Path) -> None:
    film = films_of_part(tmp_path, "test")[0]
    assert film.corners.shape == (COUNT, 4, 2)
    assert film.largest_angle == pytest.approx(largest(curves(film.corners.astype(np.float64))).angle, abs=0.01)
    (tmp_path / "notes.txt").write_text("no films here")
    with pytest.raises(ModelError, match=r"manifest\.csv: not there"):
        films_of_part(tmp_path, "test")


def test_a_drawn_spine_has_bright_bodies_between_darker_discs() -> None:
    drawn = spine_radiograph(
        np.random.default_rng(3), rows=1024, columns=440, view="AP", region="WHOLE", abnormal=False
    )
    middles = drawn.corners.mean(axis=1)
    discs = (drawn.corners[:-1, 2:].mean(axis=1) + drawn.corners[1:, :2].mean(axis=1)) / 2
    values = [np.mean([drawn.image[int(y), int(x)] for x, y in places if y < 1020]) for places in (middles, discs)]
    assert values[0] > values[1] + 100


def test_pictures_beside_the_films_show_parts_of_spines_or_none(tmp_path: Path) -> None:
    counts = {int(np.isfinite(film.corners).all(axis=(1, 2)).sum()) for film in drawn_spines()}
    assert min(counts) < 12
    assert max(counts) == COUNT
    assert all(len(film.corners) == 0 for film in others(tmp_path))


def test_a_training_ends_in_weights_that_load(tmp_path: Path) -> None:
    films = films_of_part(tmp_path, "test")[:3]
    torch.manual_seed(0)
    material = Material(films, films, films)
    network = trained(material, tmp_path / "run", TrainingOptions(epochs=1, steps=1))
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 2
    save_half(network, tmp_path / "weights.safetensors")
    model = VertebraModel.load(tmp_path / "weights.safetensors", execution=Execution(tmp_path / "cache"))
    assert not model.predict(films[0].picture.astype(np.float32)).is_spine(read_card())


@pytest.mark.parametrize(
    ("count", "score", "columns", "is_spine"),
    [
        (4, 0.9, 400, False),
        (5, 0.66, 400, True),
        (5, 0.64, 400, False),
        (13, 0.68, 600, False),
        (13, 0.72, 600, True),
        (15, 0.6, 600, True),
        (17, 0.5, 400, False),
    ],
)
def test_a_spine_is_a_sure_chain_the_surer_the_more_else_the_picture_shows(
    count: int, score: float, columns: int, *, is_spine: bool
) -> None:
    column = a_column([0.0] * count)
    prediction = Prediction(column, np.full(count, score), np.arange(count, dtype=float), 1.0, columns)
    assert prediction.is_spine(read_card()) is is_spine


def a_prediction(numbers: NDArray[np.float64], frontal: float) -> Prediction:
    count = len(numbers)
    return Prediction(a_column([0.0] * count), np.full(count, 0.9), numbers, 1.0, 400, frontal)


@pytest.mark.parametrize(
    ("numbers", "frontal", "is_spine"),
    [
        (np.arange(17.0), 0.9, True),
        (np.arange(17.0), 0.1, False),
        (np.arange(17.0)[::-1], 0.9, False),
        (np.full(17, 8.0), 0.9, False),
        (np.arange(6.0) * 0.6 + 9, 0.9, True),
    ],
    ids=["from the front", "from the side", "counted from the feet", "not counted", "a part"],
)
def test_a_sure_chain_is_no_spine_from_another_side_or_upside_down(
    numbers: NDArray[np.float64], frontal: float, *, is_spine: bool
) -> None:
    assert a_prediction(numbers, frontal).is_spine(read_card()) is is_spine


def test_the_view_is_learned_from_pictures_of_both_kinds_and_leaves_the_vertebrae_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SpineNetwork().eval()
    picture = torch.from_numpy(network_input(np.random.default_rng(0).random((1, ROWS, COLUMNS)).astype(np.float32)))
    with torch.inference_mode():
        before = network(picture)
    kinds = (View("front", drawn_spines()[:10], 10, is_frontal=True), View("side", drawn_side_views()[:10], 10))
    learn_view(network, kinds, tmp_path, seed=0)
    with torch.inference_mode():
        after = network(picture)
        logits = {
            kind.name: [float(network(torch.from_numpy(network_input(shown[None])))[0, 10, 0, 0]) for shown in pictures]
            for kind in kinds
            for pictures in [[fitted(*film.picture.shape).applied(equalized(film.picture)) for film in kind.films]]
        }
    assert torch.equal(before[:, :10], after[:, :10])
    assert (before[:, 10] == 0).all()
    assert np.mean(logits["front"]) > 0.5 > -0.5 > np.mean(logits["side"])
    assert set(json.loads((tmp_path / "views.json").read_text())) == {"front", "side"}


def test_views_are_parts_and_turns_of_the_films_and_drawn_ones(tmp_path: Path) -> None:
    film = a_drawn_film()
    kinds = {kind.name: kind for kind in views(Material([film], drawn_spines(), ()), tmp_path)}
    assert {name for name, kind in kinds.items() if kind.is_frontal} == {
        "films",
        "parts of films",
        "drawn from the front",
    }
    assert np.array_equal(kinds["films upside down"].films[0].picture[::-1, ::-1], film.picture)
    assert kinds["films turned by 90 degrees"].films[0].picture.shape == film.picture.shape[::-1]
    rows, columns = kinds["parts of films"].films[0].picture.shape
    assert columns == film.picture.shape[1]
    assert 0.35 * film.picture.shape[0] <= rows + 1 <= 0.75 * film.picture.shape[0] + 2


def test_weights_without_an_answer_of_the_view_are_refused(tmp_path: Path) -> None:
    save_half(VertebraNetwork(), tmp_path / "earlier.safetensors")
    with pytest.raises(CheckpointRefused, match=r"2 missing \['frontal"):
        VertebraModel.load(tmp_path / "earlier.safetensors", execution=Execution(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.zeros((64, 900)), "short side of 64 pixels"),
        (np.zeros((900, 400)), "nearly one gray"),
        (np.full((900, 400), np.nan), "not finite"),
        (np.zeros((3, 900, 400)), "3 axes"),
    ],
)
def test_a_picture_that_shows_nothing_is_refused(picture: NDArray[np.float64], reason: str, tmp_path: Path) -> None:
    model = VertebraModel.of(SpineNetwork, "seeded", execution=Execution(tmp_path), card=read_card())
    with pytest.raises(UnusablePicture, match=reason):
        model.predict(picture.astype(np.float32))
