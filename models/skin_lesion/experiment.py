"""How the model is trained and put to the test, for `ainode train` and `ainode evaluate`.

Training runs Keras on TensorFlow, evaluation on torch: each is imported when it is asked for,
and one process does one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ainode.models.training.experiment import Evaluated, Part, TrainingOptions


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train on the part `train` of `data`, write into `out`; return the weight file by its manifest name."""
    from ainode.models.skin_lesion import training  # noqa: PLC0415  # brings TensorFlow along

    return training.train(data, out, options)


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluated:
    """Return what the weights say of one part of `data`."""
    from ainode.models.skin_lesion import evaluation  # noqa: PLC0415  # brings torch along

    return evaluation.evaluate(data, weights, part)
