"""A small card and files of seeded random weights for it: what a test needs of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ainode.models.running.checkpoints import save_half
from ainode.models.spine_radiograph.card import Card, Network, read_card
from ainode.models.spine_radiograph.detector_network import yolo
from ainode.models.spine_radiograph.network import classifier

_MEMBERS = (
    Network("a", "resnet10t", 0.6, "a.safetensors"),
    Network("b", "densenet_compact", 0.4, "b.safetensors"),
)


@dataclass(frozen=True)
class RandomModel:
    card: Card
    paths: dict[str, Path]


def random_model_in(folder: Path) -> RandomModel:
    torch.manual_seed(7)
    shipped = read_card()
    detector = replace(shipped.detector, side=160, file="detector.safetensors")
    card = replace(shipped, networks=_MEMBERS, detector=detector, threshold=0.5)
    for network in card.networks:
        save_half(classifier(network.architecture), folder / network.file)
    save_half(yolo("yolo11n", len(detector.class_names)), folder / detector.file)
    return RandomModel(card, {name: folder / file for name, file in card.files.items()})
