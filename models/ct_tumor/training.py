"""Trains a head on an ImageNet backbone; cross-validation over patients chooses everything else.

The data set has hundreds of slices of dozens of patients, so the backbone keeps its ImageNet weights. The features of
many augmented copies are written once. The head on these features is a convex problem with one solution; only the
strength of its penalty is chosen.
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

from ainode.models.ct_tumor.augment import augmented_picture
from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ
from ainode.models.ct_tumor.dataset import Slices
from ainode.models.ct_tumor.preprocess import network_input
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
# The shares of a study's slices, those of highest score, that its probability may use: a mass is on few slices.
_SHARES = (0.2, 0.1, 0.05)
# Areas under the curve that differ by less count as equal.
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
    """The strength and the temperature that cross-validation chose, and the logits of the choice.

    Shapes: logits (n, classes) of every training slice, by a head that was fitted without the slice's patient.
    """

    strength: float
    temperature: float
    logits: Logits


def features(organ: Organ, slices: Slices, out: Path, *, copies: int, seed: int) -> Features:
    """Return the backbone's features of the slices and of augmented copies; each round is a file in `out`.

    Shapes: (1 + copies, n, 1280). The files of an interrupted call are used.
    """
    out.mkdir(parents=True, exist_ok=True)
    rounds = []
    network: Any = None
    for number in tqdm(range(1 + copies), desc="features"):
        path = out / f"features_{number}.npy"
        if not path.is_file():
            network = network or _backbone(organ)
            _save_whole(path, _pooled_features(network, _pictures(slices, number, seed)))
        rounds.append(np.load(path, allow_pickle=False))
    return np.stack(rounds)


def cross_validated_choice(slices: Slices, rounds: Features, *, seed: int) -> Choice:
    """Return the strength and the temperature of least log loss on slices whose patient was left out."""
    weights = patient_weights(slices.groups)
    choices = []
    for strength in tqdm(_STRENGTHS, desc="strengths"):
        logits = _left_out_logits(slices, rounds, strength, seed)
        choices.append(Choice(strength, _best_temperature(logits, slices.labels, weights), logits))
    return min(choices, key=lambda choice: _log_loss(choice.logits / choice.temperature, slices.labels, weights))


def study_rule(
    logits: Logits, labels: NDArray[np.int64], groups: NDArray[np.str_], *, positive: int, temperature: float
) -> Calibration:
    """Return the calibration with the share of slices that tells ill patients from others best, and its threshold.

    A patient is ill when a slice is ill. Among equal shares the largest is taken: a single odd slice moves it least.
    """
    ill = np.asarray([float((labels[groups == group] == positive).any()) for group in np.unique(groups)])
    rules = []
    for share in _SHARES:
        rule = Calibration(temperature, share)
        probabilities = rule.probabilities(logits)
        scores = np.asarray(
            [rule.study(probabilities[groups == group], positive)[positive] for group in np.unique(groups)]
        )
        threshold = float(np.clip(youden_threshold(ill, scores), _LEAST, 1 - _LEAST))
        rules.append((auc(ill, scores), Calibration(temperature, share, round(threshold, 3))))
    best = max(area for area, _ in rules)
    return next(rule for area, rule in rules if area >= best - _EQUAL)


def fitted_head(labels: NDArray[np.int64], weights: NDArray[np.float64], rounds: Features, strength: float) -> Head:
    """Return the head of least penalized log loss, with the scaling of the features folded into its weights.

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
    """Return the whole network: the ImageNet backbone and a head."""
    network = efficientnet_lite0(organ.side, len(organ.class_names))
    table = imagenet_weights(imagenet_checkpoint())
    assign(network, table | {"logits/kernel": head.kernel, "logits/bias": head.bias})
    return network


def patient_weights(groups: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return a weight per slice, less for a slice of a patient with many slices; the mean is 1."""
    _, patient_numbers, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts[patient_numbers])
    return np.asarray(weights / weights.mean())


def _backbone(organ: Organ) -> Any:  # noqa: ANN401  # a keras.Model
    """Return the ImageNet network up to its pooled features."""
    keras = backend("tensorflow")
    network = efficientnet_lite0(organ.side, _IMAGENET_CLASSES)
    assign(network, imagenet_weights(imagenet_checkpoint()))
    return keras.Model(network.input, network.get_layer("pooling").output)


def _pictures(slices: Slices, number: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of the slices' pictures, unchanged in round 0, augmented in every other round."""
    random = np.random.default_rng([seed, number])
    for start in range(0, len(slices.labels), _BATCH):
        pictures = slices.pictures[start : start + _BATCH]
        yield pictures if number == 0 else np.stack([augmented_picture(picture, random) for picture in pictures])


def _pooled_features(network: Any, batches: Iterator[NDArray[np.uint8]]) -> Features:  # noqa: ANN401  # a keras.Model
    return np.concatenate([np.asarray(network(network_input(batch), training=False)) for batch in batches])


def _save_whole(path: Path, array: Features) -> None:
    """Write an array to a file, whole or not at all."""
    partial_path = path.with_suffix(".part.npy")
    np.save(partial_path, array)
    partial_path.replace(path)


def _left_out_logits(slices: Slices, rounds: Features, strength: float, seed: int) -> Logits:
    """Return every slice's logits by a head that was fitted without the slice's patient."""
    weights = patient_weights(slices.groups)
    logits = np.zeros((len(slices.labels), len(np.unique(slices.labels))))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for fitted, left_out in folds.split(slices.labels, slices.labels, slices.groups):
        head = fitted_head(slices.labels[fitted], weights[fitted], rounds[:, fitted], strength)
        logits[left_out] = head(rounds[0, left_out])
    return logits


def _best_temperature(logits: Logits, labels: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """Return the temperature of least log loss."""
    best = minimize_scalar(
        lambda log_temperature: _log_loss(logits / np.exp(log_temperature), labels, weights),
        bounds=(-3, 3),
        method="bounded",
    )
    return round(float(np.exp(best.x)), 3)


def _log_loss(logits: Logits, labels: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """Return the weighted mean negative log likelihood."""
    probabilities_of_label = Calibration().probabilities(logits)[np.arange(len(labels)), labels]
    return float(np.average(-np.log(np.maximum(probabilities_of_label, _TINY)), weights=weights))
