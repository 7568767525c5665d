"""Trains a classifier of the ensemble on synthetic studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from ainode.models.phantoms.spine import CLASS_NAMES
from ainode.models.spine_radiograph.augment import augmented, cells
from ainode.models.spine_radiograph.dataset import Stack
from ainode.models.spine_radiograph.network import classifier, features
from ainode.models.spine_radiograph.preprocess import prepare
from ainode.models.training.epochs import Batch, Epoch, Plan, fit
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import auc

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The stride of the last feature map of every timm classifier used here.
_STRIDE = 32
_POSITIVE_CELL_WEIGHT = 4.0

# What the head's own map should read where a finding is; elsewhere it should read 0. The mean over 7 x 7
# cells then moves the logit by 2 for each cell of a finding.
_CELL_SCORE = 100.0
_MAP_WEIGHT = 40.0


class Supervised(nn.Module):
    """A classifier and, while training only, a second head that must say which cell shows what.

    From scratch, "abnormal somewhere" is a weak teacher (0.50 AUC after 6,400 pictures); the boxes
    of the phantoms are a strong one, for the second head's classes and for the first head's own map.
    The second head is dropped afterwards: the shipped network is the plain timm one.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        width = int(network.num_features)  # type: ignore[arg-type]
        self.local = nn.Conv2d(width, len(CLASS_NAMES), 1)
        nn.init.constant_(self.local.bias, -4.0)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B,) logits, their (B, h, w) maps and (B, classes, h, w) logits of the cells."""
        mean, std = (pictures.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        normalized = ((pictures - mean) / std).contiguous(memory_format=torch.channels_last)
        maps = features(self.network, normalized)
        head = self.network.get_classifier()  # type: ignore[operator]
        own = F.conv2d(maps, head.weight[:, :, None, None])[:, 0]
        return own.mean(dim=(1, 2)) + head.bias, own, self.local(maps)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One network's training: its timm name, its input side, its batches."""

    architecture: str
    side: int = 224
    batch: int = 16
    epochs: int = 10
    steps_per_epoch: int = 200


def batches(stack: Stack, recipe: Recipe, seed: int) -> Callable[[int], Iterator[Batch]]:
    """Return the batches of an epoch as a function of its number: the same for the same seed."""
    by_picture = [stack.boxes[stack.boxes[:, 0] == i, 1:] for i in range(len(stack.labels))]

    def of_epoch(epoch: int) -> Iterator[Batch]:
        random = np.random.default_rng([seed, epoch])
        for _ in range(recipe.steps_per_epoch):
            chosen = random.integers(len(stack.labels), size=recipe.batch)
            yield _batch([augmented(stack.pictures[i], by_picture[i], recipe.side, random) for i in chosen], recipe)

    return of_epoch


def _batch(drawn: list[tuple[NDArray[np.float32], NDArray[np.float32]]], recipe: Recipe) -> Batch:
    pictures = torch.from_numpy(np.stack([picture for picture, _ in drawn])[:, None])
    labels = torch.tensor([float(len(boxes) > 0) for _, boxes in drawn])
    grid = recipe.side // _STRIDE
    return pictures, labels, torch.from_numpy(np.stack([cells(boxes, len(CLASS_NAMES), grid) for _, boxes in drawn]))


def loss(network: nn.Module, batch: Batch) -> Tensor:
    """Return the cross entropy of the picture and of its cells, and the map's squared error."""
    pictures, labels, occupied = batch
    logits, own, local = network(pictures)
    whole = F.binary_cross_entropy_with_logits(logits.float(), labels)
    weight = torch.tensor(_POSITIVE_CELL_WEIGHT, device=local.device)
    part = F.binary_cross_entropy_with_logits(local.float(), occupied, pos_weight=weight, reduction="none")
    anywhere = occupied.amax(dim=1)
    error = ((own.float() / _CELL_SCORE - anywhere) ** 2 * (1 + _POSITIVE_CELL_WEIGHT * anywhere)).mean()
    total: Tensor = whole + 2 * part.sum(dim=1).mean() + _MAP_WEIGHT * error
    return total


def probabilities(network: nn.Module, stack: Stack, side: int, *, half: bool = False) -> NDArray[np.float64]:
    """Return the probability of every picture of a split, prepared as when serving."""
    found = []
    for start in range(0, len(stack.labels), 32):
        chunk = stack.pictures[start : start + 32].astype(np.float32)
        pictures = torch.from_numpy(np.concatenate([prepare(p, side) for p in chunk]))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            found.append(torch.sigmoid(network(pictures)[0].float()).numpy())
    return np.concatenate(found).astype(np.float64)


def train_classifier(
    recipe: Recipe, train: Stack, validation: Stack, out: Path, *, options: TrainingOptions
) -> tuple[Epoch, ...]:
    """Train one network in `out`; chosen on the validation set by its area under the curve."""
    network = Supervised(classifier(recipe.architecture).to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    plan = Plan.of(options, recipe.epochs, recipe.steps_per_epoch, learning_rate=1.2e-3, half=True)

    def score(trained: nn.Module) -> float:
        return auc(validation.labels, probabilities(trained, validation, recipe.side, half=True))

    return fit(network, batches(train, recipe, options.seed), loss, score, plan, out)
