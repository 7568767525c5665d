"""Our figures are scikit-learn's and COCO's."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from ainode.models.training.metrics import (
    Estimate,
    auc,
    average_precision,
    bootstrap_estimate,
    brier,
    calibration_error,
    gain,
    grouped_proportion,
    proportion,
    sensitivity_specificity,
    youden_threshold,
)
from ainode.models.training.plots import evaluation_plots, loss_plot

_RANDOM = np.random.default_rng(4)
_LABELS = _RANDOM.integers(0, 2, 300).astype(float)
_SCORES = np.clip(_LABELS * 0.3 + _RANDOM.random(300) * 0.7, 0, 1).round(2)


def test_the_area_under_the_curve_is_scikit_learns_ties_included() -> None:
    assert auc(_LABELS, _SCORES) == pytest.approx(roc_auc_score(_LABELS, _SCORES))


def test_the_area_of_one_class_is_not_a_number() -> None:
    assert np.isnan(auc([1, 1], [0.1, 0.2]))


def test_the_brier_score_is_scikit_learns() -> None:
    assert brier(_LABELS, _SCORES) == pytest.approx(brier_score_loss(_LABELS, _SCORES))


def test_the_interval_holds_the_figure_and_is_the_same_for_the_same_seed() -> None:
    one = bootstrap_estimate(auc, _LABELS, _SCORES, draws=200)
    assert one == bootstrap_estimate(auc, _LABELS, _SCORES, draws=200)
    assert one.low < one.value < one.high
    assert one.n == 300


def test_pictures_of_one_patient_are_drawn_together_so_the_interval_widens() -> None:
    repeated = np.repeat(np.arange(300), 4)
    alone = bootstrap_estimate(auc, _LABELS[repeated], _SCORES[repeated], draws=200)
    together = bootstrap_estimate(auc, _LABELS[repeated], _SCORES[repeated], repeated, draws=200)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_wilsons_interval_of_none_in_ten_is_the_published_one() -> None:
    estimate = proportion(0, 10)
    assert (estimate.low, estimate.high) == pytest.approx((0, 0.2775), abs=1e-4)


def test_an_interval_of_cases_that_go_by_patient_is_wider_than_wilsons() -> None:
    hits = np.repeat([True, True, True, False], 25)
    patients = np.repeat(np.arange(4), 25)
    alone, together = grouped_proportion(hits), grouped_proportion(hits, patients)
    assert alone == proportion(75, 100)
    assert (together.value, together.n) == (0.75, 100)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_where_every_case_is_right_the_interval_is_that_of_as_many_patients() -> None:
    estimate = grouped_proportion(np.ones(60, bool), np.arange(60) // 10)
    assert (estimate.value, estimate.low) == (1.0, pytest.approx(proportion(6, 6).low))


def test_sensitivity_is_counted_by_patient_where_groups_are_told() -> None:
    truth, scores = np.ones(40), np.repeat([0.9, 0.1], 20)
    sensitivity, specificity = sensitivity_specificity(truth, scores, 0.5, np.repeat(["a", "b"], 20))
    assert (sensitivity.low, sensitivity.value, sensitivity.high) == (0, 0.5, 1)
    assert specificity.n == 0


def test_sensitivity_and_specificity_count_a_score_above_the_threshold() -> None:
    sensitivity, specificity = sensitivity_specificity([1, 1, 0, 0], [0.5, 0.9, 0.5, 0.6], 0.5)
    assert (sensitivity.value, specificity.value) == (0.5, 0.5)


def test_youdens_threshold_parts_what_can_be_parted() -> None:
    assert youden_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.4)


def test_probabilities_that_come_true_have_no_calibration_error() -> None:
    assert calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]) == 0
    assert calibration_error([0, 0], [1.0, 1.0]) == 1


def test_perfect_boxes_have_an_average_precision_of_one() -> None:
    real = [np.asarray([[0, 1, 1, 20, 20], [2, 5, 5, 50, 40]], np.float32), np.empty((0, 5), np.float32)]
    found = [np.insert(real[0], 1, 0.9, axis=1), np.empty((0, 6), np.float32)]
    figures = average_precision(found, real)
    assert figures["map"] == pytest.approx(1, abs=0.01)
    assert figures["map_50"] == pytest.approx(1, abs=0.01)


def test_a_false_box_above_the_true_one_halves_the_precision() -> None:
    real = [np.asarray([[0, 0, 0, 10, 10]], np.float32)]
    found = [np.asarray([[0, 0.9, 50, 50, 60, 60], [0, 0.8, 0, 0, 10, 10]], np.float32)]
    assert average_precision(found, real)["map_50"] == pytest.approx(0.5, abs=0.01)


def test_there_is_no_gain_over_oneself() -> None:
    assert gain(_LABELS, _SCORES, _SCORES) == Estimate(0.0, 0.0, 0.0, len(_LABELS))


def test_a_gain_is_the_difference_of_the_areas() -> None:
    noise = np.random.default_rng(1).normal(size=len(_LABELS))
    found = gain(_LABELS, _SCORES, noise)
    assert found.value == pytest.approx(auc(_LABELS, _SCORES) - auc(_LABELS, noise))
    assert found.low < found.value < found.high


def test_every_plot_is_written(tmp_path: Path) -> None:
    read = _SCORES > 0.5
    plots = evaluation_plots(_LABELS, _SCORES, tmp_path, confusion=(_LABELS, read, ("normal", "abnormal")))
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss,score,seconds\n0,1.0,0.6,1\n1,0.5,0.8,1\n", "utf-8")
    curve = loss_plot(log, tmp_path / "loss.png")
    assert all(path.stat().st_size > 1000 for path in (*plots, curve))


def test_the_score_of_each_epoch_is_drawn_beside_its_loss(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss,score,seconds\n0,1.0,0.6,1\n1,0.5,0.8,1\n", "utf-8")
    both = cv2.imread(str(loss_plot(log, tmp_path / "both.png")))
    log.write_text("epoch,loss,score,seconds\n0,1.0,0.6,1\n1,0.5,0.5,1\n", "utf-8")
    falling = cv2.imread(str(loss_plot(log, tmp_path / "falling.png")))
    log.write_text("epoch,loss,seconds\n0,1.0,1\n1,0.5,1\n", "utf-8")
    loss_alone = cv2.imread(str(loss_plot(log, tmp_path / "loss.png")))
    assert (both != falling).any()
    assert (both != loss_alone).any()
