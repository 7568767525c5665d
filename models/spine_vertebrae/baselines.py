"""Rules that know no vertebra: the mean column of the training's films, and a regression from a thumbnail."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from ainode.models.spine_vertebrae.dataset import Film
from ainode.models.spine_vertebrae.preprocess import equalized

_THUMBNAIL = (16, 40)
"""columns and rows"""
_PENALTY = 100.0


def mean_column(training: Sequence[Film], tested: Sequence[Film]) -> list[NDArray[np.float64]]:
    """Return the training's mean corners (17, 4, 2), in shares of the film, on each tested film."""
    mean = np.mean([film.corners / _size(film) for film in training if film.has_right_corners], axis=0)
    return [np.asarray(mean * _size(film), np.float64) for film in tested]


def columns_of_thumbnails(training: Sequence[Film], tested: Sequence[Film]) -> list[NDArray[np.float64]]:
    """Return the corners (17, 4, 2) that a ridge regression tells of a thumbnail of each tested film."""
    right = [film for film in training if film.has_right_corners]
    ridge = Ridge(_PENALTY).fit(_thumbnails(right), [(film.corners / _size(film)).ravel() for film in right])
    columns = ridge.predict(_thumbnails(tested)).reshape(len(tested), -1, 4, 2)
    return [np.asarray(corners * _size(film), np.float64) for corners, film in zip(columns, tested, strict=True)]


def angles_of_thumbnails(training: Sequence[Film], tested: Sequence[Film]) -> NDArray[np.float64]:
    """Return the largest angle that a ridge regression tells of a thumbnail of each tested film, in degrees."""
    right = [film for film in training if film.has_right_corners]
    ridge = Ridge(_PENALTY).fit(_thumbnails(right), [film.largest_angle for film in right])
    return np.asarray(ridge.predict(_thumbnails(tested)), np.float64)


def _size(film: Film) -> NDArray[np.float64]:
    rows, columns = film.picture.shape
    return np.array([columns, rows], np.float64)


def _thumbnails(films: Sequence[Film]) -> NDArray[np.float64]:
    small = [cv2.resize(equalized(film.picture), _THUMBNAIL, interpolation=cv2.INTER_AREA) for film in films]
    values = np.stack([picture.ravel() for picture in small]).astype(np.float64)
    return np.asarray((values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True))
