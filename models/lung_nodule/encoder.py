"""The 3D ResNet of FMCIB: its layers have MONAI's names, so FMCIB's weights load by name.

The network is written out here because MONAI also imports an installed TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

_EXPANSION = 4


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """The shape of one encoder: widths and blocks of the four stages, the pooling, the last stage's stride."""

    widths: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    max_pool: bool = True
    last_stride: int = 2

    @property
    def features(self) -> int:
        """Return the number of features that the encoder gives."""
        return self.widths[3] * _EXPANSION


# MONAI's resnet50(n_input_channels=1, widen_factor=2, conv1_t_stride=2, feed_forward=False, bias_downsample=True).
FMCIB = EncoderShape((128, 256, 512, 1024), (3, 4, 6, 3))
# Two cores can train it; its map has 7 x 7 x 7 cells, FMCIB's map has 2 x 2 x 2.
COMPACT = EncoderShape((8, 12, 16, 24), (1, 1, 1, 1), max_pool=False, last_stride=1)


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut around them."""

    def __init__(self, entering: int, width: int, stride: int) -> None:
        super().__init__()
        leaving = width * _EXPANSION
        self.conv1 = nn.Conv3d(entering, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, leaving, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(leaving)
        self.act = nn.ReLU()
        self.downsample = None
        if stride != 1 or entering != leaving:
            self.downsample = nn.Sequential(nn.Conv3d(entering, leaving, 1, stride=stride), nn.BatchNorm3d(leaving))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 4 width, d, h, w) of (B, entering, D, H, W)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act(self.bn1(self.conv1(x)))
        x = self.act(self.bn2(self.conv2(x)))
        out: Tensor = self.act(self.bn3(self.conv3(x)) + shortcut)
        return out


class Encoder(nn.Module):
    """A network from a patch to its features and to the map whose mean the features are."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        first = shape.widths[0]
        self.conv1 = nn.Conv3d(1, first, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(first)
        self.act = nn.ReLU()
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1) if shape.max_pool else nn.Identity()
        strides = (1, 2, 2, shape.last_stride)
        entering = first
        for number, (width, count, stride) in enumerate(zip(shape.widths, shape.blocks, strides, strict=True), start=1):
            blocks = [Bottleneck(entering, width, stride)]
            entering = width * _EXPANSION
            blocks.extend(Bottleneck(entering, width, 1) for _ in range(count - 1))
            setattr(self, f"layer{number}", nn.Sequential(*blocks))

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, F) and their map (B, F, d, h, w) of patches (B, 1, 50, 50, 50)."""
        x = self.maxpool(self.act(self.bn1(self.conv1(patches))))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return x.mean(dim=(2, 3, 4)), x
