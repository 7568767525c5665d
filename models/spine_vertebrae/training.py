"""Trains the network on films with marked corners; resumable and logged.

    ainode train spine_vertebrae --data DIR --out RUN

The weights are those of the last epoch, of all films of the training part; the card says what a training without some
patients chose. `views` follows, the last step of the same command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ainode.models.running.keras_network import imagenet_checkpoint
from ainode.models.running.runtime import cpu_has_bf16
from ainode.models.spine_vertebrae.augment import varied
from ainode.models.spine_vertebrae.dataset import Film
from ainode.models.spine_vertebrae.network import SpineNetwork, VertebraNetwork
from ainode.models.spine_vertebrae.preprocess import network_input
from ainode.models.spine_vertebrae.targets import targets
from ainode.models.training.epochs import Plan, fit
from ainode.models.training.experiment import TrainingOptions

_BATCH = 8
_STEPS, _EPOCHS = 40, 18
_RATE = 2e-3
# The logit of a middle before training: one place in twenty.
_RARE = -3.0


@dataclass(frozen=True, slots=True)
class Material:
    """The pictures of one training: labelled films, drawn spines, and pictures without a frontal spine."""

    films: Sequence[Film]
    drawn: Sequence[Film]
    others: Sequence[Film]


def trained(
    material: Material,
    out: Path,
    options: TrainingOptions,
) -> SpineNetwork:
    """Return the network after the last epoch; of a picture's view it knows nothing yet."""
    torch.set_num_threads(2)
    network = VertebraNetwork()
    network.load_imagenet(imagenet_checkpoint())
    with torch.no_grad():
        network.head.bias[0] = _RARE  # type: ignore[index]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = Plan.of(options, _EPOCHS, _STEPS, learning_rate=_RATE, half=cpu_has_bf16())

    def batches(epoch: int) -> Iterator[tuple[Tensor, ...]]:
        return (_batch(material, np.random.default_rng([options.seed, epoch, step])) for step in range(_STEPS))

    fit(network, batches, _loss, None, plan, out)
    spine = SpineNetwork()
    spine.load_state_dict({**spine.state_dict(), **network.state_dict()})
    return spine.eval()


def _batch(material: Material, random: np.random.Generator) -> tuple[Tensor, ...]:
    films = [
        *_drawn(material.films, _BATCH - 2, random),
        *_drawn(material.drawn, 1, random),
        *_drawn(material.others, 1, random),
    ]
    pairs = [varied(film, random) for film in films]
    wanted = [targets(corners) for _, corners in pairs]
    pictures = torch.from_numpy(network_input(np.stack([picture for picture, _ in pairs])))
    return (
        pictures.contiguous(memory_format=torch.channels_last),
        *(torch.from_numpy(np.stack([film[order] for film in wanted])) for order in range(3)),
    )


def _drawn(films: Sequence[Film], count: int, random: np.random.Generator) -> list[Film]:
    """Return films; a patient is drawn by the root of the number of the films."""
    names, owners, counts = np.unique([film.patient for film in films], return_inverse=True, return_counts=True)
    shares = np.sqrt(counts) / np.sqrt(counts).sum()
    chosen = random.choice(len(names), count, p=shares)
    return [films[int(random.choice(np.flatnonzero(owners == patient)))] for patient in chosen]


def _loss(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the focal loss of the middles (Law and Deng 2018) and the distance of corners and numbers."""
    pictures, peaks, values, weight = batch
    answer = network(pictures).float()
    logits = answer[:, 0]
    probability = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    is_middle = (peaks > 0.999).float()  # noqa: PLR2004  # the place of a middle has exactly 1
    found = is_middle * (1 - probability) ** 2 * probability.log()
    empty = (1 - is_middle) * (1 - peaks) ** 4 * probability**2 * (1 - probability).log()
    focal = -(found + empty).sum() / is_middle.sum().clamp(min=1)
    distance = functional.smooth_l1_loss(answer[:, 1:], values, beta=0.02, reduction="none").sum(dim=1)
    loss: Tensor = focal + 2.0 * (distance * weight).sum() / weight.sum().clamp(min=1)
    return loss
