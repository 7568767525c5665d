"""The points of an evaluation's curves, as metrics.json holds them: a hundred points of a curve at most."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ainode.models.training.metrics import Estimate, proportion

if TYPE_CHECKING:
    from ainode.models.training.experiment import Evaluation

MOST_POINTS = 101
NO_CURVES = frozenset({"epoch", "seconds", "learning_rate"})
"""the columns of a log that are no figures of the model"""
_BINS = 10
_DIGITS = 4
Points = NDArray[np.float64]


def curves(evaluation: Evaluation) -> Mapping[str, object]:
    """Return the points of every curve of an evaluation; of the ROC and of precision and recall (n, 2), x and y."""
    truth, scores, classes = evaluation.truth, evaluation.scores, range(len(evaluation.class_names))
    counts = [[_count(evaluation, true, read) for read in classes] for true in classes]
    edges = np.linspace(0, 1, 2 * _BINS + 1)
    return {
        "roc": _listed(roc(truth, scores)),
        "precision_recall": _listed(precision_recall(truth, scores)),
        "calibration": [
            {
                "predicted": round(mean, _DIGITS),
                "value": share.value,
                "low": share.low,
                "high": share.high,
                "n": share.n,
            }
            for mean, share in calibration(truth, scores)
        ],
        "confusion": {"names": evaluation.class_names, "counts": counts},
        "scores": {
            "edges": [round(float(edge), _DIGITS) for edge in edges],
            "positive": np.histogram(scores[truth], edges)[0].tolist(),
            "negative": np.histogram(scores[~truth], edges)[0].tolist(),
        },
    }


def _count(evaluation: Evaluation, true: int, read: int) -> int:
    return int(((evaluation.labels == true) & (evaluation.predicted == read)).sum())


def _listed(points: Points) -> list[list[float]]:
    """Return points as lists; of many, those at equal distances in their order, the first and the last included."""
    chosen = np.unique(np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).round().astype(int))
    return [[round(float(x), _DIGITS), round(float(y), _DIGITS)] for x, y in points[chosen]] if len(points) else []


def roc(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Points:
    """Return 1 - specificity and sensitivity at every threshold, from (0, 0) to (1, 1); none without both classes.

    Shapes: truth, scores (cases,); the points (thresholds + 1, 2).
    """
    positive, negative = _above(truth, scores)
    if not truth.any() or truth.all():
        return np.empty((0, 2))
    return np.vstack([[0, 0], np.column_stack([negative / negative[-1], positive / positive[-1]])])


def precision_recall(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Points:
    """Return recall and precision at every threshold, from the highest one; none without both classes.

    Shapes: as `roc`, without a first point.
    """
    positive, negative = _above(truth, scores)
    if not truth.any() or truth.all():
        return np.empty((0, 2))
    return np.column_stack([positive / positive[-1], positive / (positive + negative)])


def _above(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many ill and how many other cases have at least each of the scores, the highest score first."""
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)[: len(scores)]
    return np.cumsum(truth[order])[is_last], np.cumsum(~truth[order])[is_last]


def calibration(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[tuple[float, Estimate], ...]:
    """Return the mean of each tenth of the probabilities, and its share of ill cases; empty tenths are left out."""
    numbers = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    members = [numbers == number for number in np.unique(numbers)]
    return tuple(
        (float(scores[is_member].mean()), proportion(int(truth[is_member].sum()), int(is_member.sum())))
        for is_member in members
    )


def losses(run: Path) -> Mapping[str, Mapping[str, list[float]]]:
    """Return the columns of every log.csv below the folder of a training, by the folder of the log ('' for its own)."""
    return {
        str(log.parent.relative_to(run)).removeprefix("."): log_columns(log) for log in sorted(run.rglob("log.csv"))
    }


def minutes(run: Path) -> float:
    """Return how long the epochs of a training took, by every log.csv below its folder; those before a resume count.

    Units: minutes, to a tenth.
    """
    tables = [_rows(log) for log in sorted(run.rglob("log.csv"))]
    return round(sum(float(row["seconds"]) for rows in tables for row in rows) / 60, 1)


def log_columns(log: Path) -> Mapping[str, list[float]]:
    """Return the columns of a log that are figures, and `epoch`; of many epochs every so many.

    A column without a value in some epoch is left out: a training without a score has none.
    """
    rows = _rows(log)
    rows = rows[:: max(1, -(-len(rows) // MOST_POINTS))]
    names = [name for name in (rows[0] if rows else ()) if name == "epoch" or name not in NO_CURVES]
    return {name: [float(row[name]) for row in rows] for name in names if all(row[name] for row in rows)}


def _rows(log: Path) -> list[dict[str, str]]:
    """Return the rows of a log.csv, one for each epoch."""
    with log.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
