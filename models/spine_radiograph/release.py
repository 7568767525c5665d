"""From a training folder to weights that ship, and their figures.

python -m ainode.models.spine_radiograph.release --run DIR --weights weights --report DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ainode.models.phantoms.spine import CLASS_NAMES
from ainode.models.running.checkpoints import save_half
from ainode.models.running.runtime import Execution, sha256_of
from ainode.models.spine_radiograph.card import DETECTOR, Card, read_card
from ainode.models.spine_radiograph.dataset import Stack, render
from ainode.models.spine_radiograph.detector import yolo
from ainode.models.spine_radiograph.evaluation import (
    chosen,
    classification_report,
    detection_report,
    member_probabilities,
    write_report,
)
from ainode.models.spine_radiograph.model import SpineRadiographModel, weights_in
from ainode.models.spine_radiograph.network import classifier
from ainode.models.spine_radiograph.training import Supervised
from ainode.models.training.epochs import load_best
from ainode.models.training.metrics import auc, bootstrapped

_TEST_PICTURES = 1200


def export(run: Path, weights: Path, card: Card) -> dict[str, Path]:
    """Write every network's best weights, half precision, without what only training needed."""
    weights.mkdir(parents=True, exist_ok=True)
    for network in card.networks:
        supervised = Supervised(classifier(network.architecture))
        load_best(supervised, run / network.name)
        save_half(supervised.network, weights / network.file)
    detector = yolo(card.detector.architecture, len(CLASS_NAMES))
    load_best(detector, run / DETECTOR)
    save_half(detector, weights / card.detector.file)
    return weights_in(weights, card)


def manifest(paths: Mapping[str, Path], card: Card, figures: Mapping[str, str], data: str) -> str:
    """Return the manifest's entries of this model: one per file, its figures in words."""
    return "\n".join(
        f'[[weights]]\nname = "{card.name}/{name}"\nmodel = "{card.name}"\nnetwork = "{name}"\nfile = "{path.name}"\n'
        f'sha256 = "{sha256_of(path)}"\nbytes = {path.stat().st_size}\nlicence = "{_licence(name)}"\n'
        f'training_data = "{data}"\nmetrics = "{figures[name]}"\n'
        f'status = "{card.status}"\nversion = "{card.version}"\n'
        for name, path in paths.items()
    )


def _licence(network: str) -> str:
    """Return a network's licence; ultralytics holds that what its code trained is AGPL-3.0 too."""
    return "AGPL-3.0" if network == DETECTOR else "Apache-2.0"


def figures_in_words(
    test: Stack, members: NDArray[np.float64], names: tuple[str, ...], found: Mapping[str, float]
) -> Mapping[str, str]:
    """Return each network's figure on the test set, as the manifest states it."""
    n = len(test.labels)
    words = {
        name: f"AUC and 95 % interval {bootstrapped(auc, test.labels, members[:, i])}" for i, name in enumerate(names)
    }
    words |= {DETECTOR: f"mAP at IoU 0.5 {found['map_50']:.3f}, 0.5 to 0.95 {found['map']:.3f}, n = {n}"}
    return {name: f"synthetic test set: {text}" for name, text in words.items()}


def main() -> None:
    """Run the documented command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-seed", type=int, default=2, help="a new one for every release: a test set is read once")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    card = read_card()
    paths = export(arguments.run, arguments.weights, card)
    model = SpineRadiographModel.load(paths, execution=Execution(arguments.report / "cache", "cpu"), card=card)
    data = arguments.run / "data"
    held_out = data / f"test_of_seed_{arguments.test_seed}"
    validation = Stack.read(data / "validation.npz")
    names = tuple(network.name for network in card.networks)
    on_validation = member_probabilities(model, validation)
    choice = chosen(validation.labels, on_validation)
    test = render(held_out, "test", seed=arguments.test_seed, count=_TEST_PICTURES, workers=arguments.threads)
    on_test = member_probabilities(model, test)
    on_detections = detection_report(model, held_out / "detector", "test", len(test.labels))
    report = {
        "networks": names,
        "ensemble_weights": choice.weights,
        "threshold": choice.threshold,
        "validation": classification_report(validation, on_validation, names, choice, arguments.report / "validation"),
        "test": classification_report(test, on_test, names, choice, arguments.report / "test"),
        "detector_test": on_detections,
    }
    write_report(report, arguments.report / "metrics.json")
    trained_on = len(Stack.read(data / "train.npz").labels)
    source = f"synthetic: ainode.models.phantoms.spine, {trained_on} pictures, seed {arguments.seed}"
    words = figures_in_words(test, on_test, names, on_detections)
    (arguments.report / "manifest.toml").write_text(manifest(paths, card, words, source), "utf-8")


if __name__ == "__main__":
    main()
