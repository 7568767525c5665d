"""The detector of findings: YOLO11, with boxes on the source picture's own grid.

The network itself is in `detector_network.py`: torch and ultralytics are imported to convert it, and not to run it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

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
