"""What simple rules reach: the place of tumors in the body alone, and gradient boosting on grays and place."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier

from ainode.models.pancreas_tumor.dataset import Slices
from ainode.models.pancreas_tumor.preprocess import Frame, body_box, framed, on_picture
from ainode.models.pancreas_tumor.regions import Mask, dice

Maps = NDArray[np.float32]
# Of each slice, as many pixels are learned from, and as many of the tumor.
_PIXELS, _TUMOR_PIXELS = 200, 60
_BLURS = (1.0, 2.0, 4.0, 8.0)
_SEED = 0
_SMOOTHING = 2.0
_FULL = 255.0


@dataclass(frozen=True, slots=True)
class Prior:
    """Where the tumors of the training part lie, by place in the body alone.

    Shapes: framed (160, 192), the share of training slices with a tumor there.
    Units: `center` is the median place of the middles as a share of the body's box from the right and the front;
    `box` the median width and height of a tumor's box in pixels of the picture.
    """

    framed: NDArray[np.float32]
    threshold: float
    center: tuple[float, float]
    box: tuple[float, float]

    @classmethod
    def of(cls, training: Slices) -> Prior:
        """Return the prior of the training part; its threshold is that of the highest mean Dice there."""
        frames = training.frames()
        masks = [
            framed(mask * np.uint8(_FULL), frame) / _FULL for mask, frame in zip(training.masks, frames, strict=True)
        ]
        mean = np.asarray(ndimage.gaussian_filter(np.mean(masks, axis=0), _SMOOTHING), np.float32)
        thresholds = np.linspace(0.1, 0.9, 17) * float(mean.max())
        truth = np.stack(masks) > 0.5  # noqa: PLR2004  # the border of a mask
        dices = [np.mean([dice(mean > threshold, mask) for mask in truth]) for threshold in thresholds]
        places = np.array([_shares(middle_of(mask), picture) for mask, picture in _pairs(training)])
        sizes = np.array([np.ptp(np.argwhere(mask), axis=0) + 1 for mask in training.masks])
        center, box = np.median(places, axis=0), np.median(sizes, axis=0)
        best = float(thresholds[int(np.argmax(dices))])
        return cls(mean, best, (float(center[0]), float(center[1])), (float(box[1]), float(box[0])))

    def maps(self, frames: tuple[Frame, ...]) -> Maps:
        """Return the prior on pictures by their frames, (n, 256, 256)."""
        return np.stack([on_picture(self.framed, frame) for frame in frames])

    def center_on(self, picture: NDArray[np.uint8]) -> tuple[float, float]:
        """Return row and column of the median place on a picture."""
        left, top, right, bottom = _box(picture)
        return top + self.center[1] * (bottom - top), left + self.center[0] * (right - left)

    def box_on(self, picture: NDArray[np.uint8]) -> Mask:
        """Return the box of the median size around the median place on a picture."""
        row, column = self.center_on(picture)
        rows, columns = np.indices(picture.shape)
        return np.asarray(
            (np.abs(rows - row) <= self.box[1] / 2) & (np.abs(columns - column) <= self.box[0] / 2), np.bool_
        )


def middle_of(mask: NDArray[np.uint8]) -> tuple[float, float]:
    """Return row and column of the middle of a mask."""
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())


def boosted(training: Slices, tested: Slices) -> Maps:
    """Return the probability of tumor by gradient boosting on grays and place, in the frames; (n, 256, 256)."""
    random = np.random.default_rng(_SEED)
    rows, labels = [], []
    for picture, mask, frame in zip(training.pictures, training.masks, training.frames(), strict=True):
        tumor = framed(mask * np.uint8(_FULL), frame).ravel() > _FULL / 2
        of_tumor = np.flatnonzero(tumor)
        places = np.concatenate(
            [
                random.integers(len(tumor), size=_PIXELS),
                random.choice(of_tumor, min(_TUMOR_PIXELS, len(of_tumor)), replace=False),
            ]
        )
        rows.append(_features(picture, frame)[places])
        labels.append(tumor[places])
    rule = HistGradientBoostingClassifier(random_state=_SEED).fit(np.concatenate(rows), np.concatenate(labels))
    maps = []
    for picture, frame in zip(tested.pictures, tested.frames(), strict=True):
        seen = framed(picture, frame)
        scores = rule.predict_proba(_features(picture, frame))[:, 1].reshape(seen.shape)
        maps.append(on_picture(np.asarray(scores, np.float32), frame))
    return np.stack(maps)


def _features(picture: NDArray[np.uint8], frame: Frame) -> NDArray[np.float32]:
    """Return the features of each pixel of the framed picture, (160 * 192, features)."""
    values = framed(picture, frame).astype(np.float32)
    rows, columns = np.indices(values.shape, np.float32)
    blurred = [np.asarray(cv2.GaussianBlur(values, (0, 0), sigma)) for sigma in _BLURS]
    spread = np.sqrt(np.maximum(cv2.blur(values * values, (7, 7)) - cv2.blur(values, (7, 7)) ** 2, 0))
    level = np.full(values.shape, np.median(values), np.float32)
    return np.stack([feature.ravel() for feature in (rows, columns, values, *blurred, spread, level)], axis=1)


def _shares(place: tuple[float, float], picture: NDArray[np.uint8]) -> tuple[float, float]:
    left, top, right, bottom = _box(picture)
    return (place[1] - left) / (right - left), (place[0] - top) / (bottom - top)


def _box(picture: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    return body_box(picture) or (0, 0, picture.shape[1], picture.shape[0])


def _pairs(slices: Slices) -> zip[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    return zip(slices.masks, slices.pictures, strict=True)
