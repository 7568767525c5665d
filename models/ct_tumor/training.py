"""Trains a head on an ImageNet backbone, everything chosen by cross-validation that keeps patients together.

With some hundred slices of some dozen patients, the backbone itself is left as ImageNet made it: the features of many
augmented copies are written once, and the head on them is a convex problem with one solution and one thing to choose,
how strongly it is held back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from ainode.models.ct_tumor.augment import augmented
from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ
from ainode.models.ct_tumor.dataset import Slices
from ainode.models.ct_tumor.preprocess import as_input
from ainode.models.running.keras_network import (
    assign,
    backend,
    efficientnet_lite0,
    imagenet_checkpoint,
    imagenet_weights,
)
from ainode.models.training.metrics import auc, youden_threshold

Features = NDArray[np.float32]
Logits = NDArray[np.float64]

# Inverse of the penalty, from much too strong to much too weak.
_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)
# Parts of the slices, those of highest score, that a study may be read from: in a whole scan a mass is on few.
_SHARES = (0.2, 0.1, 0.05)
# Areas under the curve that lie this close count as equal.
_EQUAL = 0.005
_FOLDS = 5
_LEAST, _TINY = 0.01, 1e-12
_BATCH = 32
_IMAGENET_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Head:
    """A linear layer. Shapes: kernel (features, classes), bias (classes)."""

    kernel: Features
    bias: Features

    def __call__(self, features: Features) -> Logits:
        """Return (n, classes) logits."""
        return np.asarray(features.astype(np.float64) @ self.kernel + self.bias)


@dataclass(frozen=True, slots=True)
class Choice:
    """What cross-validation decided, and what it was decided on.

    Shapes: logits (n, classes) of every training slice, by a head that saw no slice of its patient.
    """

    strength: float
    temperature: float
    logits: Logits


def features(organ: Organ, slices: Slices, out: Path, *, copies: int, seed: int) -> Features:
    """Return the backbone's features of the slices as they are and of augmented copies, kept in `out` as they come.

    Shapes: (1 + copies, n, 1280). What an interrupted call wrote is taken up.
    """
    out.mkdir(parents=True, exist_ok=True)
    rounds = []
    network: Any = None
    for number in tqdm(range(1 + copies), desc="features"):
        path = out / f"features_{number}.npy"
        if not path.is_file():
            network = network or _backbone(organ)
            _keep(path, _pooled(network, _pictures(slices, number, seed)))
        rounds.append(np.load(path, allow_pickle=False))
    return np.stack(rounds)


def chosen(slices: Slices, rounds: Features, *, seed: int) -> Choice:
    """Return strength and temperature of least surprise on slices whose patient was left out."""
    weights = patient_weights(slices.groups)
    choices = []
    for strength in tqdm(_STRENGTHS, desc="strengths"):
        logits = _left_out(slices, rounds, strength, seed)
        choices.append(Choice(strength, _warmth(logits, slices.labels, weights), logits))
    return min(choices, key=lambda one: _surprise(one.logits / one.temperature, slices.labels, weights))


def study_rule(
    logits: Logits, labels: NDArray[np.int64], groups: NDArray[np.str_], *, positive: int, temperature: float
) -> Calibration:
    """Return the calibration whose share of slices tells ill patients from others best, and its threshold.

    A patient is ill when one slice is. Among equals the largest share, which a single odd slice moves least.
    """
    ill = np.asarray([float((labels[groups == one] == positive).any()) for one in np.unique(groups)])
    found = []
    for share in _SHARES:
        rule = Calibration(temperature, share)
        each = rule.probabilities(logits)
        scores = np.asarray([rule.study(each[groups == one], positive)[positive] for one in np.unique(groups)])
        threshold = float(np.clip(youden_threshold(ill, scores), _LEAST, 1 - _LEAST))
        found.append((auc(ill, scores), Calibration(temperature, share, round(threshold, 3))))
    best = max(area for area, _ in found)
    return next(rule for area, rule in found if area >= best - _EQUAL)


def fitted(labels: NDArray[np.int64], weights: NDArray[np.float64], rounds: Features, strength: float) -> Head:
    """Return the head of least penalized surprise, its features' scaling folded into it.

    Shapes: rounds (copies, n, features), labels and weights (n,).
    """
    copies = len(rounds)
    flat = rounds.reshape(-1, rounds.shape[-1])
    scaler = StandardScaler().fit(flat)
    model = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
    model.fit(scaler.transform(flat), np.tile(labels, copies), np.tile(weights, copies))
    kernel, bias = model.coef_.T, model.intercept_
    if kernel.shape[1] == 1:
        kernel, bias = np.hstack([-kernel / 2, kernel / 2]), np.hstack([-bias / 2, bias / 2])
    scaled = kernel / scaler.scale_[:, None]
    return Head(scaled.astype(np.float32), (bias - scaler.mean_ @ scaled).astype(np.float32))


def network_with(organ: Organ, head: Head) -> Any:  # noqa: ANN401  # a keras.Model
    """Return the whole network: ImageNet's backbone, our head."""
    network = efficientnet_lite0(organ.side, len(organ.class_names))
    table = imagenet_weights(imagenet_checkpoint())
    assign(network, table | {"logits/kernel": head.kernel, "logits/bias": head.bias})
    return network


def patient_weights(groups: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return a weight per slice, so that a patient with many slices does not outweigh one with few; mean 1."""
    _, which, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts[which])
    return np.asarray(weights / weights.mean())


def _backbone(organ: Organ) -> Any:  # noqa: ANN401  # a keras.Model
    keras = backend("tensorflow")
    network = efficientnet_lite0(organ.side, _IMAGENET_CLASSES)
    assign(network, imagenet_weights(imagenet_checkpoint()))
    return keras.Model(network.input, network.get_layer("pooling").output)


def _pictures(slices: Slices, number: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of the slices: as they are in round 0, augmented in every other."""
    random = np.random.default_rng([seed, number])
    for start in range(0, len(slices.labels), _BATCH):
        some = slices.pictures[start : start + _BATCH]
        yield some if number == 0 else np.stack([augmented(one, random) for one in some])


def _pooled(network: Any, batches: Iterator[NDArray[np.uint8]]) -> Features:  # noqa: ANN401  # a keras.Model
    return np.concatenate([np.asarray(network(as_input(batch), training=False)) for batch in batches])


def _keep(path: Path, array: Features) -> None:
    part = path.with_suffix(".part.npy")
    np.save(part, array)
    part.replace(path)


def _left_out(slices: Slices, rounds: Features, strength: float, seed: int) -> Logits:
    """Return every slice's logits by a head that was fitted without its patient."""
    weights = patient_weights(slices.groups)
    logits = np.zeros((len(slices.labels), len(np.unique(slices.labels))))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for seen, left in folds.split(slices.labels, slices.labels, slices.groups):
        head = fitted(slices.labels[seen], weights[seen], rounds[:, seen], strength)
        logits[left] = head(rounds[0, left])
    return logits


def _warmth(logits: Logits, labels: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """Return the temperature of least surprise."""
    best = minimize_scalar(
        lambda log: _surprise(logits / np.exp(log), labels, weights), bounds=(-3, 3), method="bounded"
    )
    return round(float(np.exp(best.x)), 3)


def _surprise(logits: Logits, labels: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """Return the weighted mean negative log likelihood."""
    of_truth = Calibration().probabilities(logits)[np.arange(len(labels)), labels]
    return float(np.average(-np.log(np.maximum(of_truth, _TINY)), weights=weights))
