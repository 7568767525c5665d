"""What a classifier makes of frame, noise, grays and spacing, none of which knows anatomy: shortcuts of a data set.

Where the classes of a data set differ in these, weights that do no better may have learned nothing else.
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
"""name and number, of one case; the first word of a name is the family"""

FAMILIES = ("frame", "noise", "gray", "scan")
ALL = "shortcut: all of these"
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
# A pixel counts as filled when it lies above this part of the picture's range of grays.
_BACKGROUND = 0.05
# Source: Immerkaer, Fast Noise Variance Estimation, Computer Vision and Image Understanding 64, 1996: the difference of
# two Laplacians, which no plane and no straight edge along an axis passes.
_LAPLACIANS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)
_TINY = 16
_FOLDS = 5
_SEED = 0


def noise(picture: NDArray[Any]) -> float:
    """Return the standard deviation of the noise as Immerkaer estimates it, the mean over slices of a volume.

    Shapes: (rows, columns) or (slices, rows, columns), at least 3 x 3.
    Units: the picture's own.
    """
    values = np.asarray(picture, np.float64)
    kernel = _LAPLACIANS if values.ndim == _LAPLACIANS.ndim else _LAPLACIANS[None]
    passed = np.abs(convolve(values, kernel))[..., 1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) * passed.mean() / 6)


def facts(picture: NDArray[Any], scan: Facts | None = None) -> Facts:
    """Return frame, noise and gray statistics of a whole picture or volume, and what the scan adds, such as spacing.

    To be called before anything is cut off, framed or stretched.
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
    seen: Sequence[Facts], labels: ArrayLike, groups: ArrayLike, read: Sequence[Facts]
) -> dict[str, Baseline]:
    """Return what each family of facts, and all together, say of the read cases, fitted on the seen ones.

    Logistic regression or a random forest: whichever does better on seen cases whose group is left out. A fact that
    is the same in every seen case is left out, and the baseline of all says so. Empty where nothing varies, or all
    seen cases are of one class.
    Shapes: labels (seen,), true is ill; groups (seen,).
    """
    cases = _table(read)
    examples = {name: values for name, values in _table(seen).items() if name in cases}
    varying = [name for name in examples if np.ptp(examples[name]) > 0]
    truth, patients = np.asarray(labels).astype(bool), np.asarray(groups)
    if not varying or truth.all() or not truth.any():
        return {}
    of_family = {family: [name for name in varying if name.split()[0] == family] for family in FAMILIES}
    chosen = {f"shortcut: {family}": names for family, names in of_family.items() if names} | {ALL: varying}
    baselines = {}
    for title, names in chosen.items():
        values = np.stack([examples[name] for name in names], axis=1)
        kind = _chosen(values, truth, patients)
        fitted = _classifiers()[kind].fit(values, truth)
        scores = fitted.predict_proba(np.stack([cases[name] for name in names], axis=1))[:, 1]
        baselines[title] = Baseline(np.asarray(scores, np.float64), "shortcut", f"{kind} on {', '.join(names)}")
    left_out = [name for name in examples if name not in varying]
    absent = [family for family in FAMILIES if not any(name.split()[0] == family for name in examples)]
    whole = baselines[ALL]
    remarks = [f"the same in every case: {', '.join(left_out)}"] * bool(left_out)
    remarks += [f"not in the data: {', '.join(absent)}"] * bool(absent)
    return baselines | {ALL: Baseline(whole.scores, whole.kind, "; ".join([whole.method, *remarks]))}


def pixel_baseline(seen: Pictures, labels: ArrayLike, read: Pictures) -> dict[str, Baseline]:
    """Return what logistic regression makes of the read pictures, shrunk to 16 x 16 pixels.

    Shapes: each picture (rows, columns), gray or color.
    """
    rule = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    rule.fit(_shrunk(seen), np.asarray(labels).astype(bool))
    scores = np.asarray(rule.predict_proba(_shrunk(read))[:, 1], np.float64)
    return {f"logistic regression on {_TINY} x {_TINY} pixels": Baseline(scores, "pixels")}


def _shrunk(pictures: Pictures) -> NDArray[np.float64]:
    tiny = [cv2.resize(picture, (_TINY, _TINY), interpolation=cv2.INTER_AREA).ravel() for picture in pictures]
    return np.array(tiny, np.float64)


def above_shortcuts(metrics: Mapping[str, Any]) -> bool:
    """Return whether weights did better than what knows no anatomy; False where nothing of that kind was measured.

    This is the part of the status `research` that can be counted: on the data set's own test part the lower bound of
    the AUC lies above the AUC of every shortcut baseline. Size by a radiologist's outline is anatomy, no shortcut.
    """
    shortcuts = [rule["auc"]["value"] for rule in metrics["baselines"].values() if rule["kind"] == "shortcut"]
    return metrics["part"] == "test" and bool(shortcuts) and metrics["auc"]["low"] > max(shortcuts)


def _table(cases: Iterable[Facts]) -> dict[str, NDArray[np.float64]]:
    """Return the values of every fact that all cases have."""
    rows = list(cases)
    names = [name for name in rows[0] if all(np.isfinite(row.get(name, np.nan)) for row in rows)]
    return {name: np.asarray([row[name] for row in rows], np.float64) for name in names}


def _classifiers() -> dict[str, Any]:
    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "random forest": RandomForestClassifier(200, min_samples_leaf=3, random_state=_SEED),
    }


def _chosen(values: NDArray[np.float64], truth: NDArray[np.bool_], groups: NDArray[Any]) -> str:
    """Return the classifier of higher AUC on left-out groups; the first where a class has one group only."""
    kinds = _classifiers()
    folds = min(_FOLDS, *(len(np.unique(groups[truth == ill])) for ill in (True, False)))
    if folds < 2:  # noqa: PLR2004  # nothing to leave out
        return next(iter(kinds))
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=_SEED)

    def left_out(kind: str) -> float:
        scores = cross_val_predict(kinds[kind], values, truth, groups=groups, cv=split, method="predict_proba")
        return auc(truth, scores[:, 1])

    return max(kinds, key=left_out)
