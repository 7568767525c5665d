"""Training and evaluation of the spine model; synthetic pictures are rendered into an empty data folder first."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from ainode.models.running.runtime import Execution
from ainode.models.spine_radiograph.card import DETECTOR, read_card
from ainode.models.spine_radiograph.dataset import rendered_split
from ainode.models.spine_radiograph.detector_training import DetectorRecipe, train_detector
from ainode.models.spine_radiograph.evaluation import detection_report, figures_of_parts, member_probabilities
from ainode.models.spine_radiograph.model import SpineRadiographModel
from ainode.models.spine_radiograph.network import COMPACT_DENSENET
from ainode.models.spine_radiograph.release import export_weights
from ainode.models.spine_radiograph.training import Recipe, train_classifier
from ainode.models.training.experiment import Baseline, Evaluation, Part, TrainingOptions
from ainode.models.training.shortcuts import Facts, facts, pixel_baseline, shortcut_baselines

_SEEDS: Mapping[Part, int] = {"train": 0, "test": 2}
_PICTURES = {"train": 6000, "validation": 800, "test": 1200}
_RECIPES = (
    Recipe("resnet10t", epochs=17),
    Recipe("tf_efficientnetv2_b0", epochs=11),
    Recipe(COMPACT_DENSENET, epochs=34),
)


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train the three classifiers and the detector; return their files, in half precision."""
    card, seed = read_card(), options.seed
    parts = {part: rendered_split(data, part, seed=seed, count=_PICTURES[part]) for part in ("train", "validation")}
    for recipe in _RECIPES:
        train_classifier(recipe, parts["train"], parts["validation"], out / recipe.architecture, options=options)
    count = len(parts["train"].labels)
    train_detector(DetectorRecipe(), data / "detector", count, out / DETECTOR, options=options)
    files = export_weights(out, out, card)
    return {f"{card.name}/{name}": path for name, path in files.items()}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the ensemble's results on synthetic pictures, beside baselines of shortcuts and of 16 x 16 pixels."""
    card = read_card()
    training, stack = (
        rendered_split(data, name_of_part, seed=_SEEDS[name_of_part], count=_PICTURES[name_of_part])
        for name_of_part in ("train", part)
    )
    files_of = {f"{card.name}/{name}": name for name in card.files}
    files = {name: weights[title] for title, name in files_of.items()}
    with tempfile.TemporaryDirectory() as cache:
        model = SpineRadiographModel.load(files, execution=Execution(Path(cache)), card=card)
        members = member_probabilities(model, stack)
        boxes = detection_report(model, data / "detector", part, len(stack.labels))
    grays = [_facts(data, name_of_part, _PICTURES[name_of_part]) for name_of_part in ("train", part)]
    score = members @ np.asarray([network.weight for network in card.networks])
    return Evaluation(
        class_names=("normal", "abnormal"),
        labels=stack.labels.astype(np.int64),
        probabilities=np.stack([1 - score, score], axis=1),
        groups=np.asarray([f"picture {number}" for number in range(len(score))]),
        positive=("abnormal",),
        threshold=card.threshold,
        baselines={
            **shortcut_baselines(grays[0], training.labels, np.arange(len(training.labels)), grays[1]),
            **pixel_baseline(training.pictures, training.labels, stack.pictures),
            **{
                f"{network.name} alone": Baseline(members[:, number], "part")
                for number, network in enumerate(card.networks)
            },
        },
        weights=tuple(files_of),
        further={**figures_of_parts(stack, score, card.threshold), "detector": boxes},
    )


def _facts(data: Path, part: str, count: int) -> list[Facts]:
    """Return the shortcuts of the pictures in their own frame; the stack's pictures are stretched."""
    folder = data / "detector" / "images" / part
    pictures = (cv2.imread(str(folder / f"{number:06d}.png"), cv2.IMREAD_GRAYSCALE) for number in range(count))
    return [facts(np.asarray(picture)) for picture in pictures]
