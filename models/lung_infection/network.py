"""The network: the first half of EfficientNet-Lite0 and a decoder back to the picture's pixels.

The encoder ends at a sixteenth of the picture. Its layers carry the names of the published checkpoint, so that a
training begins with ImageNet weights; a picture has one channel, and the first layer holds the sum over three colors.
"""

from __future__ import annotations

from collections.abc import Mapping
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


class InfectionNetwork(nn.Module):
    """Logits of lung and infection on each pixel of a picture; lung includes infection."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(1, 32, 3, 2, padding=1, bias=False)
        self._bn0 = nn.BatchNorm2d(32, _EPSILON, _MOMENTUM)
        self._blocks = nn.ModuleList(_Block(*block) for block in _BLOCKS)
        self.fine = _joined(1, 8)
        self.up = nn.ModuleList(
            (_joined(112 + 40, 64), _joined(64 + 24, 40), _joined(40 + 16, 24), _joined(24 + 8, 16))
        )
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Shapes: (n, 1, 256, 256) in, (n, 2, 256, 256) out."""
        features = [self.fine(picture)]
        values = functional.relu6(self._bn0(self._conv_stem(picture)))
        for number, block in enumerate(self._blocks):
            values = block(values)
            if number in _KEPT:
                features.append(values)
        values = features.pop()
        for stage in self.up:
            larger = functional.interpolate(values, scale_factor=2.0, mode="bilinear", align_corners=False)
            values = stage(torch.cat([larger, features.pop()], dim=1))
        return cast("Tensor", self.head(values))

    def load_imagenet(self, checkpoint: Path) -> None:
        """Take over the encoder's weights from the published checkpoint of EfficientNet-Lite0."""
        state: Mapping[str, Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)
        own = self.state_dict()
        shared = {name: value for name, value in state.items() if name in own}
        stem = state["_conv_stem.weight"].sum(dim=1, keepdim=True)
        self.load_state_dict({**own, **shared, "_conv_stem.weight": stem})


class _Block(nn.Module):
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
