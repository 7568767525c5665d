"""Trains the network on labelled slices and on slices of healthy chests; resumable and logged.

    ainode train lung_infection --data DIR --out RUN

The weights are those of the last epoch, of all patients; the card says what a training without two patients chose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ainode.models.lung_infection.augment import varied
from ainode.models.lung_infection.dataset import INFECTION, LUNG, Slices
from ainode.models.lung_infection.network import InfectionNetwork
from ainode.models.lung_infection.preprocess import network_input
from ainode.models.running.keras_network import imagenet_checkpoint
from ainode.models.running.runtime import cpu_has_bf16
from ainode.models.training.epochs import Plan, fit
from ainode.models.training.experiment import TrainingOptions

_BATCH, _HEALTHY_SHARE = 8, 0.125
_STEPS, _EPOCHS = 45, 14
_RATE = 2e-3
_SMOOTH = 50.0


@dataclass(frozen=True, slots=True)
class Material:
    """The slices of one training: of ill lungs, and of healthy chests."""

    ill: Slices
    healthy: Slices | None


def trained(material: Material, out: Path, options: TrainingOptions) -> InfectionNetwork:
    """Return the network after the last epoch."""
    torch.set_num_threads(1)
    network = InfectionNetwork()
    network.load_imagenet(imagenet_checkpoint())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = Plan.of(options, _EPOCHS, _STEPS, learning_rate=_RATE, half=cpu_has_bf16())

    def batches(epoch: int) -> Iterator[tuple[Tensor, ...]]:
        return (_batch(material, np.random.default_rng([options.seed, epoch, step])) for step in range(_STEPS))

    fit(network, batches, _loss, None, plan, out)
    return network


def _batch(material: Material, random: np.random.Generator) -> tuple[Tensor, ...]:
    """Return pictures, targets (lung, infection), and whether the lung is outlined."""
    sources = [(material.ill, number) for number in _drawn(material.ill, _BATCH, random)]
    if material.healthy is not None:
        count = max(1, round(_HEALTHY_SHARE * _BATCH))
        healthy = material.healthy
        sources[:count] = [(healthy, number) for number in _drawn(healthy, count, random)]
    pairs = [varied(slices.pictures[number], slices.masks[number], random) for slices, number in sources]
    masks = np.stack([mask for _, mask in pairs])
    targets = np.stack([masks >= LUNG, masks == INFECTION], axis=1).astype(np.float32)
    has_lung = np.array([slices.has_lung[number] for slices, number in sources], np.float32)
    pictures = torch.from_numpy(network_input(np.stack([picture for picture, _ in pairs])))
    return pictures.contiguous(memory_format=torch.channels_last), torch.from_numpy(targets), torch.from_numpy(has_lung)


def _drawn(slices: Slices, count: int, random: np.random.Generator) -> list[int]:
    """Return numbers of slices; a patient is drawn by the root of the number of its slices."""
    names, owners, counts = np.unique(slices.patients, return_inverse=True, return_counts=True)
    shares = np.sqrt(counts) / np.sqrt(counts).sum()
    chosen = random.choice(len(names), count, p=shares)
    return [int(random.choice(np.flatnonzero(owners == patient))) for patient in chosen]


def _loss(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Return cross-entropy and soft Dice of lung and infection; a lung without an outline counts for nothing."""
    pictures, targets, has_lung = batch
    logits = network(pictures).float()
    weight = torch.stack([has_lung, torch.ones_like(has_lung)], dim=1)[:, :, None, None]
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, weight.expand_as(targets))
    shares = logits.sigmoid() * weight
    both = (shares * targets).sum(dim=(0, 2, 3))
    total = (shares + targets * weight).sum(dim=(0, 2, 3))
    dice = (2 * both + _SMOOTH) / (total + _SMOOTH)
    total_loss: Tensor = 2 * entropy + 0.5 * (1 - dice[0]) + (1 - dice[1])
    return total_loss
