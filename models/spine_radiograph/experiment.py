"""Training and evaluation of the spine model.

The data are pictures with boxes in the layout of VinDr-SpineXR, or an empty folder, into which phantoms are rendered.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ainode.models.running.runtime import Execution
from ainode.models.spine_radiograph.annotations import annotated_parts, is_annotated
from ainode.models.spine_radiograph.card import DETECTOR, Card, read_card
from ainode.models.spine_radiograph.dataset import SPLITS, Stack, rendered_split, stored_split
from ainode.models.spine_radiograph.detector_training import DetectorRecipe, train_detector
from ainode.models.spine_radiograph.evaluation import (
    detection_report,
    figures_of_parts,
    member_probabilities,
    validation_choice,
)
from ainode.models.spine_radiograph.model import SpineRadiographModel
from ainode.models.spine_radiograph.network import COMPACT_DENSENET
from ainode.models.spine_radiograph.release import export_weights
from ainode.models.spine_radiograph.training import Recipe, train_classifier
from ainode.models.training.choice import choice_beside, write_choice
from ainode.models.training.experiment import Baseline, Evaluation, Part, TrainingOptions
from ainode.models.training.parts import held_out, refuse_strange_folder
from ainode.models.training.shortcuts import Facts, facts, pixel_baseline, shortcut_baselines

_SEEDS: Mapping[Part, int] = {"train": 0, "test": 2}
_PICTURES = {"train": 6000, "validation": 800, "test": 1200}
_VALIDATION_SHARE = 0.1
"""of the studies of annotated pictures that are for training"""
_RECIPES = (
    Recipe("resnet10t", epochs=17),
    Recipe("tf_efficientnetv2_b0", epochs=11),
    Recipe(COMPACT_DENSENET, epochs=34),
)
_DETECTOR_RECIPE = DetectorRecipe()
_OWN_FILES = (*(f"{split}.npz" for split in SPLITS), "detector")
_LAYOUTS = "annotations/train.csv, annotations/test.csv, train_images/ and test_images/, as VinDr-SpineXR has them"


@dataclass(frozen=True, slots=True)
class StoredSplits:
    """Two splits, and the folder of the detector's pictures of both."""

    folder: Path
    first: Stack
    second: Stack


def train(
    data: Path,
    out: Path,
    options: TrainingOptions,
    *,
    recipes: Sequence[Recipe] = _RECIPES,
    detector_recipe: DetectorRecipe = _DETECTOR_RECIPE,
) -> Mapping[str, Path]:
    """Train the three classifiers and the detector; return their files, in half precision.

    Shares and threshold of the ensemble are chosen on the validation pictures, and kept in `out`.
    Raises: ModelError if the folder is neither empty nor has the layout, or something in it cannot be read.
    """
    card = read_card()
    stored = training_splits(data, out / "data", options.seed)
    for recipe in recipes:
        train_classifier(recipe, stored.first, stored.second, out / recipe.architecture, options=options)
    scored = min(detector_recipe.validation_pictures, len(stored.second.labels))
    fitting = replace(detector_recipe, validation_pictures=scored)
    train_detector(fitting, stored.folder, len(stored.first.labels), out / DETECTOR, options=options)
    files = export_weights(out, out, card)
    model = SpineRadiographModel.load(files, execution=Execution(out, "torch-cpu"), card=card)
    choice = validation_choice(stored.second.labels, member_probabilities(model, stored.second))
    shares = {network.name: share for network, share in zip(card.networks, choice.weights, strict=True)}
    write_choice(out, {"shares": shares, "threshold": choice.threshold})
    return {f"{card.name}/{name}": path for name, path in files.items()}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the ensemble's results on a part, beside baselines of shortcuts and of 16 x 16 pixels.

    Shares and threshold are those of the weights' training, or, of the shipped weights, those of the card.
    Raises: as `train`.
    """
    card = chosen_card(read_card(), weights)
    files_of = {f"{card.name}/{name}": name for name in card.files}
    files = {name: weights[title] for title, name in files_of.items()}
    with tempfile.TemporaryDirectory() as scratch:
        stored = evaluation_splits(data, part, Path(scratch) / "data")
        training, stack = stored.first, stored.second
        model = SpineRadiographModel.load(files, execution=Execution(Path(scratch) / "graphs"), card=card)
        members = member_probabilities(model, stack)
        boxes = detection_report(model, stored.folder, part, len(stack.labels))
        grays = [
            _facts(stored.folder, split, len(labels))
            for split, labels in (("train", training.labels), (part, stack.labels))
        ]
    score = members @ np.asarray([network.weight for network in card.networks])
    return Evaluation(
        class_names=("normal", "abnormal"),
        labels=stack.labels.astype(np.int64),
        probabilities=np.stack([1 - score, score], axis=1),
        groups=stack.studies,
        positive=("abnormal",),
        threshold=card.threshold,
        baselines={
            **shortcut_baselines(grays[0], training.labels, training.studies, grays[1]),
            **pixel_baseline(training.pictures, training.labels, stack.pictures),
            **{
                f"{network.name} alone": Baseline(members[:, number], "part")
                for number, network in enumerate(card.networks)
            },
        },
        weights=tuple(files_of),
        further={**figures_of_parts(stack, score, card.threshold), "detector": boxes},
    )


def chosen_card(card: Card, weights: Mapping[str, Path]) -> Card:
    """Return the card with the shares and the threshold that the training of these weights chose."""
    choice = choice_beside(weights.values())
    if not choice:
        return card
    networks = tuple(replace(network, weight=choice["shares"][network.name]) for network in card.networks)
    return replace(card, networks=networks, threshold=choice["threshold"])


def training_splits(data: Path, out: Path, seed: int) -> StoredSplits:
    """Return the pictures to learn from and those that choose the epochs: no study is in both.

    Annotated pictures are stored in `out`.
    """
    if not is_annotated(data):
        refuse_strange_folder(data, _OWN_FILES, _LAYOUTS)
        training, validation = (
            rendered_split(data, split, seed=seed, count=_PICTURES[split]) for split in ("train", "validation")
        )
        return StoredSplits(data / "detector", training, validation)
    pictures = annotated_parts(data)["train"]
    is_abnormal, studies = [bool(picture.boxes) for picture in pictures], [picture.study for picture in pictures]
    is_validation = held_out(is_abnormal, studies, share=_VALIDATION_SHARE, seed=seed)
    training, validation = (
        stored_split(
            out, split, [picture for picture, chosen in zip(pictures, is_validation == wanted, strict=True) if chosen]
        )
        for split, wanted in (("train", False), ("validation", True))
    )
    return StoredSplits(out / "detector", training, validation)


def evaluation_splits(data: Path, part: Part, out: Path) -> StoredSplits:
    """Return the part `train`, which baselines learn from, and the part that is evaluated; `out` as above."""
    if is_annotated(data):
        parts = annotated_parts(data)
        training, stack = (stored_split(out, split, parts[split]) for split in ("train", part))
        return StoredSplits(out / "detector", training, stack)
    refuse_strange_folder(data, _OWN_FILES, _LAYOUTS)
    training, stack = (
        rendered_split(data, split, seed=_SEEDS[split], count=_PICTURES[split]) for split in ("train", part)
    )
    return StoredSplits(data / "detector", training, stack)


def _facts(folder: Path, split: str, count: int) -> list[Facts]:
    """Return the shortcuts of the pictures in their own frame; the stack's pictures are stretched."""
    paths = (folder / "images" / split / f"{number:06d}.png" for number in range(count))
    return [facts(np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))) for path in paths]
