"""Lung nodule weights of the right shape and of no worth, for tests of what is around them."""

from __future__ import annotations

from pathlib import Path

import torch

from ainode.models.lung_nodule.encoder import COMPACT, Encoder
from ainode.models.lung_nodule.heads import Recurrent
from ainode.models.lung_nodule.slice_network import SliceEnsemble
from ainode.models.running.checkpoints import save_table


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
