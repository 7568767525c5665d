"""Fits the head on the traits of the outlines that the outline network draws on the training nodules."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from ainode.models.nodule_malignancy.card import read_card
from ainode.models.nodule_malignancy.model import row_of, share_of, traits_of
from ainode.models.nodule_outline.evaluation import MASK_BLEND, WHOLE_BLEND, grid_of, middle_of, scenes
from ainode.models.nodule_outline.model import OutlinedNodule, OutlineModel
from ainode.models.nodule_outline.nodules import read_chests, read_nodules
from ainode.models.nodule_outline.training import Source
from ainode.models.running.checkpoints import save_table
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import auc

log = logging.getLogger(__name__)

# The first of two equal ones stays: the one that holds the weights smaller.
_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_FOLDS = 5
GROUND_GLASS, SOLID = 2, 5
"""the readers' texture: up to 2 is ground glass, 5 is solid"""


@dataclass(frozen=True, slots=True)
class Rows:
    """The traits of outlined nodules; a nodule without an outline has NaN.

    Shapes: traits (n, traits); labels, textures, patients and shares (n,).
    """

    traits: NDArray[np.float64]
    shares: NDArray[np.float64]
    labels: NDArray[np.int64]
    textures: NDArray[np.int64]
    patients: NDArray[np.str_]

    def outlined(self) -> Rows:
        """Return the rows of the nodules that have an outline."""
        has = np.isfinite(self.shares)
        return Rows(self.traits[has], self.shares[has], self.labels[has], self.textures[has], self.patients[has])


def rows_of(model: OutlineModel, source: Source, seed: int) -> Rows:
    """Return the traits of implanted nodules: every second by the mask, the others with the whole cut-out."""
    traits, shares = [], []
    for nodules, blend in ((source.nodules[::2], MASK_BLEND), (source.nodules[1::2], WHOLE_BLEND)):
        for seen in tqdm(scenes(Source(nodules, source.chests), blend, seed), mininterval=10.0):
            nodule = model.outline(grid_of(seen), middle_of(seen))
            outlined = nodule if isinstance(nodule, OutlinedNodule) else None
            traits.append(row_of(traits_of(outlined)) if outlined else None)
            shares.append(share_of(outlined) if outlined else np.nan)
    absent = np.full(max(len(row) for row in traits if row is not None), np.nan)
    nodules = (*source.nodules[::2], *source.nodules[1::2])
    return Rows(
        traits=np.stack([absent if row is None else row for row in traits]),
        shares=np.array(shares),
        labels=np.array([int(nodule.malignant) for nodule in nodules]),
        textures=np.array([nodule.texture for nodule in nodules]),
        patients=np.array([nodule.patient for nodule in nodules]),
    )


def train(data: Path, outline: Path, out: Path, options: TrainingOptions) -> Path:
    """Outline the training nodules with the weights of a file, fit the head; return the file of the head."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "traits.npz"
    if not path.is_file():
        source = Source(read_nodules(data, "train"), read_chests(data, "train"))
        model = OutlineModel.load(outline, execution=Execution(out / "cache", "torch-cpu"))
        np.savez(path, **asdict(rows_of(model, source, options.seed)))
    rows = Rows(**np.load(path)).outlined()
    strength = chosen_strength(rows)
    rule = fitted(rows.traits, rows.labels, strength)
    scaler, regression = rule[0], rule[1]
    table = {
        "mean": scaler.mean_,
        "scale": scaler.scale_,
        "weights": regression.coef_[0],
        "offset": regression.intercept_,
        "bounds": np.array(chosen_bounds(rows)),
    }
    return save_table({name: torch.from_numpy(values) for name, values in table.items()}, out / read_card().file)


def chosen_strength(rows: Rows) -> float:
    """Return the strength of the fit with the highest AUC on patients that were left out."""
    split = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    areas = {}
    for strength in _STRENGTHS:
        rule = _rule(strength)
        scores = cross_val_predict(
            rule, rows.traits, rows.labels, groups=rows.patients, cv=split, method="predict_proba"
        )
        areas[strength] = auc(rows.labels, scores[:, 1])
        log.info("strength %g: AUC on patients left out %.4f", strength, areas[strength])
    return max(areas, key=areas.__getitem__)


def fitted(traits: NDArray[np.float64], labels: NDArray[np.int64], strength: float) -> Pipeline:
    """Return a logistic regression on scaled traits."""
    return _rule(strength).fit(traits, labels)


def chosen_bounds(rows: Rows) -> tuple[float, float]:
    """Return the solid shares that best separate ground glass, part-solid and solid, each kind counting the same."""
    kinds = kinds_of(rows.textures)
    steps = np.linspace(0, 1, 41)[:-1]

    def balanced(bounds: tuple[float, float]) -> float:
        drawn = (rows.shares > bounds[0]).astype(int) + (rows.shares > bounds[1])
        return float(np.mean([(drawn[kinds == kind] == kind).mean() for kind in np.unique(kinds)]))

    return max(((low, high) for low in steps for high in steps if low <= high), key=balanced)


def kinds_of(textures: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0 for ground glass, 1 for part-solid and 2 for solid, by the readers' texture."""
    return np.asarray((textures > GROUND_GLASS).astype(np.int64) + (textures >= SOLID))


def _rule(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=3000))
