"""The guided diffusion: a small U-Net takes the noise out of a label map, guided by the DCG's probabilities.

Layer names and order are the original checkpoint's. `original` gives the original's behavior where this code corrects
it.
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
"""the number of the label map's points along each axis"""
TIMESTEPS = 200
STEPS = 25
"""the number of the sampling's steps"""
_CLASSES, _EMBED, _WIDTH, _TIME = 2, 128, 24, 128
_GROUPS = 8
# The shares in the mixed probability: mean of the label map, classifier, global prior.
SHARES = (0.5, 0.3, 0.2)


def distances(points: int, *, original: bool = False) -> Tensor:
    """Return the local prior's share in each point of the guidance map, (points, points, points) in 0 to 1.

    DiffMIC-v2's map is a square with w = |i - j| / (Np - 1): the diagonal is the global prior's, the far corners are
    the local prior's. In three dimensions |i - j| becomes the spread max(i, j, k) - min(i, j, k). The spread is 0 on
    the diagonal, and 1 where one axis is at its start and another at its end. On a plane of two equal indices the
    spread is the square's own formula, and the order of the axes does not matter. The original measures from the
    corner (0, 0, 0) instead.
    Source: Yang et al., IEEE TMI 2025, doi 10.1109/TMI.2025.3530399 (dense guidance map).
    """
    grid = torch.stack(torch.meshgrid(*[torch.arange(points, dtype=torch.float32)] * 3, indexing="ij"))
    spread = grid.square().sum(dim=0).sqrt() if original else grid.amax(dim=0) - grid.amin(dim=0)
    return spread / spread.max()


class DenseGuidanceMap(nn.Module):
    """The guidance map: global and local prior, mixed point by point."""

    distance_matrix: Tensor

    def __init__(self, *, original: bool = False) -> None:
        super().__init__()
        self.register_buffer("distance_matrix", distances(POINTS, original=original))

    def forward(self, global_prior: Tensor, local_prior: Tensor) -> Tensor:
        """Shapes: (n, 2) twice to (n, 2, 8, 8, 8)."""
        near, far = (prior[:, :, None, None, None] for prior in (global_prior, local_prior))
        return (1 - self.distance_matrix) * near + self.distance_matrix * far


class CnnEncoder(nn.Module):
    """The encoder of a volume or a region as a vector of 128."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 64, _EMBED)
        blocks = [ConvBlock(a, b, stride=2) for a, b in pairwise(widths)]
        self.encoder = nn.Sequential(*blocks, nn.AdaptiveAvgPool3d(1))

    def forward(self, volume: Tensor) -> Tensor:
        """Shapes: (n, 1, x, y, z) to (n, 128)."""
        return cast("Tensor", self.encoder(volume).flatten(1))


class FeatureFusion(nn.Module):
    """The fusion of chest and regions to one vector, by attention over both."""

    def __init__(self, regions: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(_EMBED, regions + 1))
        self.proj = nn.Linear(_EMBED, _EMBED)

    def forward(self, features: Tensor) -> Tensor:
        """Shapes: (n, k + 1, 128), the chest first, to (n, 128)."""
        weights = (features @ self.query).softmax(dim=1)
        return cast("Tensor", self.proj((weights.transpose(1, 2) @ features).sum(dim=1)))


class PriorGenerator(nn.Module):
    """The diffusion's two guides: the dense guidance map and the feature prior."""

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
    """The embedding of time steps as vectors, one for each point; the original embeds their mean only."""

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
        for width in (inputs, outputs):
            layers += [nn.Conv3d(width, outputs, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, outputs), nn.SiLU()]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (n, inputs, ...) to (n, outputs, ...)."""
        return cast("Tensor", self.double_conv(x))


class Down(nn.Module):
    """A step down the U-Net: half the size, then convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool3d(2), DoubleConv(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (n, inputs, ...) to (n, outputs, ... / 2)."""
        return cast("Tensor", self.maxpool_conv(x))


class Up(nn.Module):
    """A step up the U-Net: twice the size, joined with the map of the same size from the way down."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(inputs, inputs // 2, 2, stride=2)
        self.conv = DoubleConv(inputs, outputs)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        """Shapes: (n, inputs, ...) and (n, inputs / 2, 2 ...) to (n, outputs, 2 ...)."""
        return cast("Tensor", self.conv(torch.cat([skipped, self.up(x)], dim=1)))


class Bottleneck(nn.Module):
    """The middle of the U-Net, to which the embedded time and the feature prior are added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = DoubleConv(width, width)
        self.time_proj = nn.Sequential(nn.Conv3d(_WIDTH, width, 1))
        # Index 0 is the original's pooling, which has no weights and one point to pool.
        self.feature_proj = nn.Sequential(nn.Identity(), nn.Conv3d(_EMBED, width, 1))
        self.conv2 = DoubleConv(width, width)

    def forward(self, x: Tensor, time: Tensor, features: Tensor) -> Tensor:
        """Shapes: x (n, width, 2, 2, 2); time (n, 24, ...) of that size or 1; features (n, 128)."""
        guided = self.conv1(x) + self.time_proj(time) + self.feature_proj(features[:, :, None, None, None])
        return cast("Tensor", self.conv2(guided) + x)


class UNet(nn.Module):
    """The U-Net that predicts the noise in a label map.

    One time network embeds each point's time step, and the embedding is added twice: to the first features, which are
    as wide, and, pooled to the bottleneck's points, to the bottleneck. The original adds the mean embedding of all
    points, to the bottleneck only. Both use the same weights.
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
    """The schedule of the noise: the share of a label map's variance that is left at each time step.

    Shapes: alpha_bars (200,), the cumulative product of 1 - beta.
    Source: Ho et al., Denoising Diffusion Probabilistic Models, 2020 (linear betas); 200 steps as the original.
    """

    def __init__(self) -> None:
        self.alpha_bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, TIMESTEPS), dim=0)

    def noisy_map(self, labels: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """Return the labels with noise as each point has at its own time step; time (n, 1, 8, 8, 8)."""
        alpha_bars = self.alpha_bars.to(labels.device)[time.long()]
        return alpha_bars.sqrt() * labels + (1 - alpha_bars).sqrt() * noise

    def starting_map(self, noise: Tensor, guidance: Tensor) -> Tensor:
        """Return the map that the sampling starts from: the guidance map with the noise of the last time step.

        After 200 steps a seventh of a map's variance is still the map's own. Pure noise would mean a label of 0 for
        both classes; the network reads the label from the map's mean, and would find neither class.
        Source: DiffMIC-v2, doi 10.1109/TMI.2025.3530399 (sampling from the guided map).
        """
        alpha_bar = float(self.alpha_bars[-1])
        return math.sqrt(alpha_bar) * guidance + math.sqrt(1 - alpha_bar) * noise

    def sampled_map(self, noise: Tensor, noise_in: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Return the label map that 25 steps leave of a noisy map; `noise_in` gives the noise in a map at a time step.

        Source: Song et al., Denoising Diffusion Implicit Models, ICLR 2021, equation 12 with eta 0.
        """
        times = torch.linspace(TIMESTEPS - 1, 0, STEPS).long().tolist()
        alpha_bars = [float(self.alpha_bars[time]) for time in times]
        current = noise
        for time, alpha_bar, next_alpha_bar in zip(times, alpha_bars, [*alpha_bars[1:], 1.0], strict=True):
            predicted_noise = noise_in(current, time)
            clean = (current - math.sqrt(1 - alpha_bar) * predicted_noise) / math.sqrt(alpha_bar)
            current = math.sqrt(next_alpha_bar) * clean + math.sqrt(1 - next_alpha_bar) * predicted_noise
        return current


class Pneumonia(nn.Module):
    """The whole network: DCG, priors, U-Net and classifier, under the original's names."""

    def __init__(self, size: Size = SMALL, *, original: bool = False) -> None:
        super().__init__()
        self.original = original
        self.dcg_model = Dcg(size, original=original)
        self.prior_gen = PriorGenerator(size, original=original)
        self.unet = UNet(original=original)
        self.classifier = nn.Sequential(nn.Linear(_EMBED, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, _CLASSES))
        self.schedule = Schedule()

    def train(self, mode: bool = True) -> Pneumonia:  # noqa: FBT001, FBT002  # torch's own signature
        """Switch between training and evaluation; the frozen DCG stays in evaluation, so its batch statistics stay."""
        super().train(mode)
        self.dcg_model.eval()
        return self

    def forward(self, volume: Tensor, noise: Tensor) -> Tensor:
        """Return the four probabilities (n, 4, 2): label map, classifier, global prior, local prior."""
        logits, local, _, regions = self.dcg_model(volume)
        return self.answer_parts(noise, logits, local, self.prior_gen.features(volume, regions))

    def answer_parts(self, noise: Tensor, logits: Tensor, local: Tensor, features: Tensor) -> Tensor:
        """Return the four probabilities (n, 4, 2) from noise (n, 2, 8, 8, 8), both logits and the feature prior."""
        priors = logits.softmax(dim=1), local.softmax(dim=1)
        guidance = self.prior_gen.dense_map_gen(*priors)

        def noise_in(current: Tensor, time: int) -> Tensor:
            times = torch.full_like(current[:, :1], float(time))
            return cast("Tensor", self.unet(torch.cat([current, guidance], dim=1), times, features))

        start = noise if self.original else self.schedule.starting_map(noise, guidance)
        clean = self.schedule.sampled_map(start, noise_in)
        return torch.stack([clean.mean(dim=(2, 3, 4)), self.classifier(features).softmax(dim=1), *priors], dim=1)


def mixed_probabilities(parts: Tensor, *, original: bool = False) -> Tensor:
    """Return the mixed probabilities (n, 2) of the four probabilities (n, 4, 2).

    The mean of the label map need not be a probability: the mean is clamped to 0 to 1 and scaled to a sum of 1 before
    the mixing. The original mixes the mean as it is, and takes a softmax where the sum is off by more than 0.01.
    """
    mean = parts[:, 0]
    if not original:
        clamped = mean.clamp(1e-6, 1)
        mean = clamped / clamped.sum(dim=1, keepdim=True)
    mixed = SHARES[0] * mean + SHARES[1] * parts[:, 1] + SHARES[2] * parts[:, 2]
    if original and not bool(((mixed.sum(dim=1) - 1).abs() < 0.01).all()):  # noqa: PLR2004  # the original's
        return mixed.softmax(dim=1)
    return mixed
