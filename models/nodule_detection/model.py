"""The search for nodules in one chest CT: candidates with a place, a size and a probability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ainode.models.card import NetworkCard
from ainode.models.errors import CheckpointRefused, MissingNetwork
from ainode.models.following.grid import Grid, Omission, Position, triple
from ainode.models.nodule_detection.card import read_card
from ainode.models.nodule_detection.search import SIDE, Search, searched
from ainode.models.running.precision import Trial, fitted
from ainode.models.running.runtime import Execution, Recipe, Runner, runner, sha256_of

if TYPE_CHECKING:
    from torch import nn

_BATCH = 50
_APART_MM = 4.0
_REFERENCES = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that may be a nodule.

    Units: mm, LPS; the diameter is that of a ball that would answer alike, and no measurement.
    """

    position_mm: Position
    diameter_mm: float
    probability: float


@dataclass(frozen=True, slots=True)
class Detection:
    """The candidates of a scan, the likeliest first; those above the threshold are marks.

    Units: volume of the aerated lung in ml.
    """

    candidates: tuple[Candidate, ...]
    threshold: float

    @property
    def marks(self) -> tuple[Candidate, ...]:
        """Return the candidates above the threshold."""
        return tuple(candidate for candidate in self.candidates if candidate.probability > self.threshold)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt's line over the logit, and the probability above which a candidate is a mark."""

    slope: float
    intercept: float
    threshold: float

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probabilities of logits."""
        return np.asarray(1 / (1 + np.exp(-(self.slope * logits.astype(np.float64) + self.intercept))), np.float64)


@dataclass(frozen=True, slots=True)
class NoduleDetector:
    """A loaded model. `weights_sha256` is the digest of the file of its weights."""

    card: NetworkCard
    calibration: Calibration
    weights_sha256: str
    run: Runner

    @classmethod
    def load(cls, paths: Mapping[str, Path], *, execution: Execution) -> NoduleDetector:
        """Load the card's network from `paths`.

        Raises: MissingNetwork when `paths` lacks the network; CheckpointRefused when the file is not such a
        network; PrecisionRefused when a lower precision moves a probability by more than 0.005.
        """
        card = read_card()
        if card.network not in paths:
            raise MissingNetwork(f"{card.name}: no weights for {card.network}")
        path = paths[card.network]
        recipe = recipe_of(path)
        calibration, digest = calibration_of(path), sha256_of(path)
        trial = Trial(
            card.name,
            recipe.key,
            lambda chosen_execution: cls(card, calibration, digest, runner(recipe, chosen_execution)),
            reference_cubes,
            reference_answers,
        )
        return fitted(trial, execution)

    def predict(self, scan: Grid) -> Detection | Omission:
        """Return the candidates of a chest CT, or why nodules are not searched in the scan."""
        search = searched(scan)
        match search:
            case Omission():
                return search
            case Search():
                probabilities = self.probabilities(search)
                return Detection(_candidates(search, probabilities), self.calibration.threshold)

    def probabilities(self, search: Search) -> NDArray[np.float64]:
        """Return the probability of each candidate of a search."""
        places = search.blobs.places
        # The graph has one size of batch: the last batch is filled with copies of a place.
        padded = places[np.arange(_BATCH * math.ceil(len(places) / _BATCH)) % max(1, len(places))]
        logits = [
            self.run(search.cubes(padded[first : first + _BATCH]))[0][:, 0] for first in range(0, len(padded), _BATCH)
        ]
        return self.calibration.probabilities(np.concatenate([*logits, np.zeros(0)])[: len(places)])


def recipe_of(path: Path) -> Recipe:
    """Return the network of a file of weights, as the runtime runs it."""

    def build() -> nn.Module:
        from ainode.models.nodule_detection.network import NoduleNetwork  # noqa: PLC0415  # torch
        from ainode.models.running.checkpoints import load  # noqa: PLC0415  # torch, which a kept graph does without

        return load(NoduleNetwork(), path)

    key = f"nodule_detection|{sha256_of(path)}"
    return Recipe(build, (_BATCH, 2, SIDE, SIDE, SIDE), key, "nodule_detection", {"towers": path})


def calibration_of(path: Path) -> Calibration:
    """Return the calibration in the header of a file of weights.

    Raises: CheckpointRefused if the file has none.
    """
    try:
        with safe_open(path, framework="np") as file:
            entries = dict(file.metadata() or {})
        return Calibration(*(float(entries[name]) for name in ("slope", "intercept", "threshold")))
    except (SafetensorError, FileNotFoundError, KeyError) as error:
        raise CheckpointRefused(
            f"{path}: not weights of nodule_detection: no slope, intercept and threshold in the header"
        ) from error


def _candidates(search: Search, probabilities: NDArray[np.float64]) -> tuple[Candidate, ...]:
    """Return the candidates by falling probability; of several in one nodule, the likeliest."""
    places, diameters = search.blobs.places, search.blobs.diameters
    return tuple(
        Candidate(triple(search.cells.positions(places[row])), float(diameters[row]), float(probabilities[row]))
        for row in distinct(places, diameters, probabilities)
    )


def distinct(
    places: NDArray[np.float64], diameters: NDArray[np.float64], probabilities: NDArray[np.float64]
) -> list[int]:
    """Return the rows of candidates that lie in no likelier candidate, the likeliest first."""
    rows: list[int] = []
    is_free = np.full(len(places), fill_value=True)
    for row in np.argsort(-probabilities, kind="stable"):
        if is_free[row]:
            rows.append(int(row))
            reach = max(_APART_MM, float(diameters[row]) / 2)
            is_free &= np.linalg.norm(places - places[row], axis=1) > reach
    return rows


def reference_cubes() -> NDArray[np.float32]:
    """Return one batch of the network's inputs for checks of precision: balls in noise, from none to bright ones.

    The probabilities of faint balls lie between 0 and 1, where rounding moves a probability; bright ones have all 1.
    """
    line = np.linspace(-1, 1, SIDE)
    distance = np.sqrt(line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2)
    numbers = np.arange(_BATCH)[:, None, None, None]
    sizes, contrasts = np.linspace(0.1, 0.8, 10)[numbers % 10], numbers * 0.4 / (_BATCH - 1)
    ball = 0.1 + contrasts / (1 + np.exp(-12 * (sizes - distance)))
    ball += np.random.default_rng(0).normal(0, 0.1, ball.shape)
    return np.stack([ball, np.roll(ball, 1, axis=0)], axis=1).astype(np.float32)


def reference_answers(model: NoduleDetector, cubes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probability of each cube."""
    return model.calibration.probabilities(model.run(cubes)[0][:, 0])
