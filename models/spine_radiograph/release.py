"""Makes the shipped weights and their figures from the folders of a training and of its rendered pictures.

python -m ainode.models.spine_radiograph.release --run RUN --data DIR --weights weights --report REPORT
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
from ainode.models.spine_radiograph.dataset import Stack, rendered_split
from ainode.models.spine_radiograph.detector_network import yolo
from ainode.models.spine_radiograph.evaluation import (
    classification_report,
    detection_report,
    member_probabilities,
    validation_choice,
    write_report,
)
from ainode.models.spine_radiograph.model import SpineRadiographModel, weights_in
from ainode.models.spine_radiograph.network import classifier
from ainode.models.spine_radiograph.training import Supervised
from ainode.models.training.epochs import load_best
from ainode.models.training.metrics import auc, bootstrap_estimate

_TEST_PICTURES = 1200


def export_weights(run: Path, weights: Path, card: Card) -> dict[str, Path]:
    """Write every network's best weights in half precision, without the heads that only train; return their files."""
    weights.mkdir(parents=True, exist_ok=True)
    for network in card.networks:
        supervised = Supervised(classifier(network.architecture))
        load_best(supervised, run / network.name)
        save_half(supervised.network, weights / network.file)
    detector = yolo(card.detector.architecture, len(CLASS_NAMES))
    load_best(detector, run / DETECTOR)
    save_half(detector, weights / card.detector.file)
    return weights_in(weights, card)


def manifest_text(paths: Mapping[str, Path], card: Card, figures: Mapping[str, str], data: str) -> str:
    """Return the manifest's entries of this model as TOML: one entry per file, with its figures in words."""
    return "\n".join(
        f'[[weights]]\nname = "{card.name}/{name}"\nmodel = "{card.name}"\nnetwork = "{name}"\nfile = "{path.name}"\n'
        f'sha256 = "{sha256_of(path)}"\nbytes = {path.stat().st_size}\nlicence = "{_licence(name)}"\n'
        f'training_data = "{data}"\nmetrics = "{figures[name]}"\n'
        f'status = "{card.status}"\nversion = "{card.version}"\n'
        for name, path in paths.items()
    )


def _licence(network: str) -> str:
    """Return a network's licence; ultralytics claims AGPL-3.0 for weights that its code trained."""
    return "AGPL-3.0" if network == DETECTOR else "Apache-2.0"


def figures_in_words(
    test: Stack, members: NDArray[np.float64], names: tuple[str, ...], detector_figures: Mapping[str, float]
) -> Mapping[str, str]:
    """Return each network's figure on the test set in the manifest's words."""
    picture_count = len(test.labels)
    texts = {
        name: f"AUC and 95 % interval {bootstrap_estimate(auc, test.labels, members[:, i])}"
        for i, name in enumerate(names)
    }
    at_half, over_range = detector_figures["map_50"], detector_figures["map"]
    texts |= {DETECTOR: f"mAP at IoU 0.5 {at_half:.3f}, 0.5 to 0.95 {over_range:.3f}, n = {picture_count}"}
    return {name: f"synthetic test set: {text}" for name, text in texts.items()}


def main() -> None:
    """Run the documented command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder that the training was given as --data")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-seed", type=int, default=2, help="a new one for every release: a test set is read once")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    card = read_card()
    paths = export_weights(arguments.run, arguments.weights, card)
    model = SpineRadiographModel.load(paths, execution=Execution(arguments.report / "cache", "cpu"), card=card)
    data = arguments.data
    held_out = data / f"test_of_seed_{arguments.test_seed}"
    validation = Stack.read(data / "validation.npz")
    names = tuple(network.name for network in card.networks)
    validation_members = member_probabilities(model, validation)
    choice = validation_choice(validation.labels, validation_members)
    test = rendered_split(held_out, "test", seed=arguments.test_seed, count=_TEST_PICTURES, workers=arguments.threads)
    test_members = member_probabilities(model, test)
    detector_figures = detection_report(model, held_out / "detector", "test", len(test.labels))
    report = {
        "networks": names,
        "ensemble_weights": choice.weights,
        "threshold": choice.threshold,
        "validation": classification_report(
            validation, validation_members, names, choice, arguments.report / "validation"
        ),
        "test": classification_report(test, test_members, names, choice, arguments.report / "test"),
        "detector_test": detector_figures,
    }
    write_report(report, arguments.report / "metrics.json")
    training_count = len(Stack.read(data / "train.npz").labels)
    source = f"synthetic: ainode.models.phantoms.spine, {training_count} pictures, seed {arguments.seed}"
    figures = figures_in_words(test, test_members, names, detector_figures)
    (arguments.report / "manifest.toml").write_text(manifest_text(paths, card, figures, source), "utf-8")


if __name__ == "__main__":
    main()
