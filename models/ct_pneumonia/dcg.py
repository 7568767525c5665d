"""The dual-granularity guidance network (DCG): a global encoder of the whole chest, a local encoder of its regions.

Layer names and order are the original checkpoint's. `original` gives the original's behavior where this code corrects
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

Starts = NDArray[np.int64]

REGION = (16, 16, 8)
"""size of a region of interest in voxels, x, y, z"""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a DCG: the first width, the stages, the number of regions, the hidden width, the dropout."""

    width: int
    stages: int
    regions: int
    hidden: int
    dropout: float

    @property
    def local_stages(self) -> int:
        """Return the number of the local encoder's stages: one less, because a region is small."""
        return self.stages - 1


SMALL = Size(width=16, stages=3, regions=3, hidden=64, dropout=0.3)
LARGE = Size(width=32, stages=4, regions=5, hidden=128, dropout=0.5)
SIZES = {"small": SMALL, "large": LARGE}


class ConvBlock(nn.Module):
    """Convolution, batch normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (n, inputs, ...) to (n, outputs, ... / stride)."""
        return F.relu(self.bn(self.conv(x)))


class ResBlock(nn.Module):
    """Two convolutions with a shortcut around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvBlock(width, width)
        self.conv2 = nn.Conv3d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: as the input."""
        return F.relu(self.bn2(self.conv2(self.conv1(x))) + x)


class GlobalEncoder(nn.Module):
    """The encoder of the whole chest: logits and a saliency map."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.stages = size.stages
        widths = [1, *(size.width * 2**stage for stage in range(size.stages))]
        for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            self.add_module(f"conv{number}", ConvBlock(inputs, outputs, stride=2))
            self.add_module(f"res{number}", ResBlock(outputs))
        self.dropout = nn.Dropout3d(size.dropout / 2)
        self.saliency_conv = nn.Conv3d(widths[-1], 1, 1)
        self.fc = nn.Sequential(
            nn.Linear(widths[-1], size.hidden), nn.ReLU(), nn.Dropout(size.dropout), nn.Linear(size.hidden, 2)
        )

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (n, 2) and the saliency map before its sigmoid (n, 1, x, y, z) / 2**stages."""
        features = self.features(volume)
        return self.fc(features.mean(dim=(2, 3, 4))), self.saliency_conv(features)

    def features(self, volume: Tensor) -> Tensor:
        """Return the features that logits and map are made from, (n, width 2**(stages - 1), ...)."""
        features = volume
        for number in range(1, self.stages + 1):
            features = self.get_submodule(f"conv{number}")(features)
            features = self.dropout(self.get_submodule(f"res{number}")(features))
        return features


class LocalEncoder(nn.Module):
    """The encoder of one region as a vector."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        widths = [1, *(size.width * 2**stage for stage in range(size.local_stages))]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [ConvBlock(inputs, outputs, stride=2), ResBlock(outputs), nn.Dropout3d(size.dropout / 2)]
        self.encoder = nn.Sequential(*layers)
        self.fc = nn.Sequential(nn.Linear(widths[-1], size.hidden), nn.ReLU(), nn.Dropout(size.dropout))

    def forward(self, regions: Tensor) -> Tensor:
        """Shapes: (n, 1, 16, 16, 8) to (n, hidden)."""
        return cast("Tensor", self.fc(self.encoder(regions).mean(dim=(2, 3, 4))))


class GatedAttention(nn.Module):
    """The weights of the regions, and their weighted sum.

    Source: Ilse et al., Attention-based Deep Multiple Instance Learning, ICML 2018, equation 9.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_V = nn.Linear(width, width // 2)
        self.attention_U = nn.Linear(width, width // 2)
        self.attention_w = nn.Linear(width // 2, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sum (n, width) of (n, k, width), and the weights (n, k)."""
        gate = torch.tanh(self.attention_V(features)) * torch.sigmoid(self.attention_U(features))
        weights = self.attention_w(gate).softmax(dim=1)
        return (features * weights).sum(dim=1), weights[..., 0]


class Dcg(nn.Module):
    """Global and local encoder; `regions_of` chooses the regions, and no gradient passes through the choice."""

    def __init__(self, size: Size = SMALL, *, original: bool = False) -> None:
        super().__init__()
        self.size, self.original = size, original
        self.global_encoder = GlobalEncoder(size)
        self.local_encoder = LocalEncoder(size)
        self.gated_attention = GatedAttention(size.hidden)
        half = size.hidden // 2
        self.local_fc = nn.Sequential(
            nn.Linear(size.hidden, half), nn.ReLU(), nn.Dropout(size.dropout), nn.Linear(half, 2)
        )

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return global logits, local logits, the map before its sigmoid, and the regions (n, k, 1, 16, 16, 8)."""
        logits, saliency = self.global_encoder(volume)
        regions = self.regions_of(volume, saliency)
        return logits, self.local(regions)[0], saliency, regions

    def local(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return local logits (n, 2) and attention (n, k) of regions (n, k, 1, 16, 16, 8)."""
        count, k = regions.shape[:2]
        features = self.local_encoder(regions.flatten(0, 1)).view(count, k, -1)
        fused, weights = self.gated_attention(features)
        return self.local_fc(fused), weights

    def regions_of(self, volume: Tensor, saliency: Tensor) -> Tensor:
        """Return the regions at the map's maxima, (n, k, 1, 16, 16, 8)."""
        choose_starts = nearby_maxima if self.original else separate_maxima
        # Both rules use the order of the values only, which the sigmoid does not change.
        maps = saliency.detach().sigmoid().float().cpu().numpy()[:, 0]
        return torch.stack(
            [
                torch.stack(
                    [crop(chest, start) for start in choose_starts(map_, tuple(chest.shape[1:]), self.size.regions)]
                )
                for chest, map_ in zip(volume, maps, strict=True)
            ]
        )


def separate_maxima(saliency: NDArray[np.float32], shape: tuple[int, ...], count: int) -> Starts:
    """Return the first voxels of `count` regions, (count, 3): the highest cells whose regions do not overlap.

    Greedy non-maximum suppression on the coarse map; a region lies around its cell's middle, inside the volume.
    """
    cell = np.asarray(shape) / saliency.shape
    cells_apart = np.ceil(np.asarray(REGION) / cell).astype(int)
    remaining = saliency.astype(np.float32).copy()
    starts = np.empty((count, 3), np.int64)
    for number in range(count):
        peak = np.asarray(np.unravel_index(int(remaining.argmax()), remaining.shape))
        middle = (peak + 0.5) * cell
        starts[number] = np.clip(np.rint(middle - np.asarray(REGION) / 2), 0, np.asarray(shape) - REGION)
        low, high = np.maximum(peak - cells_apart + 1, 0), peak + cells_apart
        remaining[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = -np.inf
    return starts


def nearby_maxima(saliency: NDArray[np.float32], shape: tuple[int, ...], count: int) -> Starts:
    """Return the original's choice of first voxels: at the `count` highest voxels, mostly neighbors of each other."""
    fine = F.interpolate(torch.from_numpy(saliency)[None, None], shape, mode="trilinear", align_corners=False)
    highest = torch.topk(fine.flatten(), count).indices.numpy()
    middles = np.stack(np.unravel_index(highest, shape), axis=1)
    return np.asarray(np.maximum(middles - np.asarray(REGION) // 2, 0), np.int64)


def crop(volume: Tensor, start: NDArray[np.int64]) -> Tensor:
    """Return one region (1, 16, 16, 8) of a volume (1, x, y, z), zeros where it reaches beyond the far edge."""
    x, y, z = (slice(int(first), int(first) + n) for first, n in zip(start, REGION, strict=True))
    region = volume[:, x, y, z]
    missing = [n - size for n, size in zip(REGION, region.shape[1:], strict=True)]
    return F.pad(region, (0, missing[2], 0, missing[1], 0, missing[0]))


def initialize(network: nn.Module) -> None:
    """Draw the weights as the original does, except for the map, which has no loss there, and for the last layers.

    Source: He et al., Delving Deep into Rectifiers, ICCV 2015 (fan out).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, GlobalEncoder):
            # Few cells are diseased: the map starts at 2 % everywhere instead of at noise.
            nn.init.zeros_(module.saliency_conv.weight)
            nn.init.constant_(module.saliency_conv.bias, -4.0)  # type: ignore[arg-type]
        if isinstance(module, GlobalEncoder | Dcg):
            # Fan out over two classes gives weights of 1 and logits of 10, which take hundreds of steps to undo.
            last = module.fc if isinstance(module, GlobalEncoder) else module.local_fc
            nn.init.zeros_(cast("nn.Linear", last[-1]).weight)
