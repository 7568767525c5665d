"""The free-response ROC: the part of the nodules that is marked, at a number of false marks a scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ainode.models.training.metrics import Estimate, bootstrap_estimate

Points = tuple[tuple[float, float], ...]

RATES = (1.0, 2.0, 4.0, 8.0)
"""false marks a scan"""


def threshold_at(false_scores: ArrayLike, scans: float, rate: float) -> float:
    """Return the score above which there are at most `rate` false marks a scan."""
    scores = np.sort(np.asarray(false_scores, np.float64))[::-1]
    allowed = int(rate * scans)
    return float(scores[allowed]) if allowed < len(scores) else -float("inf")


def sensitivities(
    nodule_scores: ArrayLike, false_scores: ArrayLike, scans: float, rates: Sequence[float] = RATES
) -> NDArray[np.float64]:
    """Return the part of the nodules marked at each number of false marks a scan.

    A nodule's score is the highest score of its candidates; a nodule without a candidate has the score -inf.
    """
    scores = np.asarray(nodule_scores, np.float64)
    return np.asarray([float((scores > threshold_at(false_scores, scans, rate)).mean()) for rate in rates])


def sensitivity_at(
    nodule_scores: ArrayLike, patients: ArrayLike, false_scores: ArrayLike, scans: float, rate: float
) -> Estimate:
    """Return the part of the nodules marked at a number of false marks a scan, with its interval by patient.

    The interval is of the nodules alone: the threshold stays that of these scans.
    """
    threshold = threshold_at(false_scores, scans, rate)
    is_marked = np.asarray(nodule_scores, np.float64) > threshold
    return bootstrap_estimate(lambda marked, _: float(marked.mean()), is_marked, is_marked, patients)


def curve(nodule_scores: ArrayLike, false_scores: ArrayLike, scans: float) -> Points:
    """Return points of the curve: false marks a scan, and the part of the nodules that is marked."""
    rates = np.geomspace(0.125, 16, 29)
    parts = sensitivities(nodule_scores, false_scores, scans, tuple(rates))
    return tuple((round(float(rate), 4), round(float(part), 4)) for rate, part in zip(rates, parts, strict=True))
