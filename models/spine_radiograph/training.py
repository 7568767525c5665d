"""Trains a classifier of the ensemble on pictures of a spine phantom, with boxes around the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from ainode.models.phantoms.spine import CLASS_NAMES
from ainode.models.spine_radiograph.augment import augmented_example, occupied_cells
from ainode.models.spine_radiograph.dataset import Stack
from ainode.models.spine_radiograph.network import classifier, features
from ainode.models.spine_radiograph.preprocess import classifier_input
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
    """A classifier with a second head, for training alone, that predicts the classes of findings in each cell.

    A network that starts from random weights learns nothing from the label of a picture (AUC 0.50 after 6,400
    pictures), and learns from the boxes of the phantoms: the boxes teach the classes of the second head, and the map
    of the first head. The shipped network is the timm network, without the second head.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        width = int(network.num_features)  # type: ignore[arg-type]
        # The attribute names are keys in the checkpoints of earlier trainings.
        self.local = nn.Conv2d(width, len(CLASS_NAMES), 1)
        nn.init.constant_(self.local.bias, -4.0)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of the pictures, the score maps of the first head and the logits of the second head.

        Shapes: pictures (B, 1, side, side) in 0 to 1; logits (B,), maps (B, h, w), (B, classes, h, w); h = side / 32.
        """
        mean, std = (pictures.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        normalized = ((pictures - mean) / std).contiguous(memory_format=torch.channels_last)
        feature_maps = features(self.network, normalized)
        head = self.network.get_classifier()  # type: ignore[operator]
        score_maps = F.conv2d(feature_maps, head.weight[:, :, None, None])[:, 0]
        return score_maps.mean(dim=(1, 2)) + head.bias, score_maps, self.local(feature_maps)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One network's training: its timm name, its input side, its batches."""

    architecture: str
    side: int = 224
    batch: int = 16
    epochs: int = 10
    steps_per_epoch: int = 200


def batches(stack: Stack, recipe: Recipe, seed: int) -> Callable[[int], Iterator[Batch]]:
    """Return a function from the number of an epoch to its batches; same seed and number, same batches.

    The pictures are drawn with replacement, and augmented.
    """
    by_picture = [stack.boxes[stack.boxes[:, 0] == i, 1:] for i in range(len(stack.labels))]

    def batches_of(epoch: int) -> Iterator[Batch]:
        random = np.random.default_rng([seed, epoch])
        for _ in range(recipe.steps_per_epoch):
            chosen = random.integers(len(stack.labels), size=recipe.batch)
            yield _batch(
                [augmented_example(stack.pictures[i], by_picture[i], recipe.side, random) for i in chosen], recipe
            )

    return batches_of


def _batch(examples: list[tuple[NDArray[np.float32], NDArray[np.float32]]], recipe: Recipe) -> Batch:
    """Return pictures, labels and cells of the pairs of picture and boxes; the label is 1 if the picture has a box."""
    pictures = torch.from_numpy(np.stack([picture for picture, _ in examples])[:, None])
    labels = torch.tensor([float(len(boxes) > 0) for _, boxes in examples])
    grid = recipe.side // _STRIDE
    return (
        pictures,
        labels,
        torch.from_numpy(np.stack([occupied_cells(boxes, len(CLASS_NAMES), grid) for _, boxes in examples])),
    )


def loss(network: nn.Module, batch: Batch) -> Tensor:
    """Return the weighted sum of two cross entropies, of pictures and of cells, and the squared error of the maps."""
    pictures, labels, occupied = batch
    logits, score_maps, cell_logits = network(pictures)
    picture_loss = F.binary_cross_entropy_with_logits(logits.float(), labels)
    weight = torch.tensor(_POSITIVE_CELL_WEIGHT, device=cell_logits.device)
    cell_loss = F.binary_cross_entropy_with_logits(cell_logits.float(), occupied, pos_weight=weight, reduction="none")
    anywhere = occupied.amax(dim=1)
    map_error = ((score_maps.float() / _CELL_SCORE - anywhere) ** 2 * (1 + _POSITIVE_CELL_WEIGHT * anywhere)).mean()
    total: Tensor = picture_loss + 2 * cell_loss.sum(dim=1).mean() + _MAP_WEIGHT * map_error
    return total


def probabilities(network: nn.Module, stack: Stack, side: int, *, half: bool = False) -> NDArray[np.float64]:
    """Return the probability that a picture is abnormal, for every picture of the stack, on the network's device.

    `network` returns logits first, as `Supervised` does. The pictures are prepared as at serving. `half` is bfloat16.
    """
    device = next(network.parameters()).device
    chunks = []
    for start in range(0, len(stack.labels), 32):
        chunk = stack.pictures[start : start + 32].astype(np.float32)
        pictures = torch.from_numpy(np.concatenate([classifier_input(picture, side) for picture in chunk]))
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            chunks.append(torch.sigmoid(network(pictures.to(device))[0].float()).cpu().numpy())
    return np.concatenate(chunks).astype(np.float64)


def train_classifier(
    recipe: Recipe, train: Stack, validation: Stack, out: Path, *, options: TrainingOptions
) -> tuple[Epoch, ...]:
    """Train one network, and return the log of its epochs.

    `out` keeps `best.safetensors`, a `Supervised` of the epoch with the highest AUC on the validation pictures.
    """
    network = Supervised(classifier(recipe.architecture).to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    plan = Plan.of(options, recipe.epochs, recipe.steps_per_epoch, learning_rate=1.2e-3, half=True)

    def score(network_in_training: nn.Module) -> float:
        return auc(validation.labels, probabilities(network_in_training, validation, recipe.side, half=True))

    return fit(network, batches(train, recipe, options.seed), loss, score, plan, out)
