"""What frame, noise and grays of pictures tell of their class, and when weights stand above that."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ainode.models.training.metrics import auc
from ainode.models.training.shortcuts import (
    ALL,
    Facts,
    above_shortcuts,
    facts,
    noise,
    pixel_baseline,
    shortcut_baselines,
)

_LABELS = np.arange(60) % 2
_PATIENTS = np.arange(60) // 2 % 15


@pytest.fixture
def random() -> np.random.Generator:
    """The same for each test, whichever ran before."""
    return np.random.default_rng(7)


def _pictures(random: np.random.Generator, columns: NDArray[np.int64], spread: float) -> list[Facts]:
    """Return the facts of pictures of nothing but noise."""
    return [facts(random.normal(100, spread, (40, int(count)))) for count in columns]


@pytest.mark.parametrize("shape", [(64, 48), (5, 64, 48)])
def test_the_noise_that_was_added_is_what_is_estimated(shape: tuple[int, ...], random: np.random.Generator) -> None:
    ramp = np.broadcast_to(np.linspace(0, 100, 48), shape)
    estimates = [noise(ramp + random.normal(0, spread, shape)) for spread in (0, 2, 8)]
    assert estimates[0] == pytest.approx(0, abs=1e-9)
    assert estimates[1:] == pytest.approx([2, 8], rel=0.1)


def test_a_flat_picture_has_no_noise_and_no_fill() -> None:
    flat = facts(np.full((32, 48), 7, np.uint8))
    assert (flat["noise"], flat["gray fill"], flat["gray spread"]) == (0, 0, 0)
    assert (flat["frame rows"], flat["frame columns"], flat["frame aspect"]) == (32, 48, 1.5)
    assert flat["gray percentile 50"] == flat["gray mean"] == 7


def test_fill_is_the_share_that_is_no_background() -> None:
    picture = np.zeros((20, 20))
    picture[:5] = 200
    assert facts(picture)["gray fill"] == 0.25


def test_a_set_whose_wide_pictures_are_ill_is_solved_by_the_frame_and_by_nothing_else(
    random: np.random.Generator,
) -> None:
    seen, read = (_pictures(random, np.where(_LABELS == 1, 60, 40), 5.0) for _ in range(2))
    baselines = shortcut_baselines(seen, _LABELS, _PATIENTS, read)
    areas = {name: auc(_LABELS, baseline.scores) for name, baseline in baselines.items()}
    assert areas["shortcut: frame"] == 1
    assert areas[ALL] > 0.95
    assert areas["shortcut: noise"] < 0.8


def test_what_is_the_same_in_every_case_is_left_out_and_named(random: np.random.Generator) -> None:
    seen, read = (_pictures(random, np.full(60, 40), 5.0) for _ in range(2))
    baselines = shortcut_baselines(seen, _LABELS, _PATIENTS, read)
    assert "shortcut: frame" not in baselines
    assert "the same in every case: frame rows, frame columns, frame aspect" in baselines[ALL].method
    assert "not in the data: scan" in baselines[ALL].method


def test_the_spacing_of_a_scan_is_a_shortcut_where_it_is_told_of_every_case(random: np.random.Generator) -> None:
    volume = random.normal(size=(4, 16, 16))
    told = [facts(volume, {"slice mm": 5.0 if ill else 1.0, "pixel mm": np.nan}) for ill in _LABELS]
    baselines = shortcut_baselines(told, _LABELS, _PATIENTS, told)
    assert set(baselines) == {"shortcut: scan", ALL}
    assert auc(_LABELS, baselines["shortcut: scan"].scores) == 1
    assert shortcut_baselines(told, _LABELS, _PATIENTS, [*told[:-1], facts(volume)]) == {}


def test_a_shortcut_that_no_line_parts_is_found_by_the_forest(random: np.random.Generator) -> None:
    spread = np.where(_LABELS == 1, 5.0, np.where(np.arange(60) % 4 == 0, 1.0, 20.0))
    seen = [facts(random.normal(100, width, (40, 40))) for width in spread]
    noisy = shortcut_baselines(seen, _LABELS, np.arange(60), seen)["shortcut: noise"]
    assert noisy.method == "random forest on noise"
    assert auc(_LABELS, noisy.scores) > 0.95


def test_nothing_is_fitted_where_the_seen_cases_are_of_one_class_or_all_alike(random: np.random.Generator) -> None:
    varying = _pictures(random, np.arange(40, 44), 5.0)
    assert shortcut_baselines(varying, [1, 1, 1, 1], range(4), varying) == {}
    assert shortcut_baselines(varying[:1] * 4, [0, 1, 0, 1], range(4), varying) == {}


def test_pixels_see_where_a_picture_is_bright(random: np.random.Generator) -> None:
    pictures = random.normal(100, 20, (60, 32, 32))
    pictures[_LABELS == 1, :8] += 60
    (baseline,) = pixel_baseline(pictures, _LABELS, pictures).values()
    assert baseline.kind == "pixels"
    assert auc(_LABELS, baseline.scores) > 0.95


@pytest.mark.parametrize(
    ("kind", "area", "part", "above"),
    [
        ("shortcut", 0.70, "test", True),
        ("shortcut", 0.90, "test", False),
        ("shortcut", 0.70, "train", False),
        ("anatomy", 0.70, "test", False),
    ],
    ids=["below the interval", "in the interval", "not the test part", "no shortcut was measured"],
)
def test_weights_stand_above_shortcuts_by_the_lower_bound_on_the_test_part(
    kind: str, area: float, part: str, *, above: bool
) -> None:
    baselines = {"some": {"kind": kind, "auc": {"value": area}}}
    metrics = {"part": part, "auc": {"value": 0.92, "low": 0.85}, "baselines": baselines}
    assert above_shortcuts(metrics) is above


def test_size_that_people_measured_is_no_shortcut() -> None:
    baselines = {
        "size": {"kind": "anatomy", "auc": {"value": 0.99}},
        "noise": {"kind": "shortcut", "auc": {"value": 0.6}},
    }
    assert above_shortcuts({"part": "test", "auc": {"low": 0.85}, "baselines": baselines})
