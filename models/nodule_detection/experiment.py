"""Training and evaluation of the model, for `ainode train` and `ainode evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ainode.models.nodule_detection import evaluation, training
from ainode.models.training.experiment import Evaluation, Part, TrainingOptions


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train on the part `train` of `data`, write into `out`; return the file of weights by its manifest name."""
    return training.train(data, out, options)


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the weights' results on one part of `data`."""
    return evaluation.evaluate(data, weights, part)
