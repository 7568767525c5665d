"""Whether a picture shows a spine from the front: pictures to learn it from, and a fit on the encoder's features.

The last step of a training, after the epochs: the layers that find the vertebrae stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ainode.models.spine_vertebrae.augment import varied
from ainode.models.spine_vertebrae.changed_films import quarter_turned, upside_down
from ainode.models.spine_vertebrae.companions import (
    chest_projections,
    chest_side_views,
    drawn_side_views,
    without_spine,
)
from ainode.models.spine_vertebrae.dataset import Film
from ainode.models.spine_vertebrae.network import SpineNetwork
from ainode.models.spine_vertebrae.preprocess import network_input
from ainode.models.spine_vertebrae.training import Material

_BATCH = 8
# The inverse of the penalty. A fifth of the owners of pictures is left out of a first fit: the threshold of the card
# was chosen by the scores of their pictures.
_STRENGTH, _LEFT_OUT = 0.1, 0.2
_PART = (0.35, 0.75)
"""the height of a part of a film, in that of the film"""
_SEED = 31


@dataclass(frozen=True, slots=True)
class View:
    """Pictures of one kind, and how many changed ones are learned from."""

    name: str
    films: Sequence[Film]
    count: int
    is_frontal: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """What the network sees in changed pictures of one kind.

    Shapes: features (n, 224); owners (n,), the patient of each picture.
    """

    view: View
    features: NDArray[np.float32]
    owners: NDArray[np.str_]


def views(material: Material, data: Path) -> tuple[View, ...]:
    """Return pictures of spines from the front and others, of every kind that there is."""
    marked = [film for film in material.drawn if film.name.startswith("marked")]
    drawn = [film for film in material.drawn if not film.name.startswith("marked")]
    parts = [_part(film, number) for number, film in enumerate(material.films)]
    kinds = (
        View("films", material.films, 160, is_frontal=True),
        View("parts of films", parts, 120, is_frontal=True),
        View("drawn from the front", drawn, 64, is_frontal=True),
        View("chests with raised bone", marked, 32, is_frontal=True),
        View("drawn from the side", drawn_side_views(), 64),
        View("chests with faded bone", chest_projections(data), 60),
        View("chests from the side", chest_side_views(data, "train"), 60),
        View("films turned by 90 degrees", [quarter_turned(film) for film in material.films], 64),
        View("films upside down", [upside_down(film) for film in material.films], 80),
    )
    return tuple(kind for kind in kinds if kind.films)


def learn_view(network: SpineNetwork, kinds: Sequence[View], out: Path, seed: int) -> None:
    """Fit the network's answer of the view; write the scores of pictures left out of a first fit to `views.json`."""
    described = [_described(network, kind, np.random.default_rng([_SEED, seed, n])) for n, kind in enumerate(kinds)]
    owners = np.unique(np.concatenate([kind.owners for kind in described]))
    left_out = np.random.default_rng([_SEED, seed]).permutation(owners)[: round(_LEFT_OUT * len(owners))]
    first = _fitted(described, [~np.isin(kind.owners, left_out) for kind in described])
    scores = dict(_scores(first, described, left_out))
    (out / "views.json").write_text(json.dumps(scores, indent=2) + "\n", "utf-8")
    _take_over(network, _fitted(described, [np.ones(len(kind.owners), bool) for kind in described]))


def _part(film: Film, number: int) -> Film:
    random = np.random.default_rng([_SEED, number])
    rows = film.picture.shape[0]
    height = round(rows * random.uniform(*_PART))
    first = int(random.integers(rows - height + 1))
    return without_spine(film.name, film.picture[first : first + height], film.patient)


def _described(network: SpineNetwork, kind: View, random: np.random.Generator) -> Described:
    """Return the features of changed pictures; each picture of the kind is drawn once before one is drawn again."""
    order = random.permutation(np.resize(np.arange(len(kind.films)), kind.count))
    films = [kind.films[number] for number in order]
    features = [_features(network, films[first : first + _BATCH], random) for first in range(0, len(films), _BATCH)]
    return Described(kind, np.concatenate(features), np.array([film.patient for film in films]))


def _features(network: SpineNetwork, films: Sequence[Film], random: np.random.Generator) -> NDArray[np.float32]:
    pictures = network_input(np.stack([varied(film, random)[0] for film in films]))
    with torch.inference_mode():
        return np.asarray(network.described(torch.from_numpy(pictures)).numpy(), np.float32)


def _fitted(described: Sequence[Described], chosen: Sequence[NDArray[np.bool_]]) -> Pipeline:
    """Return a logistic regression in which each kind counts alike among those of its side."""
    counts = {side: sum(kind.view.is_frontal is side for kind in described) for side in (True, False)}
    pairs = list(zip(described, chosen, strict=True))
    weight = [np.full(use.sum(), 1 / (max(use.sum(), 1) * counts[kind.view.is_frontal])) for kind, use in pairs]
    truth = [np.full(use.sum(), kind.view.is_frontal) for kind, use in pairs]
    weights = np.concatenate(weight)
    return make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=5000)).fit(
        np.concatenate([kind.features[use] for kind, use in pairs]),
        np.concatenate(truth),
        logisticregression__sample_weight=weights * len(weights) / weights.sum(),
    )


def _scores(
    rule: Pipeline, described: Sequence[Described], left_out: NDArray[np.str_]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield least, median and most of what each kind's pictures look like, of those left out."""
    for kind in described:
        use = np.isin(kind.owners, left_out)
        if use.any():
            score = rule.predict_proba(kind.features[use])[:, 1]
            low, middle, high = (round(float(value), 3) for value in np.quantile(score, (0, 0.5, 1)))
            yield kind.view.name, {"n": int(use.sum()), "least": low, "median": middle, "most": high}


def _take_over(network: SpineNetwork, rule: Pipeline) -> None:
    """Write a fit into the network: the features need no scaling then."""
    scaler, line = rule[0], rule[1]
    weight = line.coef_ / scaler.scale_
    bias = line.intercept_ - weight @ scaler.mean_
    with torch.no_grad():
        network.frontal.weight.copy_(torch.from_numpy(weight))
        network.frontal.bias.copy_(torch.from_numpy(bias))
