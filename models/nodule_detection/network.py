"""The network that tells a nodule from a vessel: two towers, for the nodule's form and for its surroundings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WIDTHS = (16, 32, 64)


def _tower() -> nn.Sequential:
    """Return the convolutions over one cube; the side is halved twice."""
    first, second, third = _WIDTHS
    return nn.Sequential(
        *_step(1, first),
        nn.MaxPool3d(2),
        *_step(first, second),
        nn.MaxPool3d(2),
        *_step(second, third),
        *_step(third, third),
    )


def _step(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (nn.Conv3d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))


class NoduleNetwork(nn.Module):
    """A logit for each candidate.

    Shapes: (n, 2, side, side, side) in 0 to 1, fine and coarse cells; logits (n, 1).
    """

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = _tower(), _tower()
        self.head = nn.Sequential(
            nn.Linear(4 * _WIDTHS[-1], 64), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(64, 1)
        )

    def forward(self, cubes: Tensor) -> Tensor:
        """Return the logits of cubes."""
        features = []
        for number, tower in enumerate((self.fine, self.coarse)):
            maps = tower(cubes[:, number : number + 1] - 0.3)
            features += [maps.mean(dim=(2, 3, 4)), maps.amax(dim=(2, 3, 4))]
        logits: Tensor = self.head(torch.cat(features, dim=1))
        return logits
