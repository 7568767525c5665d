"""The outline network: a small 3D U-Net from the cells around a point to the nodule there."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

WIDTHS = (12, 24, 48, 64)


def _block(entering: int, leaving: int) -> nn.Sequential:
    """Return two convolutions, each normalized."""
    return nn.Sequential(
        nn.Conv3d(entering, leaving, 3, padding=1, bias=False),
        nn.BatchNorm3d(leaving),
        nn.ReLU(inplace=True),
        nn.Conv3d(leaving, leaving, 3, padding=1, bias=False),
        nn.BatchNorm3d(leaving),
        nn.ReLU(inplace=True),
    )


class OutlineNetwork(nn.Module):
    """A network from the cells around a point, and the cells' nearness to the point, to the logit of each cell.

    Source: Çiçek et al., 3D U-Net, MICCAI 2016.
    """

    def __init__(self) -> None:
        super().__init__()
        first, *deeper = WIDTHS
        pairs = list(zip(WIDTHS[:-1], deeper, strict=True))
        self.down = nn.ModuleList([_block(2, first), *(_block(wide, wider) for wide, wider in pairs)])
        self.up = nn.ModuleList(_block(wide + wider, wide) for wide, wider in reversed(pairs))
        self.last = nn.Conv3d(first, 1, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, 48, 48, 48) and the deepest features (B, 64, 6, 6, 6) of (B, 2, 48, 48, 48)."""
        x = pictures.contiguous(memory_format=torch.channels_last_3d)
        levels = []
        for number, block in enumerate(self.down):
            x = block(F.max_pool3d(x, 2) if number else x)
            levels.append(x)
        deepest = levels.pop()
        x = deepest
        for block, level in zip(self.up, reversed(levels), strict=True):
            x = block(torch.cat([level, F.interpolate(x, scale_factor=2.0, mode="nearest")], dim=1))
        return self.last(x)[:, 0], deepest
