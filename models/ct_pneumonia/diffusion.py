"""The guided diffusion: a small U-Net that finds a map of labels out of noise, led by what the DCG says.

Layer names and order are the original checkpoint's; `original` gives its behavior where ours is corrected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from ainode.models.ct_pneumonia.dcg import SMALL, ConvBlock, Dcg, Size

POINTS = 8
"""the label map is POINTS cubed"""
TIMESTEPS = 200
STEPS = 25
"""of the sampling"""
_CLASSES, _EMBED, _WIDTH, _TIME = 2, 128, 24, 128
_GROUPS = 8
# Shares of the answer: mean of the label map, classifier, global prior.
SHARES = (0.5, 0.3, 0.2)


def distances(points: int, *, original: bool = False) -> Tensor:
    """Return how much each point of the guidance map is led by the local prior, (points, points, points) in 0 to 1.

    DiffMIC-v2's map is a square with w = |i - j| / (Np - 1): the diagonal is led by the global prior, the far corners
    by the local one. In three dimensions |i - j| becomes the spread max(i, j, k) - min(i, j, k): 0 on the diagonal,
    1 where one axis is at its start and another at its end, the square's own formula on every plane of two equal
    indices, and the same whichever way the axes are named. The original measures from the corner (0, 0, 0) instead.
    Source: Yang et al., IEEE TMI 2025, doi 10.1109/TMI.2025.3530399 (dense guidance map).
    """
    grid = torch.stack(torch.meshgrid(*[torch.arange(points, dtype=torch.float32)] * 3, indexing="ij"))
    found = grid.square().sum(dim=0).sqrt() if original else grid.amax(dim=0) - grid.amin(dim=0)
    return found / found.max()


class DenseGuidanceMap(nn.Module):
    """Global and local prior as one map."""

    distance_matrix: Tensor

    def __init__(self, *, original: bool = False) -> None:
        super().__init__()
        self.register_buffer("distance_matrix", distances(POINTS, original=original))

    def forward(self, global_prior: Tensor, local_prior: Tensor) -> Tensor:
        """Shapes: (n, 2) twice to (n, 2, 8, 8, 8)."""
        near, far = (prior[:, :, None, None, None] for prior in (global_prior, local_prior))
        return (1 - self.distance_matrix) * near + self.distance_matrix * far


class CnnEncoder(nn.Module):
    """A volume or a region as a vector of 128."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 64, _EMBED)
        blocks = [ConvBlock(a, b, stride=2) for a, b in pairwise(widths)]
        self.encoder = nn.Sequential(*blocks, nn.AdaptiveAvgPool3d(1))

    def forward(self, volume: Tensor) -> Tensor:
        """Shapes: (n, 1, x, y, z) to (n, 128)."""
        return cast("Tensor", self.encoder(volume).flatten(1))


class FeatureFusion(nn.Module):
    """Chest and regions as one vector, by attention over them."""

    def __init__(self, regions: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(_EMBED, regions + 1))
        self.proj = nn.Linear(_EMBED, _EMBED)

    def forward(self, features: Tensor) -> Tensor:
        """Shapes: (n, k + 1, 128), the chest first, to (n, 128)."""
        weights = (features @ self.query).softmax(dim=1)
        return cast("Tensor", self.proj((weights.transpose(1, 2) @ features).sum(dim=1)))


class PriorGenerator(nn.Module):
    """What leads the diffusion: the dense guidance map and the feature prior."""

    def __init__(self, size: Size, *, original: bool) -> None:
        super().__init__()
        self.dense_map_gen = DenseGuidanceMap(original=original)
        self.global_encoder = CnnEncoder()
        self.cnn_encoder = CnnEncoder()
        self.feature_fusion = FeatureFusion(size.regions)

    def features(self, volume: Tensor, regions: Tensor) -> Tensor:
        """Return the feature prior (n, 128) of volumes and their regions (n, k, 1, 16, 16, 8)."""
        count, k = regions.shape[:2]
        chest = self.global_encoder(volume)[:, None]
        parts = self.cnn_encoder(regions.flatten(0, 1)).view(count, k, _EMBED)
        return cast("Tensor", self.feature_fusion(torch.cat([chest, parts], dim=1)))


class TimeEmbedding(nn.Module):
    """Time steps as vectors, one for each point; the original gives the network their mean only."""

    def __init__(self, *, original: bool) -> None:
        super().__init__()
        self.original = original
        # Index 0 is the sinusoid, which has no weights.
        layers = (nn.Identity(), nn.Conv3d(_TIME, _WIDTH, 1), nn.SiLU(), nn.Conv3d(_WIDTH, _WIDTH, 1))
        self.time_mlp = nn.Sequential(*layers)

    def forward(self, time: Tensor) -> Tensor:
        """Shapes: (n, 1, 8, 8, 8) to (n, 24, 8, 8, 8), or (n, 24, 1, 1, 1) for the original."""
        if self.original:
            time = time.mean(dim=(2, 3, 4), keepdim=True)
        half = _TIME // 2
        rates = torch.exp(torch.arange(half, device=time.device) * (-math.log(10000) / (half - 1)))
        angles = time * rates[None, :, None, None, None]
        return cast("Tensor", self.time_mlp(torch.cat([angles.sin(), angles.cos()], dim=1)))


class DoubleConv(nn.Module):
    """Two convolutions with group normalization and SiLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for one in (inputs, outputs):
            layers += [nn.Conv3d(one, outputs, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, outputs), nn.SiLU()]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (n, inputs, ...) to (n, outputs, ...)."""
        return cast("Tensor", self.double_conv(x))


class Down(nn.Module):
    """Half the size, then convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool3d(2), DoubleConv(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (n, inputs, ...) to (n, outputs, ... / 2)."""
        return cast("Tensor", self.maxpool_conv(x))


class Up(nn.Module):
    """Twice the size, joined with what came down."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(inputs, inputs // 2, 2, stride=2)
        self.conv = DoubleConv(inputs, outputs)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        """Shapes: (n, inputs, ...) and (n, inputs / 2, 2 ...) to (n, outputs, 2 ...)."""
        return cast("Tensor", self.conv(torch.cat([skipped, self.up(x)], dim=1)))


class Bottleneck(nn.Module):
    """Where time and feature prior come in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = DoubleConv(width, width)
        self.time_proj = nn.Sequential(nn.Conv3d(_WIDTH, width, 1))
        # Index 0 is the original's pooling, which has no weights and one point to pool.
        self.feature_proj = nn.Sequential(nn.Identity(), nn.Conv3d(_EMBED, width, 1))
        self.conv2 = DoubleConv(width, width)

    def forward(self, x: Tensor, time: Tensor, features: Tensor) -> Tensor:
        """Shapes: x (n, width, 2, 2, 2); time (n, 24, ...) of that size or 1; features (n, 128)."""
        led = self.conv1(x) + self.time_proj(time) + self.feature_proj(features[:, :, None, None, None])
        return cast("Tensor", self.conv2(led) + x)


class UNet(nn.Module):
    """Predicts the noise in a label map.

    Each point's time step goes in twice, by one time network: added to the first features, which are as wide as it
    is, and, pooled to the bottleneck's points, where the original adds the mean of all. No weight is new.
    """

    def __init__(self, *, original: bool) -> None:
        super().__init__()
        self.original = original
        self.time_embedding = TimeEmbedding(original=original)
        self.inc = DoubleConv(2 * _CLASSES, _WIDTH)
        self.down1 = Down(_WIDTH, 2 * _WIDTH)
        self.down2 = Down(2 * _WIDTH, 4 * _WIDTH)
        self.bottleneck = Bottleneck(4 * _WIDTH)
        self.up1 = Up(4 * _WIDTH, 2 * _WIDTH)
        self.up2 = Up(2 * _WIDTH, _WIDTH)
        self.outc = nn.Conv3d(_WIDTH, _CLASSES, 1)

    def forward(self, map_: Tensor, time: Tensor, features: Tensor) -> Tensor:
        """Shapes: map (n, 4, 8, 8, 8), noisy labels then guidance; time (n, 1, 8, 8, 8); features (n, 128)."""
        embedded = self.time_embedding(time)
        fine = self.inc(map_)
        if not self.original:
            fine = fine + embedded
            embedded = F.avg_pool3d(embedded, 4)
        middle = self.down1(fine)
        coarse = self.bottleneck(self.down2(middle), embedded, features)
        return cast("Tensor", self.outc(self.up2(self.up1(coarse, middle), fine)))


class Schedule:
    """How much of a label map is left at each time step.

    Shapes: kept (200,), the cumulative product of 1 - beta.
    Source: Ho et al., Denoising Diffusion Probabilistic Models, 2020 (linear betas); 200 steps as the original.
    """

    def __init__(self) -> None:
        self.kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, TIMESTEPS), dim=0)

    def noisy(self, labels: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """Return the map at each point's own time step; time (n, 1, 8, 8, 8)."""
        kept = self.kept.to(labels.device)[time.long()]
        return kept.sqrt() * labels + (1 - kept).sqrt() * noise

    def start(self, noise: Tensor, guidance: Tensor) -> Tensor:
        """Return what the sampling starts from: the guidance map as noisy as a label map is at the last time step.

        After 200 steps a seventh of a map's variance is still its own; pure noise there means a label of 0 for both
        classes, and the network, which reads the label out of the map's mean, then finds neither.
        Source: DiffMIC-v2, doi 10.1109/TMI.2025.3530399 (sampling from the guided map).
        """
        kept = float(self.kept[-1])
        return math.sqrt(kept) * guidance + math.sqrt(1 - kept) * noise

    def sampled(self, noise: Tensor, predicted: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Return the label map that 25 steps find in a noisy one; `predicted` gives the noise in a map at a time step.

        Source: Song et al., Denoising Diffusion Implicit Models, ICLR 2021, equation 12 with eta 0.
        """
        times = torch.linspace(TIMESTEPS - 1, 0, STEPS).long().tolist()
        kept = [float(self.kept[time]) for time in times]
        current = noise
        for time, now, after in zip(times, kept, [*kept[1:], 1.0], strict=True):
            found = predicted(current, time)
            clean = (current - math.sqrt(1 - now) * found) / math.sqrt(now)
            current = math.sqrt(after) * clean + math.sqrt(1 - after) * found
        return current


class Pneumonia(nn.Module):
    """DCG, priors, U-Net and classifier under the original's names."""

    def __init__(self, size: Size = SMALL, *, original: bool = False) -> None:
        super().__init__()
        self.original = original
        self.dcg_model = Dcg(size, original=original)
        self.prior_gen = PriorGenerator(size, original=original)
        self.unet = UNet(original=original)
        self.classifier = nn.Sequential(nn.Linear(_EMBED, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, _CLASSES))
        self.schedule = Schedule()

    def train(self, mode: bool = True) -> Pneumonia:  # noqa: FBT001, FBT002  # torch's own signature
        """Change between training and evaluation; the DCG is frozen here, its batch statistics too."""
        super().train(mode)
        self.dcg_model.eval()
        return self

    def forward(self, volume: Tensor, noise: Tensor) -> Tensor:
        """Return the parts of the answer (n, 4, 2): label map, classifier, global prior, local prior."""
        logits, local, _, regions = self.dcg_model(volume)
        return self.sampled(noise, logits, local, self.prior_gen.features(volume, regions))

    def sampled(self, noise: Tensor, logits: Tensor, local: Tensor, features: Tensor) -> Tensor:
        """Return the parts of the answer (n, 4, 2) from noise (n, 2, 8, 8, 8), both logits and the feature prior."""
        priors = logits.softmax(dim=1), local.softmax(dim=1)
        guidance = self.prior_gen.dense_map_gen(*priors)

        def predicted(current: Tensor, time: int) -> Tensor:
            times = torch.full_like(current[:, :1], float(time))
            return cast("Tensor", self.unet(torch.cat([current, guidance], dim=1), times, features))

        start = noise if self.original else self.schedule.start(noise, guidance)
        clean = self.schedule.sampled(start, predicted)
        return torch.stack([clean.mean(dim=(2, 3, 4)), self.classifier(features).softmax(dim=1), *priors], dim=1)


def answer(parts: Tensor, *, original: bool = False) -> Tensor:
    """Return the probabilities (n, 2) of the parts (n, 4, 2).

    The mean of the label map need be no probability; it is held to 0 to 1 and to a sum of 1 before it is mixed. The
    original mixes it as it is, and takes a softmax of the sum when that is off by more than 0.01.
    """
    mean = parts[:, 0]
    if not original:
        held = mean.clamp(1e-6, 1)
        mean = held / held.sum(dim=1, keepdim=True)
    mixed = SHARES[0] * mean + SHARES[1] * parts[:, 1] + SHARES[2] * parts[:, 2]
    if original and not bool(((mixed.sum(dim=1) - 1).abs() < 0.01).all()):  # noqa: PLR2004  # the original's
        return mixed.softmax(dim=1)
    return mixed
