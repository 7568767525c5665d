"""The detector of findings: YOLO11, with boxes on the source picture's own grid.

ultralytics (AGPL-3.0) is imported only to build the network's graph, once, for conversion.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ainode.models.running.torchvision_compat import ensure_nms
from ainode.models.spine_radiograph.preprocess import Picture, letterbox, normalized_range

# Source: the original service, and the default of ultralytics' own prediction.
_MOST_BOXES = 300


@dataclass(frozen=True, slots=True)
class Box:
    """The box of one finding. Units: x0, y0, x1, y1 are pixel edges of the source picture, x to the right."""

    class_name: str
    score: float
    x0: float
    y0: float
    x1: float
    y1: float


def isolate_ultralytics() -> None:
    """Import ultralytics without its update checks, downloads and usage reports, and with Pillow's own `Image.open`.

    ultralytics replaces `Image.open` by a function that installs a package when it meets a file that is no picture.
    """
    for name, value in (("YOLO_OFFLINE", "true"), ("YOLO_AUTOINSTALL", "false"), ("YOLO_VERBOSE", "false")):
        os.environ.setdefault(name, value)
    ensure_nms()
    pillow_open = Image.open
    importlib.import_module("ultralytics.utils.patches")
    Image.open = pillow_open


def yolo(architecture: str, classes: int) -> nn.Module:
    """Return an untrained YOLO of an architecture, such as "yolo11n", for a number of classes."""
    isolate_ultralytics()
    from ultralytics.nn.tasks import DetectionModel  # noqa: PLC0415  # AGPL, of the extra "detect"

    network: nn.Module = DetectionModel(f"{architecture}.yaml", ch=3, nc=classes, verbose=False)  # type: ignore[no-untyped-call]
    return network


class GrayDetector(nn.Module):
    """A YOLO network with one gray channel as input, and with only the decoded boxes and scores as output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Return (B, 4 + classes, anchors): x, y, w, h in input pixels, then scores."""
        output = self.network(pictures.expand(-1, 3, -1, -1))
        return cast("Tensor", output[0] if isinstance(output, tuple) else output)


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds boxes at the first confidence; where there is none, at the next, lower confidence."""

    run: Callable[[Picture], NDArray[np.float32]]
    class_names: tuple[str, ...]
    side: int
    confidences: tuple[float, ...]
    iou: float

    def __call__(self, pixels: Picture, *, height_per_width: float = 1.0) -> tuple[Box, ...]:
        """Return the boxes of the findings on a presented picture, best score first."""
        scaled = normalized_range(np.asarray(pixels, np.float32))
        square, placement = letterbox(scaled, self.side, height_per_width=height_per_width)
        predictions = self.run(np.ascontiguousarray(square[None, None]))[0]
        for confidence in self.confidences:
            boxes, scores, class_numbers = suppressed_boxes(predictions, confidence, self.iou)
            if len(boxes):
                placed = placement.to_source(boxes)
                return tuple(
                    Box(self.class_names[int(class_number)], float(score), *(float(edge) for edge in box))
                    for box, score, class_number in zip(placed, scores, class_numbers, strict=True)
                )
        return ()


def suppressed_boxes(
    predictions: NDArray[np.float32], confidence: float, iou: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Return boxes, scores and class numbers above `confidence`, after non-maximum suppression per class.

    Shapes: predictions (4 + classes, anchors), x, y, w, h of the center first; boxes (k, 4) as x0, y0, x1, y1.
    """
    scores, class_numbers = predictions[4:].max(axis=0), predictions[4:].argmax(axis=0)
    is_candidate = scores > confidence
    center, size = predictions[:2, is_candidate].T, predictions[2:4, is_candidate].T
    scores, class_numbers = scores[is_candidate], class_numbers[is_candidate]
    corners = np.concatenate([center - size / 2, size], axis=1)
    if not len(corners):
        return np.empty((0, 4), np.float32), scores, class_numbers
    indices = cv2.dnn.NMSBoxesBatched(
        corners.astype(np.float64).tolist(), scores.tolist(), class_numbers.tolist(), confidence, iou
    )
    index = np.asarray(indices, np.int64).reshape(-1)[:_MOST_BOXES]
    index = index[np.argsort(-scores[index], kind="stable")]
    boxes = np.concatenate([center - size / 2, center + size / 2], axis=1)[index]
    return boxes.astype(np.float32), scores[index], class_numbers[index]


def eager_run(network: nn.Module) -> Callable[[Picture], NDArray[np.float32]]:
    """Return a function that runs the network eagerly on arrays, on the device of the network."""
    decoded = GrayDetector(network).eval()
    device = next(network.parameters()).device

    def run(square: Picture) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(decoded(torch.from_numpy(square).to(device)).float().cpu().numpy(), np.float32)

    return run
