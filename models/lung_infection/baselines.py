"""What simple rules reach on the pixels of a lung that is given: gradient boosting, smooth grays, and place alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier

from ainode.models.lung_infection.dataset import INFECTION, LUNG, Slices

# Of each slice, as many pixels of the lung are learned from.
_PIXELS = 500
_BLURS = (1.0, 2.0, 4.0, 8.0)
_PLACE = 3
"""the first features: row, column and distance to the lung's edge, without any gray"""
_SMOOTH = _PLACE + _BLURS.index(4.0)
_SEED = 0


def boosted(training: Slices, tested: Slices) -> dict[str, NDArray[np.float32]]:
    """Return the scores of each rule on every picture; 0 outside of the lung that the mask gives.

    Shapes: (n, rows, columns), 0 to 1.
    """
    random = np.random.default_rng(_SEED)
    rows, labels = [], []
    for picture, mask in zip(training.pictures, training.masks, strict=True):
        places = np.flatnonzero(mask >= LUNG)
        chosen = random.choice(places, min(_PIXELS, len(places)), replace=False)
        rows.append(_features(picture, mask)[chosen])
        labels.append(mask.ravel()[chosen] == INFECTION)
    features, infected = np.concatenate(rows), np.concatenate(labels)
    learned = {
        "gradient boosting on pixel features, lung given": slice(None),
        "shortcut: place in the lung": slice(_PLACE),
    }
    scores = {
        name: _scores(
            HistGradientBoostingClassifier(random_state=_SEED).fit(features[:, columns], infected), tested, columns
        )
        for name, columns in learned.items()
    }
    return {**scores, "smooth gray, lung given": _smooth_grays(tested)}


def best_threshold(scores: NDArray[np.float32], slices: Slices) -> float:
    """Return the threshold of highest Dice over all pixels of the lungs; call this on the training part."""
    lung, infected = slices.masks >= LUNG, slices.masks == INFECTION
    thresholds = np.linspace(0.05, 0.95, 19)
    dices = [
        2 * (lung & infected & (scores > t)).sum() / ((lung & (scores > t)).sum() + infected.sum()) for t in thresholds
    ]
    return float(thresholds[int(np.argmax(dices))])


def _scores(classifier: Any, slices: Slices, columns: slice) -> NDArray[np.float32]:  # noqa: ANN401  # of sklearn
    maps = np.zeros(slices.masks.shape, np.float32)
    for number, (picture, mask) in enumerate(zip(slices.pictures, slices.masks, strict=True)):
        inside = (mask >= LUNG).ravel()
        maps[number].ravel()[inside] = classifier.predict_proba(_features(picture, mask)[inside, columns])[:, 1]
    return maps


def _smooth_grays(slices: Slices) -> NDArray[np.float32]:
    maps = [
        _features(picture, mask)[:, _SMOOTH].reshape(mask.shape) * (mask >= LUNG) / 255
        for picture, mask in zip(slices.pictures, slices.masks, strict=True)
    ]
    return np.stack(maps).astype(np.float32)


def _features(picture: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features of each pixel, (rows * columns, features)."""
    values, lung = picture.astype(np.float32), mask >= LUNG
    rows, columns = np.indices(mask.shape, np.float32)
    inside = np.flatnonzero(lung.any(axis=1)), np.flatnonzero(lung.any(axis=0))
    places = [
        (axis - ends[0]) / max(1, ends[-1] - ends[0]) if len(ends) else axis
        for axis, ends in zip((rows, columns), inside, strict=True)
    ]
    blurred = [ndimage.gaussian_filter(values, sigma) for sigma in _BLURS]
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(values**2, 5) - ndimage.uniform_filter(values, 5) ** 2, 0))
    grays = values[lung] if lung.any() else values.ravel()
    levels = [np.full(mask.shape, level, np.float32) for level in (grays.mean(), grays.std(), np.median(grays))]
    distance = ndimage.distance_transform_edt(lung)
    stack = [*places, distance, *blurred, values, spread, *levels]
    return np.stack([np.asarray(feature, np.float32).ravel() for feature in stack], axis=1)
