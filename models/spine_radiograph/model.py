"""The spine read: three classifiers and their map in one graph, then the detector on an abnormal picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import MissingNetwork
from ainode.models.running.precision import Trial, fitted
from ainode.models.running.runtime import (
    Execution,
    Precision,
    Recipe,
    Runner,
    cpu_has_bf16,
    has_graph,
    runner,
    sha256_of,
)
from ainode.models.running.saliency import weighted_map
from ainode.models.spine_radiograph.card import CARD_PATH, DETECTOR, Card, read_card
from ainode.models.spine_radiograph.checkpoints import class_names
from ainode.models.spine_radiograph.detector import Box, Detector
from ainode.models.spine_radiograph.preprocess import (
    Picture,
    Placement,
    classifier_input,
    letterbox,
    map_on_source_grid,
    normalized_range,
)

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's reading of one radiograph.

    Shapes: saliency (rows, columns) float32 of the source picture, 0 to 1, of the same forward
    pass as `probability`; boxes on the same grid, empty when the picture is not abnormal.
    """

    probability: float
    abnormal: bool
    per_network: Mapping[str, float]
    boxes: tuple[Box, ...]
    saliency: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpineRadiographModel:
    """A loaded model. `weights_sha256` has the digest of each network's file."""

    card: Card
    weights_sha256: Mapping[str, str]
    classify: Runner
    detector: Detector
    precision: Precision
    device: str
    detector_precision: Precision = "f32"

    @classmethod
    def load(cls, paths: Mapping[str, Path], *, execution: Execution, card: Card | None = None) -> SpineRadiographModel:
        """Load every network that the card names from `paths`, by network name and "detector".

        Raises: MissingNetwork when `paths` lacks a network (the others are never used without it);
        CheckpointRefused when a file holds another network; PrecisionRefused when a lower
        precision moves a probability by more than 0.005 on the reference pictures.
        """
        card = card or read_card()
        missing = [name for name in card.files if name not in paths]
        if missing:
            raise MissingNetwork(f"{card.name}: no weights for {', '.join(missing)}; the rest is not used without it")
        digests = {name: sha256_of(paths[name]) for name in card.files}
        classify = _fitted_classifier(card, ensemble_recipe(card, paths, digests), execution)
        names = class_names(paths[DETECTOR]) or card.detector.class_names
        detect = _fitted_detector(
            card, detector_recipe(card, paths[DETECTOR], digests[DETECTOR], len(names)), execution
        )
        detector_card = card.detector
        detector = Detector(
            lambda x: detect(x)[0], names, detector_card.side, detector_card.confidences, detector_card.iou
        )
        return cls(card, digests, classify, detector, classify.precision, classify.device, detect.precision)

    def predict(self, pixels: Picture, *, height_per_width: float = 1.0) -> Prediction:
        """Return the reading of one presented picture (larger is brighter).

        `height_per_width` is the height of a pixel in widths; boxes and map are on the picture's own grid.

        Shapes: pixels (rows, columns), any range.
        Raises: UnusablePicture when the picture is too small, empty or not finite.
        """
        pixels = np.asarray(pixels, np.float32)
        card = self.card
        prepared = classifier_input(pixels, card.side, card.resize, height_per_width=height_per_width)
        logits, maps = self.classify(prepared)
        of_networks = sigmoid(logits[0])
        shares = [network.weight for network in self.card.networks]
        probability = float(np.dot(of_networks, shares))
        abnormal = probability > self.card.threshold
        return Prediction(
            probability=probability,
            abnormal=abnormal,
            per_network={n.name: float(p) for n, p in zip(self.card.networks, of_networks, strict=True)},
            boxes=self.detector(pixels, height_per_width=height_per_width) if abnormal else (),
            saliency=self._on_source(weighted_map(maps[0], shares), pixels, height_per_width),
        )

    def _on_source(
        self, coarse_map: NDArray[np.float32], pixels: Picture, height_per_width: float
    ) -> NDArray[np.float32]:
        """Return the ensemble's map on the source grid, for a stretched and for a padded picture."""
        if self.card.resize == "pad":
            empty = np.zeros(pixels.shape, np.float32)
            placement = letterbox(empty, self.card.side, height_per_width=height_per_width)[1]
            coarse_map = _unpadded_map(coarse_map, placement, self.card.side)
        rows, columns = pixels.shape
        return map_on_source_grid(coarse_map, Placement((1.0, 1.0), (0.0, 0.0), (rows, columns)))


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probabilities of logits."""
    shares: NDArray[np.float64] = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return shares


def ensemble_recipe(card: Card, paths: Mapping[str, Path], digests: Mapping[str, str]) -> Recipe:
    """Return the recipe of the ensemble's one graph, from the card and its files."""

    def build() -> nn.Module:
        from ainode.models.running.checkpoints import load  # noqa: PLC0415  # torch, which a kept graph does without
        from ainode.models.spine_radiograph.network import Ensemble, classifier  # noqa: PLC0415  # torch and timm

        members = {
            network.name: load(classifier(network.architecture), paths[network.name]) for network in card.networks
        }
        return Ensemble(members, card.mean, card.std)

    members_text = [f"{network.architecture} {digests[network.name]}" for network in card.networks]
    key = f"spine ensemble {members_text} {card.mean} {card.std}"
    files = {network.name: paths[network.name] for network in card.networks}
    return Recipe(build, (1, 1, card.side, card.side), key, "spine_radiograph_ensemble", files)


def detector_recipe(card: Card, path: Path, digest: str, class_count: int) -> Recipe:
    """Return the recipe of the detector's graph, from its file."""
    side = card.detector.side

    def build() -> nn.Module:
        from ainode.models.running.checkpoints import load  # noqa: PLC0415  # torch, which a kept graph does without
        from ainode.models.spine_radiograph.detector_network import GrayDetector, yolo  # noqa: PLC0415  # ultralytics

        return GrayDetector(load(yolo(card.detector.architecture, class_count), path))

    key = f"spine detector {card.detector.architecture} {class_count} {digest}"
    return Recipe(build, (1, 1, side, side), key, "spine_radiograph_detector", {DETECTOR: path})


def has_detector_graph(paths: Mapping[str, Path], *, execution: Execution) -> bool:
    """Return whether the shipped card's detector runs without ultralytics, which builds it where no graph of it is."""
    card, path = read_card(), paths[DETECTOR]
    names = class_names(path) or card.detector.class_names
    return has_graph(detector_recipe(card, path, sha256_of(path), len(names)), execution)


def weights_in(folder: Path, card: Card | None = None) -> dict[str, Path]:
    """Return the card's files that are in a folder, by network name; an absent file is left out."""
    files = (card or read_card(CARD_PATH)).files
    return {name: folder / file for name, file in files.items() if (folder / file).is_file()}


def reference_pictures() -> tuple[Picture, ...]:
    """Return pictures for checks of precision, which are seeded phantoms."""
    from ainode.models.phantoms.spine import spine_radiograph  # noqa: PLC0415  # for a lower precision alone

    phantoms = (spine_radiograph(np.random.default_rng(seed), rows=512, columns=384) for seed in range(4))
    return tuple(phantom.image.astype(np.float32) for phantom in phantoms)


def probabilities(card: Card, run: Runner, inputs: Iterable[Picture]) -> NDArray[np.float64]:
    """Return the ensemble's probability (n,) of each of the classifier's inputs."""
    shares = [network.weight for network in card.networks]
    return np.asarray([np.dot(sigmoid(run(picture)[0][0]), shares) for picture in inputs])


def _fitted_classifier(card: Card, recipe: Recipe, execution: Execution) -> Runner:
    """Return the ensemble in the precision of an execution; its answer is the ensemble's probability."""
    trial = Trial(
        card.name,
        recipe.key,
        lambda chosen_execution: runner(recipe, chosen_execution),
        lambda: [classifier_input(picture, card.side, card.resize) for picture in reference_pictures()],
        lambda run, inputs: probabilities(card, run, inputs),
    )
    return fitted(trial, execution)


def _fitted_detector(card: Card, recipe: Recipe, execution: Execution) -> Runner:
    """Return the detector in the precision of an execution; its answers are the highest score of each class."""
    trial = Trial(
        f"{card.name} {DETECTOR}",
        recipe.key,
        lambda chosen_execution: runner(recipe, chosen_execution),
        lambda: [letterbox(normalized_range(picture), card.detector.side)[0] for picture in reference_pictures()],
        lambda run, squares: np.concatenate(
            [run(np.ascontiguousarray(square[None, None]))[0][0, 4:].max(axis=1) for square in squares]
        ).astype(np.float64),
    )
    return fitted(trial, execution)


def _unpadded_map(coarse_map: NDArray[np.float32], placement: Placement, side: int) -> NDArray[np.float32]:
    """Return the part of a coarse map that the picture fills, at the input's resolution."""
    full = cv2.resize(coarse_map, (side, side), interpolation=cv2.INTER_LINEAR)
    left, top = (round(v) for v in placement.shift)
    rows, columns = placement.source
    height, width = round(rows * placement.scale[1]), round(columns * placement.scale[0])
    return np.ascontiguousarray(full[top : top + height, left : left + width], np.float32)


__all__ = ["Box", "Prediction", "SpineRadiographModel", "cpu_has_bf16", "weights_in"]
