"""Trains the detector in the shared loop; ultralytics gives only the network and its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ainode.models.phantoms.spine import CLASS_NAMES
from ainode.models.spine_radiograph.augment import augmented_example
from ainode.models.spine_radiograph.detector import Detector
from ainode.models.spine_radiograph.detector_network import eager_run, yolo
from ainode.models.training.epochs import Batch, Epoch, Plan, fit
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import average_precision

# The boxes of one picture in COCO's order: (k, 6), class, score, x0, y0, x1, y1 in pixels.
BoxSet = NDArray[np.float32]
_LEAST_CONFIDENCE = 0.01
_IOU = 0.6


@dataclass(frozen=True, slots=True)
class DetectorRecipe:
    """The detector's training: its name, its input side, its batches."""

    architecture: str = "yolo11n"
    side: int = 320
    batch: int = 16
    epochs: int = 10
    steps_per_epoch: int = 200
    validation_pictures: int = 200


def picture_and_boxes(folder: Path, split: str, index: int) -> tuple[NDArray[np.uint8], BoxSet]:
    """Return a rendered picture and its boxes (k, 5): class, x0, y0, x1, y1 in fractions."""
    picture = cv2.imread(str(folder / "images" / split / f"{index:06d}.png"), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise FileNotFoundError(f"{folder}: no picture {index} of {split}; render the data first")
    lines = (folder / "labels" / split / f"{index:06d}.txt").read_text("utf-8").split()
    rows = np.asarray(lines, np.float32).reshape(-1, 5)
    half_size = rows[:, 3:] / 2
    boxes = np.concatenate([rows[:, :1], rows[:, 1:3] - half_size, rows[:, 1:3] + half_size], axis=1)
    return np.asarray(picture, np.uint8), boxes


def batches(folder: Path, count: int, recipe: DetectorRecipe, seed: int) -> Callable[[int], Iterator[Batch]]:
    """Return a function from an epoch's number to its batches."""

    def batches_of(epoch: int) -> Iterator[Batch]:
        random = np.random.default_rng([seed, 1, epoch])
        for _ in range(recipe.steps_per_epoch):
            examples = [
                augmented_example(*picture_and_boxes(folder, "train", int(i)), recipe.side, random, keep_aspect=True)
                for i in random.integers(count, size=recipe.batch)
            ]
            pictures = torch.from_numpy(np.stack([picture for picture, _ in examples])[:, None])
            rows = [np.insert(boxes, 0, i, axis=1) for i, (_, boxes) in enumerate(examples)]
            yield pictures, torch.from_numpy(np.concatenate(rows).astype(np.float32).reshape(-1, 6))

    return batches_of


def detection_loss(network: nn.Module) -> Callable[[nn.Module, Batch], Tensor]:
    """Return ultralytics' own detection loss, computed in single precision."""
    from ultralytics.cfg import get_cfg  # noqa: PLC0415  # AGPL, of the extra "detect"
    from ultralytics.utils.loss import v8DetectionLoss  # noqa: PLC0415  # AGPL, of the extra "detect"

    network.args = get_cfg()  # type: ignore[assignment]
    criterion = v8DetectionLoss(network)

    def loss(network_in_training: nn.Module, batch: Batch) -> Tensor:
        pictures, rows = batch
        predicted = network_in_training(pictures.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
        low, high = rows[:, 2:4], rows[:, 4:6]
        boxes = torch.cat([(low + high) / 2, high - low], dim=1)
        with torch.autocast(pictures.device.type, enabled=False):
            outputs = {
                "boxes": predicted["boxes"].float(),
                "scores": predicted["scores"].float(),
                "feats": [feature.float() for feature in predicted["feats"]],
            }
            parts, _ = criterion(outputs, {"batch_idx": rows[:, 0], "cls": rows[:, 1], "bboxes": boxes})
        total: Tensor = parts.sum() / len(pictures)
        return total

    return loss


def predicted_and_true_boxes(
    detector: Detector, folder: Path, split: str, indexes: range
) -> tuple[list[BoxSet], list[BoxSet]]:
    """Return, for each picture, the detector's boxes and the true boxes, both in the picture's pixels."""
    predicted, true_boxes = [], []
    for index in indexes:
        picture, boxes = picture_and_boxes(folder, split, index)
        rows, columns = picture.shape
        true_boxes.append(boxes * np.asarray([1, columns, rows, columns, rows], np.float32))
        predicted.append(
            np.asarray(
                [
                    (detector.class_names.index(box.class_name), box.score, box.x0, box.y0, box.x1, box.y1)
                    for box in detector(picture.astype(np.float32))
                ],
                np.float32,
            ).reshape(-1, 6)
        )
    return predicted, true_boxes


def train_detector(
    recipe: DetectorRecipe, folder: Path, count: int, out: Path, *, options: TrainingOptions
) -> tuple[Epoch, ...]:
    """Train the detector and return the log of its epochs; `out` keeps the epoch of best mAP at IoU 0.5."""
    torch.manual_seed(options.seed)
    network = yolo(recipe.architecture, len(CLASS_NAMES)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = Plan.of(options, recipe.epochs, recipe.steps_per_epoch, learning_rate=1.5e-3, half=True)

    def score(network_in_training: nn.Module) -> float:
        detector = Detector(eager_run(network_in_training), CLASS_NAMES, recipe.side, (_LEAST_CONFIDENCE,), _IOU)
        return average_precision(
            *predicted_and_true_boxes(detector, folder, "validation", range(recipe.validation_pictures))
        )["map_50"]

    return fit(network, batches(folder, count, recipe, options.seed), detection_loss(network), score, plan, out)
