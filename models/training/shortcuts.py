"""Measures the shortcuts of a data set: a classifier on frame, noise, grays and spacing, without any anatomy.

If the classes of a data set differ in a shortcut, weights that are no better may have learned the shortcut alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import convolve
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ainode.models.training.experiment import Baseline
from ainode.models.training.metrics import auc

Pictures = Sequence[NDArray[Any]] | NDArray[Any]
Facts = Mapping[str, float]
"""the numbers of one case by name; the first word of a name is the family"""

FAMILIES = ("frame", "noise", "gray", "scan")
ALL = "shortcut: all of these"
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
# A pixel counts as filled when it lies above this part of the picture's range of grays.
_BACKGROUND = 0.05
# Source: Immerkaer, Fast Noise Variance Estimation, Computer Vision and Image Understanding 64, 1996: the difference of
# two Laplacians, which is 0 for a plane and for a straight edge along an axis.
_LAPLACIANS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)
_TINY = 16
_FOLDS = 5
_SEED = 0


def noise(picture: NDArray[Any]) -> float:
    """Return the standard deviation of the noise by the estimate of Immerkaer; for a volume, the mean over the slices.

    Shapes: (rows, columns) or (slices, rows, columns), at least 3 x 3.
    Units: the picture's own.
    """
    values = np.asarray(picture, np.float64)
    kernel = _LAPLACIANS if values.ndim == _LAPLACIANS.ndim else _LAPLACIANS[None]
    response = np.abs(convolve(values, kernel))[..., 1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) * response.mean() / 6)


def facts(picture: NDArray[Any], scan: Facts | None = None) -> Facts:
    """Return frame, noise and gray statistics of a picture or volume, and the numbers of the scan, such as spacing.

    The picture is whole: nothing is cut off, framed or stretched. "scan" precedes the names of the scan's numbers.
    Shapes: (rows, columns) or (slices, rows, columns), gray.
    """
    rows, columns = picture.shape[-2:]
    low, high = float(picture.min()), float(picture.max())
    levels = np.percentile(picture, _PERCENTILES)
    return {
        "frame rows": rows,
        "frame columns": columns,
        "frame aspect": columns / rows,
        "noise": noise(picture),
        "gray mean": float(picture.mean()),
        "gray spread": float(picture.std()),
        "gray fill": float((picture > low + _BACKGROUND * (high - low)).mean()),
        **{f"gray percentile {part}": float(level) for part, level in zip(_PERCENTILES, levels, strict=True)},
        **{f"scan {name}": float(value) for name, value in (scan or {}).items()},
    }


def shortcut_baselines(
    examples: Sequence[Facts], labels: ArrayLike, groups: ArrayLike, cases: Sequence[Facts]
) -> dict[str, Baseline]:
    """Return the baselines of each family of facts, and of all facts, by title; scores are the probability of ill.

    A classifier is fitted on the examples and scores the cases: logistic regression or a random forest, whichever has
    the higher AUC on left-out groups of the examples. A fact that is the same in every example is left out, and the
    method of the baseline of all facts says so. Empty if no fact varies, or all examples are of one class.
    Shapes: labels (examples,), true is ill; groups (examples,), such as patients; scores (cases,).
    """
    case_columns = _columns(cases)
    columns = {name: values for name, values in _columns(examples).items() if name in case_columns}
    varying = [name for name in columns if np.ptp(columns[name]) > 0]
    truth, patients = np.asarray(labels).astype(bool), np.asarray(groups)
    if not varying or truth.all() or not truth.any():
        return {}
    of_family = {family: [name for name in varying if name.split()[0] == family] for family in FAMILIES}
    names_by_title = {f"shortcut: {family}": names for family, names in of_family.items() if names} | {ALL: varying}
    baselines = {}
    for title, names in names_by_title.items():
        values = np.stack([columns[name] for name in names], axis=1)
        kind = _better_classifier(values, truth, patients)
        fitted = _classifiers()[kind].fit(values, truth)
        scores = fitted.predict_proba(np.stack([case_columns[name] for name in names], axis=1))[:, 1]
        baselines[title] = Baseline(np.asarray(scores, np.float64), "shortcut", f"{kind} on {', '.join(names)}")
    left_out = [name for name in columns if name not in varying]
    absent = [family for family in FAMILIES if not any(name.split()[0] == family for name in columns)]
    of_all = baselines[ALL]
    remarks = [f"the same in every case: {', '.join(left_out)}"] * bool(left_out)
    remarks += [f"not in the data: {', '.join(absent)}"] * bool(absent)
    return baselines | {ALL: Baseline(of_all.scores, of_all.kind, "; ".join([of_all.method, *remarks]))}


def pixel_baseline(examples: Pictures, labels: ArrayLike, pictures: Pictures) -> dict[str, Baseline]:
    """Return the baseline of logistic regression on pictures of 16 x 16 pixels, fitted on the examples, by title.

    Shapes: each picture (rows, columns) or (rows, columns, 3); labels (examples,), true is ill; scores (pictures,).
    """
    rule = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    rule.fit(_thumbnails(examples), np.asarray(labels).astype(bool))
    scores = np.asarray(rule.predict_proba(_thumbnails(pictures))[:, 1], np.float64)
    return {f"logistic regression on {_TINY} x {_TINY} pixels": Baseline(scores, "pixels")}


def _thumbnails(pictures: Pictures) -> NDArray[np.float64]:
    """Return the values of each picture, shrunk to 16 x 16 pixels, as a row."""
    tiny = [cv2.resize(picture, (_TINY, _TINY), interpolation=cv2.INTER_AREA).ravel() for picture in pictures]
    return np.array(tiny, np.float64)


def above_shortcuts(metrics: Mapping[str, Any]) -> bool:
    """Return whether the lower bound of the AUC of weights lies above the AUC of every shortcut baseline.

    `metrics` is a `metrics.json` of `evaluate`. False if `metrics` has no shortcut baseline, or is not of the part
    `test`. Weights of the status `research` need True. Size by a radiologist's outline is anatomy, and no shortcut.
    """
    shortcuts = [rule["auc"]["value"] for rule in metrics["baselines"].values() if rule["kind"] == "shortcut"]
    return metrics["part"] == "test" and bool(shortcuts) and metrics["auc"]["low"] > max(shortcuts)


def _columns(cases: Iterable[Facts]) -> dict[str, NDArray[np.float64]]:
    """Return the values of each fact by name; a fact that a case lacks, or that is not finite, is left out."""
    rows = list(cases)
    names = [name for name in rows[0] if all(np.isfinite(row.get(name, np.nan)) for row in rows)]
    return {name: np.asarray([row[name] for row in rows], np.float64) for name in names}


def _classifiers() -> dict[str, Any]:
    """Return new classifiers of scikit-learn by name, not fitted."""
    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "random forest": RandomForestClassifier(200, min_samples_leaf=3, random_state=_SEED),
    }


def _better_classifier(values: NDArray[np.float64], truth: NDArray[np.bool_], groups: NDArray[Any]) -> str:
    """Return the name of the classifier with the higher AUC on left-out groups; the first if a class has one group."""
    kinds = _classifiers()
    folds = min(_FOLDS, *(len(np.unique(groups[truth == ill])) for ill in (True, False)))
    if folds < 2:  # noqa: PLR2004  # nothing to leave out
        return next(iter(kinds))
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=_SEED)

    def left_out_auc(kind: str) -> float:
        scores = cross_val_predict(kinds[kind], values, truth, groups=groups, cv=split, method="predict_proba")
        return auc(truth, scores[:, 1])

    return max(kinds, key=left_out_auc)
