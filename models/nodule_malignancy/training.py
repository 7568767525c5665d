"""Fits the head on the traits of the outlines that the outline network draws on the training nodules."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from ainode.models.following import Omission
from ainode.models.nodule_malignancy.card import read_card
from ainode.models.nodule_malignancy.model import row_of, traits_of
from ainode.models.nodule_outline.evaluation import MASK_BLEND, WHOLE_BLEND, outcome, scenes, silent_scenes
from ainode.models.nodule_outline.implant import Blend
from ainode.models.nodule_outline.model import OutlinedNodule, OutlineModel
from ainode.models.nodule_outline.nodules import read_chests, read_nodules
from ainode.models.nodule_outline.training import FARTHEST_MM, Source
from ainode.models.running.checkpoints import save_table
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import auc

log = logging.getLogger(__name__)

Values = NDArray[np.float64]

# By its mask or with the whole cut-out, pointed at in its middle or beside; another place in a chest by the seed.
VIEWS: tuple[tuple[Blend, float, int], ...] = (
    (MASK_BLEND, 0.0, 1),
    (WHOLE_BLEND, 0.0, 1),
    (MASK_BLEND, FARTHEST_MM, 2),
    (WHOLE_BLEND, FARTHEST_MM, 2),
)
# The first of two equal ones stays: the one that holds the weights smaller.
_STRENGTHS = (100.0, 30.0, 10.0, 3.0)
_FOLDS, _REPEATS = 5, 3
_HIGHEST_RATING = 5
_SILENT_SEED = 3
_PRESENCE_STRENGTH, _KEPT_NODULES = 0.1, 0.98
"""the strength of the rule that tells nodules from other outlines, and the part of the nodules that it keeps"""
GROUND_GLASS, SOLID = 2, 5
"""the readers' texture: up to 2 is ground glass, 5 is solid"""


@dataclass(frozen=True, slots=True)
class Rows:
    """The traits of outlined nodules, several views of each; a view without an outline has NaN.

    Shapes: traits (views, n, traits); silent (outlines, traits), of points without a nodule; labels, suspicions,
    textures and patients (n,).
    """

    traits: Values
    silent: Values
    labels: NDArray[np.int64]
    suspicions: NDArray[np.int64]
    textures: NDArray[np.int64]
    patients: NDArray[np.str_]

    @property
    def target(self) -> Values:
        """Return the mean of the label and of the readers' rating from 0 to 1: a rating says more than yes and no."""
        return np.asarray((self.labels + (self.suspicions - 1) / (_HIGHEST_RATING - 1)) / 2, np.float64)

    @property
    def has_outline(self) -> NDArray[np.bool_]:
        """Return which views have an outline, (views, n)."""
        return np.isfinite(self.traits[..., 0])


def rows_of(model: OutlineModel, source: Source, out: Path) -> Rows:
    """Return the traits of implanted nodules and of points without one.

    A file of `out` keeps those of a view for a training that is resumed.
    """
    views = [
        _kept(out / f"view_{number}.npy", partial(_view, model, source, view)) for number, view in enumerate(VIEWS)
    ]
    silent = _kept(out / "silent.npy", partial(_silent, model, source))
    return Rows(
        traits=np.stack(views),
        silent=silent[np.isfinite(silent[:, 0])],
        labels=np.array([int(nodule.malignant) for nodule in source.nodules]),
        suspicions=np.array([nodule.suspicion for nodule in source.nodules]),
        textures=np.array([nodule.texture for nodule in source.nodules]),
        patients=np.array([nodule.patient for nodule in source.nodules]),
    )


def _kept(path: Path, rows: Callable[[], Iterator[Values]]) -> Values:
    """Return the rows in a file, which is made if it is not there."""
    if not path.is_file():
        part = path.with_suffix(".part.npy")
        np.save(part, np.stack(list(rows())))
        part.replace(path)
    return np.asarray(np.load(path), np.float64)


def _view(model: OutlineModel, source: Source, view: tuple[Blend, float, int]) -> Iterator[Values]:
    """Yield the traits of each nodule."""
    blend, off_mm, seed = view
    for seen in tqdm(scenes(source, blend, seed), mininterval=10.0):
        yield _row(outcome(model, seen, off_mm, seed).nodule)


def _silent(model: OutlineModel, source: Source) -> Iterator[Values]:
    """Yield the traits of what is outlined at points without a nodule."""
    points = silent_scenes(source.chests, len(source.nodules) // 2, _SILENT_SEED)
    for scan, position_mm in tqdm(points, mininterval=10.0):
        yield _row(model.outline(scan, position_mm))


def _row(nodule: OutlinedNodule | Omission) -> Values:
    """Return the traits of a nodule, NaN without an outline."""
    if isinstance(nodule, OutlinedNodule):
        return row_of(traits_of(nodule))
    return np.full(len(read_card().traits), np.nan)


def train(data: Path, outline: Path, out: Path, options: TrainingOptions) -> Path:
    """Outline the training nodules with the weights of a file, fit the head; return the file of the head."""
    del options  # the views have seeds of their own, and nothing else is drawn
    out.mkdir(parents=True, exist_ok=True)
    source = Source(read_nodules(data, "train"), read_chests(data, "train"))
    model = OutlineModel.load(outline, execution=Execution(out / "cache", "cpu", threads=1))
    rows = rows_of(model, source, out)
    strength, slope, offset = chosen_rule(rows)
    rule = fitted(rows, np.arange(len(rows.labels)), strength)
    scaler, regression = rule[0], rule[1]
    presence, presence_offset = presence_rule(rows, scaler)
    table = {
        "mean": scaler.mean_,
        "scale": scaler.scale_,
        "weights": regression.coef_ * slope,
        "offset": np.array([regression.intercept_ * slope + offset]),
        "bounds": np.array(chosen_bounds(rows)),
        "presence_weights": presence,
        "presence_offset": np.array([presence_offset]),
    }
    return save_table({name: torch.from_numpy(values) for name, values in table.items()}, out / read_card().file)


def presence_rule(rows: Rows, scaler: StandardScaler) -> tuple[Values, float]:
    """Return weights and offset of what tells nodules from other outlines, above 0 for most nodules left out."""
    folds = min(_FOLDS, len(rows.silent))
    if folds <= 1:
        return np.zeros(rows.traits.shape[-1]), 1.0
    shown = rows.has_outline
    nodules = scaler.transform(rows.traits[shown])
    examples = np.concatenate([nodules, scaler.transform(rows.silent)])
    truth = np.arange(len(examples)) < len(nodules)
    patients = np.concatenate(
        [np.broadcast_to(rows.patients, shown.shape)[shown], [f"point {number}" for number in range(len(rows.silent))]]
    )
    rule = LogisticRegression(C=_PRESENCE_STRENGTH, class_weight="balanced", max_iter=3000)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    scores = cross_val_predict(rule, examples, truth, groups=patients, cv=split, method="decision_function")
    least = float(np.quantile(scores[truth], 1 - _KEPT_NODULES))
    remaining = float((scores[~truth] > least).mean())
    log.info("nodule or not, patients left out: AUC %.3f, of other outlines %.3f stay", auc(truth, scores), remaining)
    rule.fit(examples, truth)
    return np.asarray(rule.coef_[0], np.float64), float(rule.intercept_[0]) - least


def chosen_rule(rows: Rows) -> tuple[float, float, float]:
    """Return the strength with the highest AUC on patients left out, with Platt's slope and offset of those scores."""
    scores = {strength: _scores_left_out(rows, strength) for strength in _STRENGTHS}
    shown = rows.has_outline
    labels = np.broadcast_to(rows.labels, shown.shape)[shown]
    areas = {strength: auc(labels, mean[shown]) for strength, mean in scores.items()}
    for strength, area in areas.items():
        log.info("strength %g: AUC on patients left out %.4f", strength, area)
    strength = max(areas, key=areas.__getitem__)
    line = LogisticRegression(C=1e6).fit(scores[strength][shown][:, None], labels)
    return strength, float(line.coef_[0, 0]), float(line.intercept_[0])


def _scores_left_out(rows: Rows, strength: float) -> Values:
    """Return the scores of patients that were left out, the mean of several splits, (views, n)."""
    scores = np.zeros(rows.traits.shape[:2])
    for seed in range(_REPEATS):
        split = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
        for learning, tested in split.split(rows.labels, rows.labels, rows.patients):
            rule = fitted(rows, learning, strength)
            for view, traits in enumerate(rows.traits):
                scores[view, tested] += rule.predict(np.nan_to_num(traits[tested])) / _REPEATS
    return scores


def fitted(rows: Rows, chosen: NDArray[np.intp], strength: float) -> Pipeline:
    """Return the linear rule of the chosen nodules."""
    shown = rows.has_outline[:, chosen]
    target = np.broadcast_to(rows.target[chosen], shown.shape)[shown]
    return linear_rule(strength).fit(rows.traits[:, chosen][shown], target)


def chosen_bounds(rows: Rows) -> tuple[float, float]:
    """Return the solid shares that best separate ground glass, part-solid and solid, each kind counting the same."""
    shown = rows.has_outline
    kinds = np.broadcast_to(kinds_of(rows.textures), shown.shape)[shown]
    shares = rows.traits[shown][:, read_card().traits.index("solid share")]
    steps = np.linspace(0, 1, 41)[:-1]

    def balanced(bounds: tuple[float, float]) -> float:
        drawn = (shares > bounds[0]).astype(int) + (shares > bounds[1])
        return float(np.mean([(drawn[kinds == kind] == kind).mean() for kind in np.unique(kinds)]))

    return max(((low, high) for low in steps for high in steps if low <= high), key=balanced)


def kinds_of(textures: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0 for ground glass, 1 for part-solid and 2 for solid, by the readers' texture."""
    return np.asarray((textures > GROUND_GLASS).astype(np.int64) + (textures >= SOLID))


def linear_rule(strength: float) -> Pipeline:
    """Return a ridge regression on scaled traits."""
    return make_pipeline(StandardScaler(), Ridge(alpha=strength))
