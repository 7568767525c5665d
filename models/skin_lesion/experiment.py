"""Training and evaluation of the model, for `ainode train` and `ainode evaluate`.

The two functions import torch, which a caller of the card does without.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ainode.models.training.experiment import Evaluation, Part, TrainingOptions


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train on the part `train` of `data`, write into `out`; return the file of weights by its manifest name."""
    from ainode.models.skin_lesion import training  # noqa: PLC0415  # brings torch along

    return training.train(data, out, options)


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the weights' results on one part of `data`."""
    from ainode.models.skin_lesion import evaluation  # noqa: PLC0415  # brings torch along

    return evaluation.evaluate(data, weights, part)
