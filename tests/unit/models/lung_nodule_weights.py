"""Lung nodule weights of the right shape and of no worth, for tests of what is around them."""

from __future__ import annotations

from pathlib import Path

import torch

from ainode.models.lung_nodule.encoder import COMPACT, Encoder
from ainode.models.lung_nodule.heads import Recurrent
from ainode.models.lung_nodule.slice_network import SliceEnsemble
from ainode.models.nodule_reading.weights import DETECTION, OUTLINE
from ainode.models.running.checkpoints import save_table
from ainode.node.domain import WeightsStatus
from ainode.node.reading.weights import WeightsEntry, WeightStore


def random_store(folder: Path, temporal: WeightsStatus = WeightsStatus.RESEARCH) -> WeightStore:
    """Return a store of both shipped profiles with random weights, and of the shipped networks that find outlines.

    `temporal` is the status of the second profile; that of every other file is research.
    """
    store, shipped = WeightStore(folder / "site", folder / "none"), WeightStore(folder / "nothing")
    paths = {f"lung_nodule/{name}": path for name, path in random_weights_in(folder).items()}
    paths |= {name: shipped.verified(name) for name in (OUTLINE, DETECTION)}
    words = {"licence": "none", "version": "0", "training_data": "none"}
    for name, path in paths.items():
        status = temporal if name == "lung_nodule/temporal" else WeightsStatus.RESEARCH
        store.add(path, WeightsEntry(name, path, "", 0, status=status, model=name.split("/")[0], **words))
    return store


def random_weights_in(folder: Path) -> dict[str, Path]:
    """Write both shipped profiles with seeded random weights; return their files by profile."""
    torch.manual_seed(0)
    cubes = {f"encoder.{key}": value for key, value in Encoder(COMPACT).state_dict().items()}
    cubes |= {f"0.{key}": value for key, value in Recurrent(COMPACT.features, 8, 8).state_dict().items()}
    cubes |= {"scaler.mean": torch.zeros(COMPACT.features), "scaler.scale": torch.ones(COMPACT.features)}
    slices = SliceEnsemble(1).state_dict()
    return {
        "lidc": save_table(slices, folder / "lidc.safetensors"),
        "temporal": save_table(cubes, folder / "temporal.safetensors"),
    }
