"""What the shared command line asks of every model's training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Part = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What a person may decide of a training; None leaves it to the model's recipe.

    Units: `minutes` ends the training after the epoch in which it passes.
    """

    epochs: int | None = None
    minutes: float = float("inf")
    seed: int = 0
    device: str = "cpu"
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a model said of one part of a data set, and what trivial rules said of the same.

    Shapes: labels (n,) class numbers; probabilities (n, classes); groups (n,) patient or lesion;
    each baseline (n,), the score of `positive`.
    """

    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    groups: NDArray[np.str_]
    positive: tuple[str, ...]
    """the classes that count as ill; their probabilities add up to the score"""
    threshold: float = 0.5
    baselines: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


class Experiment(Protocol):
    """A module `ainode.models.<model>.experiment`: how the model is trained and put to the test."""

    def train(self, data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
        """Train on the part `train` of `data`, write into `out`; return the weight files by their manifest name."""
        ...

    def evaluate(self, data: Path, weights: Mapping[str, Path], part: Part) -> Evaluated:
        """Return what the weights say of one part of `data`."""
        ...
