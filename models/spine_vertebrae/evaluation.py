"""How well vertebrae and angles are found: by film and by patient, beside rules that know no vertebra."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from ainode.models.errors import UnusablePicture
from ainode.models.spine_vertebrae.baselines import angles_of_thumbnails, columns_of_thumbnails, mean_column
from ainode.models.spine_vertebrae.changed_films import CHANGES, REFUSED
from ainode.models.spine_vertebrae.companions import drawn_side_views
from ainode.models.spine_vertebrae.dataset import COUNT, Film
from ainode.models.spine_vertebrae.geometry import challenge_angles, curves, largest
from ainode.models.spine_vertebrae.model import Prediction, VertebraModel
from ainode.models.spine_vertebrae.plots import draw_angles, draw_films
from ainode.models.training.experiment import Baseline, Evaluation
from ainode.models.training.metrics import auc, bootstrap_estimate, proportion
from ainode.models.training.shortcuts import facts, shortcut_baselines

Corners = NDArray[np.float64]
Array = NDArray[np.float64]

MODERATE_DEGREES, SEVERE_DEGREES = 25.0, 40.0
"""the angle from which a curve is moderate, and severe"""
_SIDE = 1024
"""the longer side of a film to which pixels of corners refer"""
_SHOWN = 6
_LARGEST_ANGLE = 90.0
# Of films that are to be refused every so many are read; the drawn side views of a test begin with this number.
_OF_EVERY, _FIRST_TESTED = 3, 1000


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a model or a rule tells of the films; None where it finds no spine.

    Shapes: corners (n, 4, 2) of each film, in pixels of the film.
    """

    corners: Sequence[Corners | None]

    @property
    def largest_angles(self) -> Array:
        """Return the largest angle of each film in degrees, 0 where no spine is found."""
        return np.array([largest(curves(four)).angle if four is not None else 0.0 for four in self.corners])

    def angle_errors(self, films: Sequence[Film]) -> Array:
        """Return how many degrees the largest angle of each film is off."""
        return np.abs(self.largest_angles - [film.largest_angle for film in films])

    def symmetric_errors(self, films: Sequence[Film]) -> Array:
        """Return the symmetric error of the three angles of each film in percent, as the set's challenge had it."""
        angles = [_challenge(four, film) for four, film in zip(self.corners, films, strict=True)]
        true = [_challenge(film.corners.astype(np.float64), film) for film in films]
        pairs = zip(angles, true, strict=True)
        return np.array(
            [100 * np.abs(measured - right).sum() / max((measured + right).sum(), 1e-9) for measured, right in pairs]
        )

    def corner_errors(self, films: Sequence[Film]) -> Array:
        """Return the mean distance of each film's corners from those of the nearest vertebra, in pixels of 1024.

        Not a number where no spine is found, or a person's slip exchanged corners of the film.
        """
        return np.array([_corner_error(four, film) for four, film in zip(self.corners, films, strict=True)])


def measured_by(model: VertebraModel, films: Sequence[Film]) -> Measurement:
    """Return what the model finds on films: a column too short or too unsure is no spine."""
    return _measured(model, _predictions(model, films))


def _measured(model: VertebraModel, predictions: Sequence[Prediction | None]) -> Measurement:
    return Measurement([shown.corners if shown and shown.is_spine(model.card) else None for shown in predictions])


def evaluation_of(
    model: VertebraModel, training: Sequence[Film], tested: Sequence[Film], chests: Sequence[Film] = ()
) -> Evaluation:
    """Return the evaluation: whether the largest angle has 25 degrees or more; angles and corners stand beside.

    `chests` are side views of CTs, which are to be refused as side views of a spine are.
    """
    predictions = _predictions(model, tested)
    measurement = _measured(model, predictions)
    rules = {
        "mean column": Measurement(mean_column(training, tested)),
        "ridge from a thumbnail to corners": Measurement(columns_of_thumbnails(training, tested)),
    }
    true = np.array([film.largest_angle for film in tested])
    groups = np.array([film.patient for film in tested])
    score = norm.cdf((measurement.largest_angles - MODERATE_DEGREES) / model.card.off_degrees)
    thumbnail = angles_of_thumbnails(training, tested)
    return Evaluation(
        class_names=("below 25 degrees", "25 degrees and more"),
        labels=(true >= MODERATE_DEGREES).astype(np.int64),
        probabilities=np.stack([1 - score, score], axis=1),
        groups=groups,
        positive=("25 degrees and more",),
        baselines={
            **_shortcuts(training, tested),
            "ridge from a thumbnail to the angle": Baseline(thumbnail, "pixels"),
            **{name: Baseline(rule.largest_angles, "pixels") for name, rule in rules.items()},
        },
        further={
            **_figures(measurement, tested, groups),
            "changed_films": _figures_of_changes(model, tested, groups),
            "views": {"films": _view(model, predictions), **_figures_of_views(model, tested, chests)},
            "beside": {
                **{name: _figures(rule, tested, groups) for name, rule in rules.items()},
                "ridge from a thumbnail to the angle": {"angle_error_degrees": _mean(np.abs(thumbnail - true), groups)},
                "median angle of the training": {
                    "angle_error_degrees": _mean(
                        np.abs(true - float(np.median([film.largest_angle for film in training]))), groups
                    )
                },
            },
        },
        drawings=_drawings(measurement, tested),
    )


def _figures_of_changes(
    model: VertebraModel, films: Sequence[Film], groups: NDArray[np.str_]
) -> dict[str, dict[str, object]]:
    """Return of each change how many films are found to be spines, and how far the largest angle of these is off."""
    figures: dict[str, dict[str, object]] = {}
    of_right = [(film, group) for film, group in zip(films, groups, strict=True) if film.has_right_corners]
    for name, change in CHANGES.items():
        changed = [change(film) for film, _ in of_right]
        measurement = measured_by(model, changed)
        is_found = np.array([corners is not None for corners in measurement.corners])
        names = np.array([group for _, group in of_right])[is_found]
        figures[name] = {
            "found_as_spine": asdict(proportion(int(is_found.sum()), len(changed))),
            "angle_error_degrees_of_found": _mean(measurement.angle_errors(changed)[is_found], names),
        }
    return figures


def _figures_of_views(model: VertebraModel, films: Sequence[Film], chests: Sequence[Film]) -> dict[str, object]:
    """Return how much pictures that are to be refused look like ones from the front, and how many are refused."""
    kinds = {
        **{name: [change(film) for film in films[::_OF_EVERY]] for name, change in REFUSED.items()},
        "drawn from the side": drawn_side_views(_FIRST_TESTED),
        "chests from the side": chests,
    }
    return {name: _view(model, _predictions(model, shown)) for name, shown in kinds.items() if shown}


def _view(model: VertebraModel, predictions: Sequence[Prediction | None]) -> dict[str, object]:
    found = [shown for shown in predictions if shown]
    refused = len(predictions) - sum(shown.is_spine(model.card) for shown in found)
    least, median, most = np.quantile([shown.frontal for shown in found], (0, 0.5, 1))
    scores = {"least": float(least), "median": float(median), "most": float(most)}
    return {"refused": asdict(proportion(refused, len(predictions))), **scores}


def _predictions(model: VertebraModel, films: Sequence[Film]) -> list[Prediction | None]:
    return [_prediction(model, film) for film in films]


def _prediction(model: VertebraModel, film: Film) -> Prediction | None:
    try:
        return model.predict(film.picture.astype(np.float32))
    except UnusablePicture:
        return None


def _challenge(corners: Corners | None, film: Film) -> Array:
    return np.zeros(3) if corners is None else challenge_angles(corners, film.picture.shape[0])


def _corner_error(corners: Corners | None, film: Film) -> float:
    if corners is None or not film.has_right_corners:
        return float("nan")
    middles = corners.mean(axis=1)
    nearest = [int(np.linalg.norm(middles - place, axis=1).argmin()) for place in film.corners.mean(axis=1)]
    distances = np.linalg.norm(corners[nearest] - film.corners, axis=2)
    return float(distances.mean()) * _SIDE / float(max(film.picture.shape))


def _figures(measurement: Measurement, films: Sequence[Film], groups: NDArray[np.str_]) -> dict[str, object]:
    true = np.array([film.largest_angle for film in films])
    corner = measurement.corner_errors(films)
    counts = [len(four) if four is not None else 0 for four in measurement.corners]
    measured = np.isfinite(corner)
    is_severe = true >= SEVERE_DEGREES
    area = asdict(bootstrap_estimate(auc, is_severe, measurement.largest_angles, groups))
    return {
        "angle_error_degrees": _mean(measurement.angle_errors(films), groups),
        "symmetric_error_percent": _mean(measurement.symmetric_errors(films), groups),
        "corner_error_pixels_of_1024": _mean(corner[measured], groups[measured]),
        **({"auc_of_40_degrees": area} if is_severe.any() else {}),
        "found_as_spine": asdict(proportion(sum(count > 0 for count in counts), len(films))),
        "with_17_vertebrae": asdict(proportion(counts.count(COUNT), len(films))),
    }


def _mean(values: Array, groups: NDArray[np.str_]) -> dict[str, float]:
    return asdict(bootstrap_estimate(lambda drawn, _: float(drawn.mean()), values, values, groups))


def _shortcuts(training: Sequence[Film], tested: Sequence[Film]) -> dict[str, Baseline]:
    labels = [int(film.largest_angle >= MODERATE_DEGREES) for film in training]
    shown, seen = ([facts(film.picture.astype(np.float32)) for film in films] for films in (training, tested))
    return shortcut_baselines(shown, labels, [film.patient for film in training], seen)


def _drawings(measurement: Measurement, films: Sequence[Film]) -> Mapping[str, Callable[[Path], None]]:
    true = np.array([film.largest_angle for film in films])
    worst = np.argsort(-measurement.angle_errors(films), kind="stable")
    numbers = [*worst[: _SHOWN // 2], *worst[len(worst) // 2 :][: _SHOWN // 2]]
    shown = [(films[n].name, films[n].picture, films[n].corners, measurement.corners[n]) for n in numbers]
    return {
        "angles.png": partial(draw_angles, true=true, measured=measurement.largest_angles, limit=_LARGEST_ANGLE),
        "films.png": partial(draw_films, films=shown),
    }
