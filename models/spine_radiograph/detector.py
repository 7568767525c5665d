"""Where the findings are: YOLO11, boxes on the source picture's own grid.

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
from ainode.models.spine_radiograph.preprocess import Picture, letterboxed, stretched_range

# Source: the original service, and the default of ultralytics' own prediction.
_MOST_BOXES = 300


@dataclass(frozen=True, slots=True)
class Box:
    """One finding. Units: x0, y0, x1, y1 are pixel edges of the source picture, x to the right."""

    class_name: str
    score: float
    x0: float
    y0: float
    x1: float
    y1: float


def quiet_ultralytics() -> None:
    """Keep ultralytics from the network, no update check, download or usage report, and from everybody's Pillow.

    It replaces `Image.open` by one that installs a package when it meets a file that is no picture.
    """
    for name, value in (("YOLO_OFFLINE", "true"), ("YOLO_AUTOINSTALL", "false"), ("YOLO_VERBOSE", "false")):
        os.environ.setdefault(name, value)
    ensure_nms()
    pillows_own = Image.open
    importlib.import_module("ultralytics.utils.patches")
    Image.open = pillows_own


def yolo(architecture: str, classes: int) -> nn.Module:
    """Return an untrained YOLO of that name, such as "yolo11n", for so many classes."""
    quiet_ultralytics()
    from ultralytics.nn.tasks import DetectionModel  # noqa: PLC0415  # AGPL, of the extra "detect"

    network: nn.Module = DetectionModel(f"{architecture}.yaml", ch=3, nc=classes, verbose=False)  # type: ignore[no-untyped-call]
    return network


class Decoded(nn.Module):
    """A YOLO network that takes one gray channel and returns only its decoded output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Return (B, 4 + classes, anchors): x, y, w, h in input pixels, then scores."""
        found = self.network(pictures.expand(-1, 3, -1, -1))
        return cast("Tensor", found[0] if isinstance(found, tuple) else found)


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds boxes; asks again at the next, lower confidence only when it found none."""

    run: Callable[[Picture], NDArray[np.float32]]
    class_names: tuple[str, ...]
    side: int
    confidences: tuple[float, ...]
    iou: float

    def __call__(self, pixels: Picture) -> tuple[Box, ...]:
        """Return the findings on a presented picture, best score first."""
        square, placement = letterboxed(stretched_range(np.asarray(pixels, np.float32)), self.side)
        raw = self.run(np.ascontiguousarray(square[None, None]))[0]
        for confidence in self.confidences:
            boxes, scores, kinds = suppressed(raw, confidence, self.iou)
            if len(boxes):
                placed = placement.to_source(boxes)
                return tuple(
                    Box(self.class_names[int(kind)], float(score), *(float(edge) for edge in box))
                    for box, score, kind in zip(placed, scores, kinds, strict=True)
                )
        return ()


def suppressed(
    raw: NDArray[np.float32], confidence: float, iou: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Return boxes, scores and classes that pass `confidence` and survive NMS per class.

    Shapes: raw (4 + classes, anchors) with x, y, w, h of the center; boxes (k, 4) as x0, y0, x1, y1.
    """
    scores, kinds = raw[4:].max(axis=0), raw[4:].argmax(axis=0)
    passed = scores > confidence
    center, size = raw[:2, passed].T, raw[2:4, passed].T
    scores, kinds = scores[passed], kinds[passed]
    corners = np.concatenate([center - size / 2, size], axis=1)
    if not len(corners):
        return np.empty((0, 4), np.float32), scores, kinds
    kept = cv2.dnn.NMSBoxesBatched(
        corners.astype(np.float64).tolist(), scores.tolist(), kinds.tolist(), confidence, iou
    )
    index = np.asarray(kept, np.int64).reshape(-1)[:_MOST_BOXES]
    index = index[np.argsort(-scores[index], kind="stable")]
    boxes = np.concatenate([center - size / 2, center + size / 2], axis=1)[index]
    return boxes.astype(np.float32), scores[index], kinds[index]


def torch_run(network: nn.Module) -> Callable[[Picture], NDArray[np.float32]]:
    """Return a function that runs the network eagerly on arrays, on the device of the network."""
    decoded = Decoded(network).eval()
    device = next(network.parameters()).device

    def run(square: Picture) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(decoded(torch.from_numpy(square).to(device)).float().cpu().numpy(), np.float32)

    return run
