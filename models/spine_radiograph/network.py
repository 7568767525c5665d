"""The ensemble: timm classifiers with one logit each, which give activation maps with their logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ainode.models.errors import CardError
from ainode.models.running.torchvision_compat import ensure_nms

# A DenseNet of 0.9 million parameters, which a CPU can train: timm has no DenseNet below densenet121.
COMPACT_DENSENET = "densenet_compact"


def classifier(architecture: str) -> nn.Module:
    """Return an untrained timm network of a name with one logit.

    Raises: CardError if its head is not global average pooling and one linear layer.
    """
    ensure_nms()
    import timm  # noqa: PLC0415  # timm imports torchvision, which `ensure_nms` must precede

    network: nn.Module
    if architecture == COMPACT_DENSENET:
        from timm.models.densenet import DenseNet  # noqa: PLC0415  # timm imports torchvision, which `ensure_nms` must precede

        network = DenseNet(growth_rate=16, block_config=(4, 6, 10, 8), num_classes=1)
    else:
        network = timm.create_model(architecture, pretrained=False, num_classes=1, in_chans=3)
    if not isinstance(_head(network), nn.Linear):
        raise CardError(f"{architecture}: no pooling and linear head, so no map from the forward pass")
    return network


def _head(network: nn.Module) -> nn.Module:
    """Return the classifier's last layer; nn.Identity for a head that is no module."""
    head = network.get_classifier()  # type: ignore[operator]
    return head if isinstance(head, nn.Module) else nn.Identity()


def features(network: nn.Module, pictures: Tensor) -> Tensor:
    """Return the last feature maps, (B, C, h, w), of normalized three-channel pictures."""
    maps: Tensor = network.forward_features(pictures)  # type: ignore[operator]
    return maps


class MappedClassifier(nn.Module):
    """A classifier that returns its logit and, of the same pass, the logit's activation map.

    The logit of average pooling and a linear layer is the mean of the map plus the bias, and
    the map is Grad-CAM up to a factor before its ReLU: the gradient of the logit by a feature
    is the head's weight over the number of cells.
    Source: Selvaraju et al., Grad-CAM, ICCV 2017, section 3.1 (generalization of CAM).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B,) logits and (B, h, w) maps of (B, 3, H, W) pictures."""
        feature_maps = features(self.network, pictures)
        head = _head(self.network)
        weight, bias = cast("Tensor", head.weight), cast("Tensor", head.bias)
        score_maps = torch.nn.functional.conv2d(feature_maps, weight[:, :, None, None])[:, 0]
        return score_maps.mean(dim=(1, 2)) + bias, score_maps


class Ensemble(nn.Module):
    """All members on one picture, with the normalization, as one graph to convert."""

    mean: Tensor
    std: Tensor

    def __init__(self, members: Mapping[str, nn.Module], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(MappedClassifier(network) for network in members.values())
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, n) logits and (B, n, h, w) maps of (B, 1, H, W) pictures in 0 to 1."""
        normalized = (pictures - self.mean) / self.std
        results = [member(normalized) for member in self.members]
        return torch.stack([r[0] for r in results], dim=1), torch.stack([r[1] for r in results], dim=1)
