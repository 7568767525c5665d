"""A network that answers for each place of a gray picture: the first half of EfficientNet-Lite0 and a decoder.

The encoder ends at a sixteenth of the picture. Its layers carry the names of the published checkpoint, so that a
training begins with ImageNet weights; a gray picture has one channel where the checkpoint has three, and the first
layer holds the sum over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

# Kernel, stride, expansion, channels in and out of each block. Source: EfficientNet-Lite0, stages 1 to 5.
_BLOCKS = (
    (3, 1, 1, 32, 16),
    (3, 2, 6, 16, 24),
    (3, 1, 6, 24, 24),
    (5, 2, 6, 24, 40),
    (5, 1, 6, 40, 40),
    (3, 2, 6, 40, 80),
    (3, 1, 6, 80, 80),
    (3, 1, 6, 80, 80),
    (5, 1, 6, 80, 112),
    (5, 1, 6, 112, 112),
    (5, 1, 6, 112, 112),
)
# Blocks after which the resolution halves: their channels go to the decoder.
_KEPT = (0, 2, 4, 10)
_EPSILON, _MOMENTUM = 1e-3, 0.01
# Channels of the decoder's stages by the stride at which each ends, and of the encoder's features that each takes in.
_STAGES = {8: (64, 40), 4: (40, 24), 2: (24, 16), 1: (16, 8)}
DEEPEST = 112
"""channels of the encoder's last features"""


class PixelNetwork(nn.Module):
    """`outputs` numbers, without a last activation, on each place of a picture; places lie `stride` pixels apart.

    A picture has `channels` channels, for example neighboring slices.
    """

    def __init__(self, *, outputs: int, channels: int = 1, stride: int = 1) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(channels, 32, 3, 2, padding=1, bias=False)
        self._bn0 = nn.BatchNorm2d(32, _EPSILON, _MOMENTUM)
        self._blocks = nn.ModuleList(Block(*block) for block in _BLOCKS)
        self.fine = _joined(channels, _STAGES[1][1]) if stride == 1 else None
        self.up = nn.ModuleList()
        width = DEEPEST
        for _, (out, joining) in takewhile(lambda stage: stage[0] >= stride, _STAGES.items()):
            self.up.append(_joined(width + joining, out))
            width = out
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Shapes: (n, channels, rows, columns), multiples of 16; out (n, outputs, rows / stride, columns / stride)."""
        return self.decoded(self.encoded(picture))

    def encoded(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Return the features of a picture, the finest first; the last are (n, 112, rows / 16, columns / 16)."""
        features = [self.fine(picture)] if self.fine is not None else []
        values = functional.relu6(self._bn0(self._conv_stem(picture)))
        for number, block in enumerate(self._blocks):
            values = block(values)
            if number in _KEPT:
                features.append(values)
        return tuple(features)

    def decoded(self, features: tuple[Tensor, ...]) -> Tensor:
        """Return the answer from the features of a picture."""
        *finer, values = features
        for stage in self.up:
            larger = functional.interpolate(values, scale_factor=2.0, mode="bilinear", align_corners=False)
            values = stage(torch.cat([larger, finer.pop()], dim=1))
        return cast("Tensor", self.head(values))

    def load_imagenet(self, checkpoint: Path) -> None:
        """Take over the encoder's weights from the published checkpoint of EfficientNet-Lite0.

        Each channel of the picture starts with its share of what a gray picture would start with.
        """
        state: Mapping[str, Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)
        own = self.state_dict()
        shared = {name: value for name, value in state.items() if name in own}
        channels = self._conv_stem.in_channels
        stem = state["_conv_stem.weight"].sum(dim=1, keepdim=True).expand(-1, channels, -1, -1) / channels
        self.load_state_dict({**own, **shared, "_conv_stem.weight": stem})


class Block(nn.Module):
    """An inverted bottleneck without attention."""

    def __init__(self, kernel: int, stride: int, expansion: int, channels: int, out: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.is_expanded, self.is_residual = expansion > 1, stride == 1 and channels == out
        if self.is_expanded:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, _EPSILON, _MOMENTUM)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, _EPSILON, _MOMENTUM)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, _EPSILON, _MOMENTUM)

    def forward(self, values: Tensor) -> Tensor:
        """Shapes: (n, channels, y, x) in; (n, out, y / stride, x / stride) out."""
        wide = functional.relu6(self._bn0(self._expand_conv(values))) if self.is_expanded else values
        narrow = self._bn2(self._project_conv(functional.relu6(self._bn1(self._depthwise_conv(wide)))))
        return cast("Tensor", values + narrow if self.is_residual else narrow)


def _joined(channels: int, out: int) -> nn.Sequential:
    """Return two convolutions with normalization; the second takes no bias from the first."""
    layers: list[nn.Module] = []
    for inputs in (channels, out):
        layers += [nn.Conv2d(inputs, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
