"""Training and evaluation of the spine: an empty data folder is filled with synthetic pictures first."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ainode.models.running.runtime import Execution
from ainode.models.spine_radiograph.card import DETECTOR, read_card
from ainode.models.spine_radiograph.dataset import Stack, render
from ainode.models.spine_radiograph.detector_training import DetectorRecipe, train_detector
from ainode.models.spine_radiograph.evaluation import member_probabilities
from ainode.models.spine_radiograph.model import SpineRadiographModel
from ainode.models.spine_radiograph.network import COMPACT_DENSENET
from ainode.models.spine_radiograph.release import export
from ainode.models.spine_radiograph.training import Recipe, train_classifier
from ainode.models.training.experiment import Evaluated, Part, TrainingOptions

_PICTURES = {"train": 6000, "validation": 800, "test": 1200}
_RECIPES = (
    Recipe("resnet10t", epochs=17),
    Recipe("tf_efficientnetv2_b0", epochs=11),
    Recipe(COMPACT_DENSENET, epochs=34),
)


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train the three classifiers and the detector; return their files, half precision."""
    card, seed = read_card(), options.seed
    parts = {part: render(data, part, seed=seed, count=_PICTURES[part]) for part in ("train", "validation")}
    for recipe in _RECIPES:
        train_classifier(recipe, parts["train"], parts["validation"], out / recipe.architecture, options=options)
    count = len(parts["train"].labels)
    train_detector(DetectorRecipe(), data / "detector", count, out / DETECTOR, options=options)
    made = export(out, out, card)
    return {f"{card.name}/{name}": path for name, path in made.items()}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluated:
    """Return the ensemble's answers on synthetic pictures; the mean gray value is the trivial rule beside it."""
    card = read_card()
    stack: Stack = render(data, part, seed=2 if part == "test" else 0, count=_PICTURES[part])
    files = {name: weights[f"{card.name}/{name}"] for name in card.needed}
    with tempfile.TemporaryDirectory() as cache:
        members = member_probabilities(SpineRadiographModel.load(files, how=Execution(Path(cache)), card=card), stack)
    score = members @ np.asarray([network.weight for network in card.networks])
    return Evaluated(
        class_names=("normal", "abnormal"),
        labels=stack.labels.astype(np.int64),
        probabilities=np.stack([1 - score, score], axis=1),
        groups=np.asarray([f"picture {number}" for number in range(len(score))]),
        positive=("abnormal",),
        threshold=card.threshold,
        baselines={"mean gray value": stack.pictures.mean(axis=(1, 2)).astype(np.float64)},
    )
