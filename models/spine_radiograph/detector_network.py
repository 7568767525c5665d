"""The detector's network: YOLO11 by ultralytics (AGPL-3.0), imported only to build its graph, once."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ainode.models.running.torchvision_compat import ensure_nms
from ainode.models.spine_radiograph.preprocess import Picture


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


def eager_run(network: nn.Module) -> Callable[[Picture], NDArray[np.float32]]:
    """Return a function that runs the network eagerly on arrays, on the device of the network."""
    decoded = GrayDetector(network).eval()
    device = next(network.parameters()).device

    def run(square: Picture) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(decoded(torch.from_numpy(square).to(device)).float().cpu().numpy(), np.float32)

    return run
