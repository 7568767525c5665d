"""The figures of a model, with their confidence intervals."""

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
    """A figure with its 95 % interval and its number of cases."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n = {self.n})"


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve; a tie counts half.

    Source: Mann-Whitney U over the number of pairs (Hanley and McNeil, Radiology 1982).
    """
    truth = np.asarray(labels) > _HALF
    ranks = rankdata(np.asarray(scores, np.float64))
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return float("nan")
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def bootstrap_estimate(  # the figure, its data, its groups and how to draw
    figure: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int = 0,
    draws: int = 1000,
) -> Estimate:
    """Return a figure with its percentile bootstrap interval; the bootstrap draws whole groups.

    Groups are independent of each other: patients, where a patient has several pictures.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    truth, score_array = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    names = np.arange(len(truth)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(names == name) for name in range(int(names.max()) + 1)]
    random = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        indices = np.concatenate([members[i] for i in random.integers(len(members), size=len(members))])
        values.append(figure(truth[indices], score_array[indices]))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Estimate(figure(truth, score_array), float(low), float(high), len(truth))


def gain(
    labels: ArrayLike, scores: ArrayLike, baseline: ArrayLike, groups: ArrayLike | None = None, *, draws: int = 1000
) -> Estimate:
    """Return the difference between the areas under the curve of scores and of a baseline, on the same draws."""
    pairs = np.arange(len(np.asarray(labels)), dtype=np.float64)
    truth, guess, baseline_scores = np.asarray(labels), np.asarray(scores), np.asarray(baseline)

    def difference(_: NDArray[np.float64], drawn_pairs: NDArray[np.float64]) -> float:
        indices = drawn_pairs.astype(int)
        return auc(truth[indices], guess[indices]) - auc(truth[indices], baseline_scores[indices])

    return bootstrap_estimate(difference, pairs, pairs, groups, draws=draws)


def proportion(hits: int, n: int) -> Estimate:
    """Return a proportion with its Wilson interval.

    Source: Wilson, J Am Stat Assoc 1927.
    """
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0, 0)
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return Estimate(hits / n, float(interval.low), float(interval.high), n)


def grouped_proportion(hits: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """Return a proportion with its interval by bootstrap over groups.

    Wilson's interval is taken where each case is a group of its own. Where all cases are hits, or none, no draw
    differs: Wilson's interval of the number of groups is taken then.
    """
    is_hit_of_case = np.asarray(hits, bool)
    number = len(is_hit_of_case) if groups is None else len(np.unique(np.asarray(groups)))
    if number == len(is_hit_of_case):
        return proportion(int(is_hit_of_case.sum()), number)
    if is_hit_of_case.all() or not is_hit_of_case.any():
        wilson = proportion(number * int(is_hit_of_case[0]), number)
        return Estimate(wilson.value, wilson.low, wilson.high, len(is_hit_of_case))
    return bootstrap_estimate(lambda is_hit, _: float(is_hit.mean()), is_hit_of_case, is_hit_of_case, groups)


def sensitivity_specificity(
    labels: ArrayLike, scores: ArrayLike, threshold: float, groups: ArrayLike | None = None
) -> tuple[Estimate, Estimate]:
    """Return sensitivity and specificity, with intervals by group; a score above the threshold is positive."""
    truth, positive = np.asarray(labels) > _HALF, np.asarray(scores) > threshold
    names = np.arange(len(truth)) if groups is None else np.asarray(groups)
    return (
        grouped_proportion(positive[truth], names[truth]),
        grouped_proportion(~positive[~truth], names[~truth]),
    )


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold of highest sensitivity + specificity, midway between two scores.

    Call this function on the validation set; on the test set the threshold flatters the model.
    Source: Youden, Cancer 1950.
    """
    truth, guess = np.asarray(labels) > _HALF, np.asarray(scores, np.float64)
    order = np.sort(np.unique(guess))
    midpoints = (order[1:] + order[:-1]) / 2
    if not len(midpoints):
        return float(order[0])
    sums = [(guess[truth] > t).mean() + (guess[~truth] <= t).mean() for t in midpoints]
    return float(midpoints[int(np.argmax(sums))])


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


def average_precision(predicted: list[NDArray[np.float32]], true_boxes: list[NDArray[np.float32]]) -> dict[str, float]:
    """Return COCO's mean average precision, at IoU 0.5 ("map_50") and 0.5 to 0.95 ("map").

    Shapes: predicted, per picture, (k, 6) class, score, x0, y0, x1, y1; true_boxes (k, 5) without the score.
    Classes without a true box are left out of the mean.
    Source: pycocotools' COCOeval, the reference implementation of the COCO metric.
    """
    from pycocotools.coco import COCO  # noqa: PLC0415  # of the extra "train"
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415  # of the extra "train"

    truth, results = COCO(), COCO()
    classes = sorted({int(row[0]) for rows in (*true_boxes, *predicted) for row in rows})
    pictures = [{"id": i} for i in range(len(true_boxes))]
    categories = [{"id": kind} for kind in classes]
    for table, boxes_of_pictures, offset in ((truth, true_boxes, 1), (results, predicted, 2)):
        annotations = [_annotation(i, row, offset) for i, rows in enumerate(boxes_of_pictures) for row in rows]
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
    has_value = precision > -1
    at_half = precision[0][has_value[0]]
    return {
        "map": float(precision[has_value].mean()) if has_value.any() else float("nan"),
        "map_50": float(at_half.mean()) if at_half.size else float("nan"),
        **{
            f"map_50 of {kind}": float(precision[0, :, k].mean())
            for k, kind in enumerate(classes)
            if has_value[0, :, k].any()
        },
    }


def _annotation(picture: int, row: NDArray[np.float32], offset: int) -> dict[str, object]:
    """Return a row of boxes as an annotation of COCO; the box begins at column `offset`."""
    x0, y0, x1, y1 = (float(edge) for edge in row[offset : offset + 4])
    entry: dict[str, object] = {
        "image_id": picture,
        "category_id": int(row[0]),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
    }
    return entry if offset == 1 else entry | {"score": float(row[1])}
