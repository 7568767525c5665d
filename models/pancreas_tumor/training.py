"""Trains the network on labelled slices; resumable and logged.

    ainode train pancreas_tumor --data DIR --out RUN

A fifth of the patients is left out; what the card chose was chosen on them, and the log has their mean Dice. The
weights are those of the last epoch, when the rate has fallen to nothing: 84 slices are too few to choose an epoch by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ainode.models.pancreas_tumor.augment import varied
from ainode.models.pancreas_tumor.dataset import Slices
from ainode.models.pancreas_tumor.network import STRIDE, PancreasNetwork
from ainode.models.pancreas_tumor.preprocess import COLUMNS, ROWS, Frame, framed, network_input
from ainode.models.pancreas_tumor.regions import agreed, around, dice
from ainode.models.running.keras_network import imagenet_checkpoint
from ainode.models.running.runtime import cpu_has_bf16
from ainode.models.training.epochs import Plan, fit
from ainode.models.training.experiment import TrainingOptions

_BATCH, _STEPS, _EPOCHS = 16, 50, 12
_RATE = 2e-3
# Half the width of the heat map of the tumor's middle, in places of the answer.
_MIDDLE_WIDTH = 3.0
_SMOOTH = 5.0
# A place of the tumor counts more than another: a tumor covers one of a hundred.
_TUMOR_WEIGHT, _MIDDLE_SHARE = 4.0, 0.5
_SHARE_OF_PEAK = 0.5


@dataclass(frozen=True, slots=True)
class Material:
    """The slices of one training with their frames."""

    slices: Slices
    frames: tuple[Frame, ...]

    @classmethod
    def of(cls, slices: Slices) -> Material:
        """Return slices with their frames."""
        return cls(slices, slices.frames())


def trained(material: Material, left_out: Material, out: Path, options: TrainingOptions) -> PancreasNetwork:
    """Return the network after the last epoch; the score of an epoch is the mean Dice on what was left out."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network = PancreasNetwork()
    network.load_imagenet(imagenet_checkpoint())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = replace(Plan.of(options, _EPOCHS, _STEPS, learning_rate=_RATE, half=cpu_has_bf16()), patience=_EPOCHS)

    def batches(epoch: int) -> Iterator[tuple[Tensor, ...]]:
        return (_batch(material, np.random.default_rng([options.seed, epoch, step])) for step in range(_STEPS))

    fit(network, batches, _loss, lambda trained_network: _mean_dice(trained_network, left_out), plan, out)
    last: Mapping[str, Any] = torch.load(out / "last.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(last["model_state_dict"])
    return network.eval()


def _mean_dice(network: nn.Module, left_out: Material) -> float:
    """Return the mean Dice of the place around the highest probability of each slice, in the frame."""
    dices = []
    for picture, mask, frame in zip(left_out.slices.pictures, left_out.slices.masks, left_out.frames, strict=True):
        with torch.inference_mode():
            logits = network(torch.from_numpy(network_input(framed(picture, frame)[None])))
        smooth = agreed(logits[0, :1].sigmoid().float().numpy())
        peak = np.unravel_index(int(smooth.argmax()), smooth.shape)
        drawn = around(smooth, (int(peak[0]), int(peak[1]), int(peak[2])), _SHARE_OF_PEAK)[0]
        truth = _targets(framed(mask * np.uint8(255), frame))[0] > _SHARE_OF_PEAK
        dices.append(dice(drawn, truth))
    return float(np.mean(dices))


def _batch(material: Material, random: np.random.Generator) -> tuple[Tensor, ...]:
    """Return framed pictures, and the targets: tumor, middle."""
    slices = material.slices
    names, owners = np.unique(slices.patients, return_inverse=True)
    patients = random.choice(len(names), _BATCH, replace=len(names) < _BATCH)
    numbers = [int(random.choice(np.flatnonzero(owners == patient))) for patient in patients]
    pairs = [varied(slices.pictures[n], slices.masks[n], material.frames[n], random) for n in numbers]
    targets = np.stack([_targets(mask) for _, mask in pairs])
    pictures = torch.from_numpy(network_input(np.stack([picture for picture, _ in pairs])))
    return pictures.contiguous(memory_format=torch.channels_last), torch.from_numpy(targets)


def _targets(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return tumor and heat map of its middle at the places of the answer, (2, rows, columns), 0 to 1."""
    size = (COLUMNS // STRIDE, ROWS // STRIDE)
    tumor = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.float32) / 255
    if not tumor.any():
        return np.zeros((2, *tumor.shape), np.float32)
    rows, columns = np.indices(tumor.shape, np.float32)
    y, x = (float((axis * tumor).sum() / tumor.sum()) for axis in (rows, columns))
    middle = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * _MIDDLE_WIDTH**2))
    return np.stack([tumor, middle]).astype(np.float32)


def _loss(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Return weighted cross-entropy and soft Dice of the tumor, and the cross-entropy of its middle."""
    pictures, targets = batch
    logits = network(pictures).float()
    weights = 1 + _TUMOR_WEIGHT * targets
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, weights, reduction="none").mean(
        dim=(0, 2, 3)
    )
    shares = logits[:, 0].sigmoid()
    both = (shares * targets[:, 0]).sum(dim=(1, 2))
    total = (shares + targets[:, 0]).sum(dim=(1, 2))
    dice = ((2 * both + _SMOOTH) / (total + _SMOOTH)).mean()
    loss: Tensor = 5 * (entropy[0] + _MIDDLE_SHARE * entropy[1]) + (1 - dice)
    return loss
