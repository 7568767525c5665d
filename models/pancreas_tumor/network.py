"""The network of the tumor's pixels and of its middle."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ainode.models.pancreas_tumor.preprocess import COLUMNS, ROWS
from ainode.models.running.pixel_network import PixelNetwork

STRIDE = 2
"""pixels of the framed picture between two places of the answer"""


class PancreasNetwork(PixelNetwork):
    """Logits of the tumor and of its middle on every second pixel of a framed picture.

    The place in the body is a part of the answer: two channels beside the gray hold column and row, -1 to 1.

    Shapes: (n, 1, 160, 192) in, (n, 2, 80, 96) out.
    """

    def __init__(self) -> None:
        super().__init__(outputs=2, channels=3, stride=STRIDE)
        columns = torch.linspace(-1, 1, COLUMNS).expand(ROWS, COLUMNS)
        rows = torch.linspace(-1, 1, ROWS)[:, None].expand(ROWS, COLUMNS)
        self.register_buffer("places", torch.stack([columns, rows])[None], persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Return the logits of framed pictures."""
        places = self.get_buffer("places").expand(len(picture), -1, -1, -1)
        return super().forward(torch.cat([picture, places], dim=1))

    def load_imagenet(self, checkpoint: Path) -> None:
        """Take over the encoder's weights; the gray starts with all of the first layer, the places with nothing."""
        super().load_imagenet(checkpoint)
        with torch.no_grad():
            stem = self._conv_stem.weight
            stem[:, :1] *= stem.shape[1]
            stem[:, 1:] = 0
