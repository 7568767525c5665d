"""The network of the vertebrae: where a middle is, the four corners from each place there, the view of the spine."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ainode.models.running.pixel_network import DEEPEST, PixelNetwork
from ainode.models.spine_vertebrae.preprocess import STRIDE

MAPS = 10
FEATURES = 2 * DEEPEST
"""of a picture, by which its view is told"""


class VertebraNetwork(PixelNetwork):
    """The logit of a vertebra's middle; x and y from the place to the four corners; the number of the vertebra.

    Shapes: (n, 1, rows, columns) in, (n, 10, rows / 4, columns / 4) out.
    Units: distances in `REACH`; the number runs from 0 (T1) to 1 (L5).
    """

    def __init__(self) -> None:
        super().__init__(outputs=MAPS, stride=STRIDE)


class SpineNetwork(VertebraNetwork):
    """The maps of the vertebrae, and the logit that the picture shows a spine from the front, the same at each place.

    Shapes: (n, 1, rows, columns) in, (n, 11, rows / 4, columns / 4) out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frontal = nn.Linear(FEATURES, 1)
        nn.init.zeros_(self.frontal.weight)
        nn.init.zeros_(self.frontal.bias)

    def forward(self, picture: Tensor) -> Tensor:
        """Return the maps, and the logit of the view behind them."""
        features = self.encoded(picture)
        maps = self.decoded(features)
        view = self.frontal(_described(features[-1], maps[:, :1]))
        return torch.cat([maps, view[:, :, None, None].expand(-1, -1, maps.shape[2], maps.shape[3])], dim=1)

    def described(self, picture: Tensor) -> Tensor:
        """Return the numbers (n, 224) of pictures by which their view is told."""
        features = self.encoded(picture)
        return _described(features[-1], self.decoded(features)[:, :1])


def _described(deepest: Tensor, middles: Tensor) -> Tensor:
    """Return the mean of the encoder's features where the vertebrae are, and over the picture.

    Shapes: deepest (n, 112, rows / 16, columns / 16), middles (n, 1, rows / 4, columns / 4) logits; out (n, 224).
    """
    weight = functional.max_pool2d(middles.sigmoid(), 16 // STRIDE)
    at_vertebrae = (deepest * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))
    return torch.cat([at_vertebrae, deepest.mean(dim=(2, 3))], dim=1)
