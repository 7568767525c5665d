"""How good a model is, and how sure we are of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, rankdata

_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval and what it was counted on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n = {self.n})"


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve, ties counted half.

    Source: Mann-Whitney U over the number of pairs (Hanley and McNeil, Radiology 1982).
    """
    truth = np.asarray(labels) > _HALF
    ranks = rankdata(np.asarray(scores, np.float64))
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return float("nan")
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def bootstrapped(  # the figure, its data, its groups and how to draw
    figure: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int = 0,
    draws: int = 1000,
) -> Estimate:
    """Return a figure with its percentile bootstrap interval, whole groups drawn at once.

    Groups are what is independent: patients, when one has several pictures.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    truth, guess = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    names = np.arange(len(truth)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(names == name) for name in range(int(names.max()) + 1)]
    random = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn = np.concatenate([members[i] for i in random.integers(len(members), size=len(members))])
        values.append(figure(truth[drawn], guess[drawn]))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Estimate(figure(truth, guess), float(low), float(high), len(truth))


def gain(
    labels: ArrayLike, scores: ArrayLike, baseline: ArrayLike, groups: ArrayLike | None = None, *, draws: int = 1000
) -> Estimate:
    """Return how much larger the area under the curve is than a baseline's, on the same draws of cases."""
    pairs = np.arange(len(np.asarray(labels)), dtype=np.float64)
    truth, guess, other = np.asarray(labels), np.asarray(scores), np.asarray(baseline)

    def difference(_: NDArray[np.float64], drawn: NDArray[np.float64]) -> float:
        at = drawn.astype(int)
        return auc(truth[at], guess[at]) - auc(truth[at], other[at])

    return bootstrapped(difference, pairs, pairs, groups, draws=draws)


def proportion(hits: int, n: int) -> Estimate:
    """Return a proportion with its Wilson interval.

    Source: Wilson, J Am Stat Assoc 1927.
    """
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0, 0)
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return Estimate(hits / n, float(interval.low), float(interval.high), n)


def grouped_proportion(hits: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """Return a proportion with its interval by bootstrap over groups, Wilson's where each case is a group of its own.

    Where every case is a hit, or none is, no draw differs: Wilson's interval of the number of groups stands then.
    """
    counted = np.asarray(hits, bool)
    number = len(counted) if groups is None else len(np.unique(np.asarray(groups)))
    if number == len(counted):
        return proportion(int(counted.sum()), number)
    if counted.all() or not counted.any():
        whole = proportion(number * int(counted[0]), number)
        return Estimate(whole.value, whole.low, whole.high, len(counted))
    return bootstrapped(lambda right, _: float(right.mean()), counted, counted, groups)


def sensitivity_specificity(
    labels: ArrayLike, scores: ArrayLike, threshold: float, groups: ArrayLike | None = None
) -> tuple[Estimate, Estimate]:
    """Return both at a threshold, intervals by group; a score above it is positive."""
    truth, positive = np.asarray(labels) > _HALF, np.asarray(scores) > threshold
    names = np.arange(len(truth)) if groups is None else np.asarray(groups)
    return (
        grouped_proportion(positive[truth], names[truth]),
        grouped_proportion(~positive[~truth], names[~truth]),
    )


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold of highest sensitivity + specificity, midway between two scores.

    To be called on the validation set; on the test set it flatters.
    Source: Youden, Cancer 1950.
    """
    truth, guess = np.asarray(labels) > _HALF, np.asarray(scores, np.float64)
    order = np.sort(np.unique(guess))
    between = (order[1:] + order[:-1]) / 2
    if not len(between):
        return float(order[0])
    sums = [(guess[truth] > t).mean() + (guess[~truth] <= t).mean() for t in between]
    return float(between[int(np.argmax(sums))])


def brier(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean squared error of the probabilities."""
    return float(np.mean((np.asarray(scores, np.float64) - np.asarray(labels, np.float64)) ** 2))


def calibration_error(labels: ArrayLike, scores: ArrayLike, *, bins: int = 10) -> float:
    """Return the expected calibration error over equally wide bins.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    truth, guess = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    index = np.clip((guess * bins).astype(int), 0, bins - 1)
    gaps = [
        (index == b).mean() * abs(truth[index == b].mean() - guess[index == b].mean())
        for b in range(bins)
        if (index == b).any()
    ]
    return float(sum(gaps))


def average_precision(found: list[NDArray[np.float32]], real: list[NDArray[np.float32]]) -> dict[str, float]:
    """Return COCO's mean average precision, at IoU 0.5 ("map_50") and 0.5 to 0.95 ("map").

    Shapes: found, per picture, (k, 6) class, score, x0, y0, x1, y1; real (k, 5) without the score.
    Classes with no real box are left out of the mean.
    Source: pycocotools' COCOeval, the reference implementation of the COCO metric.
    """
    from pycocotools.coco import COCO  # noqa: PLC0415  # of the extra "train"
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415  # of the extra "train"

    truth, results = COCO(), COCO()
    classes = sorted({int(row[0]) for rows in (*real, *found) for row in rows})
    pictures = [{"id": i} for i in range(len(real))]
    categories = [{"id": kind} for kind in classes]
    for table, rows_of, offset in ((truth, real, 1), (results, found, 2)):
        annotations = [_annotation(i, row, offset) for i, rows in enumerate(rows_of) for row in rows]
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
        table.dataset = {"images": pictures, "categories": categories, "annotations": annotations}
        with redirect_stdout(StringIO()):
            table.createIndex()
    evaluation = COCOeval(truth, results, "bbox")
    with redirect_stdout(StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    known = precision > -1
    at_half = precision[0][known[0]]
    return {
        "map": float(precision[known].mean()) if known.any() else float("nan"),
        "map_50": float(at_half.mean()) if at_half.size else float("nan"),
        **{
            f"map_50 of {kind}": float(precision[0, :, k].mean())
            for k, kind in enumerate(classes)
            if known[0, :, k].any()
        },
    }


def _annotation(picture: int, row: NDArray[np.float32], offset: int) -> dict[str, object]:
    x0, y0, x1, y1 = (float(edge) for edge in row[offset : offset + 4])
    entry: dict[str, object] = {
        "image_id": picture,
        "category_id": int(row[0]),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
    }
    return entry if offset == 1 else entry | {"score": float(row[1])}
