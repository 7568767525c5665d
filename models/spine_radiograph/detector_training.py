"""Trains the detector in the shared loop: ultralytics gives the network and its loss, no more."""

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
from ainode.models.spine_radiograph.augment import augmented
from ainode.models.spine_radiograph.detector import Detector, torch_run, yolo
from ainode.models.training.epochs import Batch, Epoch, Plan, fit
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import average_precision

# Box sets as COCO wants them: per picture (k, 6) class, score, x0, y0, x1, y1 in pixels.
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
    judged: int = 200


def truth(folder: Path, split: str, index: int) -> tuple[NDArray[np.uint8], BoxSet]:
    """Return a stored picture and its boxes (k, 5): class, x0, y0, x1, y1 in fractions."""
    picture = cv2.imread(str(folder / "images" / split / f"{index:06d}.png"), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise FileNotFoundError(f"{folder}: no picture {index} of {split}; render the data first")
    lines = (folder / "labels" / split / f"{index:06d}.txt").read_text("utf-8").split()
    rows = np.asarray(lines, np.float32).reshape(-1, 5)
    half = rows[:, 3:] / 2
    boxes = np.concatenate([rows[:, :1], rows[:, 1:3] - half, rows[:, 1:3] + half], axis=1)
    return np.asarray(picture, np.uint8), boxes


def batches(folder: Path, count: int, recipe: DetectorRecipe, seed: int) -> Callable[[int], Iterator[Batch]]:
    """Return the batches of an epoch as a function of its number."""

    def of_epoch(epoch: int) -> Iterator[Batch]:
        random = np.random.default_rng([seed, 1, epoch])
        for _ in range(recipe.steps_per_epoch):
            drawn = [
                augmented(*truth(folder, "train", int(i)), recipe.side, random, keep_aspect=True)
                for i in random.integers(count, size=recipe.batch)
            ]
            pictures = torch.from_numpy(np.stack([picture for picture, _ in drawn])[:, None])
            rows = [np.insert(boxes, 0, i, axis=1) for i, (_, boxes) in enumerate(drawn)]
            yield pictures, torch.from_numpy(np.concatenate(rows).astype(np.float32).reshape(-1, 6))

    return of_epoch


def detection_loss(network: nn.Module) -> Callable[[nn.Module, Batch], Tensor]:
    """Return ultralytics' own detection loss, computed in single precision."""
    from ultralytics.cfg import get_cfg  # noqa: PLC0415  # AGPL, of the extra "detect"
    from ultralytics.utils.loss import v8DetectionLoss  # noqa: PLC0415  # AGPL, of the extra "detect"

    network.args = get_cfg()  # type: ignore[assignment]
    criterion = v8DetectionLoss(network)

    def loss(trained: nn.Module, batch: Batch) -> Tensor:
        pictures, rows = batch
        predicted = trained(pictures.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
        low, high = rows[:, 2:4], rows[:, 4:6]
        boxes = torch.cat([(low + high) / 2, high - low], dim=1)
        with torch.autocast(pictures.device.type, enabled=False):
            single = {
                "boxes": predicted["boxes"].float(),
                "scores": predicted["scores"].float(),
                "feats": [feature.float() for feature in predicted["feats"]],
            }
            parts, _ = criterion(single, {"batch_idx": rows[:, 0], "cls": rows[:, 1], "bboxes": boxes})
        total: Tensor = parts.sum() / len(pictures)
        return total

    return loss


def found_and_true(detector: Detector, folder: Path, split: str, indexes: range) -> tuple[list[BoxSet], list[BoxSet]]:
    """Return what the detector found and what is there, per picture, in its pixels."""
    found, real = [], []
    for index in indexes:
        picture, boxes = truth(folder, split, index)
        rows, columns = picture.shape
        real.append(boxes * np.asarray([1, columns, rows, columns, rows], np.float32))
        found.append(
            np.asarray(
                [
                    (detector.class_names.index(b.class_name), b.score, b.x0, b.y0, b.x1, b.y1)
                    for b in detector(picture.astype(np.float32))
                ],
                np.float32,
            ).reshape(-1, 6)
        )
    return found, real


def train_detector(
    recipe: DetectorRecipe, folder: Path, count: int, out: Path, *, options: TrainingOptions
) -> tuple[Epoch, ...]:
    """Train the detector in `out`; chosen on the validation set by mAP at IoU 0.5."""
    torch.manual_seed(options.seed)
    network = yolo(recipe.architecture, len(CLASS_NAMES)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = Plan.of(options, recipe.epochs, recipe.steps_per_epoch, learning_rate=1.5e-3, half=True)

    def score(trained: nn.Module) -> float:
        detector = Detector(torch_run(trained), CLASS_NAMES, recipe.side, (_LEAST_CONFIDENCE,), _IOU)
        return average_precision(*found_and_true(detector, folder, "validation", range(recipe.judged)))["map_50"]

    return fit(network, batches(folder, count, recipe, options.seed), detection_loss(network), score, plan, out)
