"""The network: the first six stages of EfficientNet-Lite0, and two answers for each cell of 16 x 16 pixels.

A cell says how probable malignant is, and how likely the cell lies on the lesion. The answer is the mean of the first,
weighted with the second: the map holds each cell's part, and its sum is the probability, of the same pass.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ainode.models.running.pixel_network import Block, PixelNetwork

# Kernel, stride, expansion, channels in and out. Source: EfficientNet-Lite0, stage 6; its stride of 2 is 1 here, for
# a map of 9 x 12 cells.
_STAGE_6 = ((5, 1, 6, 112, 192), (5, 1, 6, 192, 192), (5, 1, 6, 192, 192), (5, 1, 6, 192, 192))
CHANNELS = 192
# The blocks that keep the weights of ImageNet: stages 1 and 2. Half of the operations lie there.
_KEPT = 3
# Weights of a few hundred steps: the means of the normalization follow sooner than in a training of ImageNet.
_MOMENTUM = 0.05
_DROPOUT = 0.2
# The checkpoint was trained with (pixel - 127) / 128.
_MIDDLE, _RANGE = 127.0, 128.0
_LEAST = 1e-6
"""keeps the logit of a probability of 0 or 1 finite"""


class LesionNetwork(PixelNetwork):
    """Logit, map and place of the lesion of color pictures."""

    def __init__(self) -> None:
        super().__init__(outputs=2, channels=3, stride=16)
        self._blocks.extend(Block(*shape) for shape in _STAGE_6)
        self.head = nn.Conv2d(CHANNELS, 2, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = _MOMENTUM

    def features(self, pictures: Tensor) -> Tensor:
        """Return the features (n, 192, rows / 16, columns / 16) of pictures (n, 3, rows, columns), 0 to 255.

        The first layers keep the weights of ImageNet: edges and colors are those of any picture.
        """
        with torch.no_grad():
            values = (pictures - _MIDDLE) / _RANGE
            values = functional.relu6(self._bn0(self._conv_stem(values)))
            for block in self._blocks[:_KEPT]:
                values = block(values)
        for block in self._blocks[_KEPT:]:
            values = block(values)
        return functional.dropout2d(values, _DROPOUT, self.training)

    def train(self, mode: bool = True) -> LesionNetwork:  # noqa: FBT001, FBT002  # torch's signature
        """Begin or end the training of the layers that are trained; the others stay as they are."""
        super().train(mode)
        for module in (self._bn0, *self._blocks[:_KEPT]):
            module.eval()
        return self

    def answers(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (n,) and the maps (n, rows / 16, columns / 16), whose sums are the probabilities."""
        evidence, place = self.head(features).float().unbind(dim=1)
        on_lesion = place.sigmoid()
        maps = evidence.sigmoid() * on_lesion / on_lesion.sum(dim=(1, 2), keepdim=True)
        probability = maps.sum(dim=(1, 2)).clamp(_LEAST, 1 - _LEAST)
        return probability.log() - (1 - probability).log(), maps

    def place(self, features: Tensor) -> Tensor:
        """Return the logit of each cell that it lies on the lesion, (n, rows / 16, columns / 16)."""
        places: Tensor = self.head(features).float()[:, 1]
        return places

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # two answers
        """Return the logits (n,) and the maps (n, rows / 16, columns / 16) of pictures (n, 3, rows, columns)."""
        return self.answers(self.features(pictures))

    def load_imagenet(self, checkpoint: Path) -> None:
        """Take over the weights of the published checkpoint of EfficientNet-Lite0, the color of its first layer too."""
        super().load_imagenet(checkpoint)
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        self._conv_stem.load_state_dict({"weight": state["_conv_stem.weight"]})
