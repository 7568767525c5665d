"""The phases of a training: the network, batches, loss and score of each phase."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it
from tqdm import tqdm

from ainode.models.ct_pneumonia.dataset import Volumes
from ainode.models.ct_pneumonia.dcg import Dcg, GlobalEncoder
from ainode.models.ct_pneumonia.diffusion import POINTS, TIMESTEPS, Pneumonia, mixed_probabilities
from ainode.models.ct_pneumonia.preprocess import SHAPE, Array, windowed_values
from ainode.models.ct_pneumonia.recipe import Recipe
from ainode.models.training.epochs import Batch
from ainode.models.training.metrics import auc

log = logging.getLogger(__name__)

# The share of the map's cells whose mean is the chest's own score (GMIC's top t %).
_TOP_SHARE = 0.02
# A cell is diseased from this share on; the few diseased cells count more by this weight.
_MARKED_SHARE, _MARKED_WEIGHT = 0.05, 12.0
# A piece's size in cells; an epoch has one batch of pieces for every third volume.
_PIECE, _VOLUMES_A_STEP = (6, 6, 4), 3
_NOISE_LOSS, _CLASS_LOSS = 0.3, 0.7


class Phase(Protocol):
    """One phase of a training: its network, its batches, its loss, its score (higher is better)."""

    @property
    def network(self) -> nn.Module:
        """The network that the phase trains and saves."""

    def batches(self, epoch: int, size: int) -> Iterator[Batch]:
        """Return the batches of one epoch."""

    def loss(self, batch: Batch, recipe: Recipe) -> Tensor:
        """Return the loss of one batch."""

    def score(self) -> float:
        """Return the network's score on the validation volumes."""


@dataclass(frozen=True, slots=True)
class CellPhase:
    """Trains the global encoder's map on pieces of phantoms, half of them around a lesion: many quick steps."""

    network: GlobalEncoder
    train: Volumes
    validation: Volumes
    seed: int
    device: str

    def batches(self, epoch: int, size: int) -> Iterator[Batch]:
        """Return pieces and their marked cells."""
        random = np.random.default_rng((self.seed, epoch))
        for _ in range(max(1, len(self.train.labels) // _VOLUMES_A_STEP)):
            pairs = [self._piece(random, ill=bool(number % 2)) for number in range(size)]
            pieces, lesions = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
            yield torch.from_numpy(pieces), torch.from_numpy(lesions)

    def _piece(self, random: np.random.Generator, *, ill: bool) -> tuple[Array, Array]:
        """Return a random piece of a random volume and its marked cells; an ill piece lies around a lesion."""
        candidates = np.flatnonzero(self.train.labels == 1) if ill else np.arange(len(self.train.labels))
        index = int(random.choice(candidates))
        lesions = self.train.lesions[index]
        cells = np.argwhere(lesions > _MARKED_SHARE) if ill else np.argwhere(np.ones_like(lesions))
        if not len(cells):
            cells = np.argwhere(np.ones_like(lesions))
        corner = random.choice(cells) - random.integers(0, _PIECE)
        first = np.clip(corner, 0, np.subtract(lesions.shape, _PIECE))
        x, y, z = (slice(int(a), int(a) + size) for a, size in zip(first, _PIECE, strict=True))
        scale = np.asarray(SHAPE) // lesions.shape
        fine = tuple(
            slice(cell_range.start * size, cell_range.stop * size)
            for cell_range, size in zip((z, y, x), scale[::-1], strict=True)
        )
        piece = windowed_values(self.train.values[index][fine].astype(np.float32)).transpose(2, 1, 0)[None, None]
        return augmented_volume(piece, lesions[x, y, z], random)

    def loss(self, batch: Batch, recipe: Recipe) -> Tensor:
        """Return the cells' cross entropy."""
        del recipe
        pieces, lesions = batch
        return cell_loss(self.network(pieces)[1], lesions)

    def score(self) -> float:
        """Return minus the cells' cross entropy on whole volumes."""
        losses, highest = [], []
        with torch.inference_mode():
            for i in range(len(self.validation.labels)):
                saliency = self.network(torch.from_numpy(self.validation.inputs(i)).to(self.device))[1].cpu()
                losses.append(float(cell_loss(saliency, torch.from_numpy(self.validation.lesions[i : i + 1]))))
                highest.append(float(saliency.max()))
        area = auc(self.validation.labels, highest)
        log.info("cells: cross entropy %.4f, AUC of the highest cell %.4f", np.mean(losses), area)
        return -float(np.mean(losses))


@dataclass(frozen=True, slots=True)
class DcgPhase:
    """Trains the DCG on whole volumes."""

    network: Dcg
    train: Volumes
    validation: Volumes
    seed: int
    device: str

    def batches(self, epoch: int, size: int) -> Iterator[Batch]:
        """Return augmented volumes, labels and marked cells."""
        random = np.random.default_rng((self.seed, epoch))
        for chosen in _whole_batches(random.permutation(len(self.train.labels)), size):
            pairs = [augmented_volume(self.train.inputs(i), self.train.lesions[i], random) for i in chosen]
            volumes, lesions = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
            yield torch.from_numpy(volumes), torch.from_numpy(self.train.labels[chosen]), torch.from_numpy(lesions)

    def loss(self, batch: Batch, recipe: Recipe) -> Tensor:
        """Return the original's two cross entropies plus the loss of the map, which the original does not have."""
        volumes, labels, lesions = batch
        logits, local, saliency, _ = self.network(volumes)
        cross_entropies = sum(
            F.cross_entropy(head_logits, labels, label_smoothing=recipe.label_smoothing)
            for head_logits in (logits, local)
        )
        return cross_entropies + recipe.map_weight * map_loss(saliency, labels, lesions)

    def score(self) -> float:
        """Return minus the cross entropy of the mean of both logits."""
        logits_of_volumes = []
        with torch.inference_mode():
            for i in range(len(self.validation.labels)):
                logits, local, _, _ = self.network(torch.from_numpy(self.validation.inputs(i)).to(self.device))
                logits_of_volumes.append((logits + local).cpu() / 2)
        return _score(torch.cat(logits_of_volumes), torch.from_numpy(self.validation.labels), "DCG")


@dataclass(frozen=True, slots=True)
class HeadPhase:
    """Trains the DCG's heads behind a trained map: the frozen encoder passes once over the volumes."""

    network: Dcg
    labels: tuple[Tensor, Tensor]
    encoded: tuple[Batch, Batch]
    """mean features (n, c) and regions (n, k, 1, 16, 16, 8), of training and of validation volumes"""
    seed: int

    @classmethod
    def after_pass(cls, network: Dcg, data: tuple[Volumes, Volumes], seed: int, device: str) -> HeadPhase:
        """Return the phase after one pass of the encoder over the volumes."""
        network.to(device).eval()
        encoded = []
        for volumes in data:
            rows = []
            for i in tqdm(range(len(volumes.labels)), desc="encoder", leave=False, mininterval=2.0):
                with torch.no_grad():
                    volume = torch.from_numpy(volumes.inputs(i)).to(device)
                    features = network.global_encoder.features(volume)
                    regions = network.regions_of(volume, network.global_encoder.saliency_conv(features))
                rows.append((features.mean(dim=(2, 3, 4)), regions))
            encoded.append((torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])))
        labels = torch.from_numpy(data[0].labels), torch.from_numpy(data[1].labels)
        return cls(network, labels, (encoded[0], encoded[1]), seed)

    def batches(self, epoch: int, size: int) -> Iterator[Batch]:
        """Return features, regions and labels."""
        random = np.random.default_rng((self.seed, epoch))
        for chosen in _whole_batches(random.permutation(len(self.labels[0])), size):
            yield self.encoded[0][0][chosen], self.encoded[0][1][chosen], self.labels[0][chosen]

    def loss(self, batch: Batch, recipe: Recipe) -> Tensor:
        """Return the original's two cross entropies."""
        features, regions, labels = batch
        outputs_of_heads = self.network.global_encoder.fc(features), self.network.local(regions)[0]
        losses = [
            F.cross_entropy(head_logits, labels, label_smoothing=recipe.label_smoothing)
            for head_logits in outputs_of_heads
        ]
        return losses[0] + losses[1]

    def score(self) -> float:
        """Return minus the cross entropy of the mean of both logits."""
        with torch.inference_mode():
            features, regions = self.encoded[1]
            logits = (self.network.global_encoder.fc(features) + self.network.local(regions)[0]).cpu() / 2
        return _score(logits, self.labels[1], "heads")


@dataclass(frozen=True, slots=True)
class DiffusionPhase:
    """Trains priors, U-Net and classifier behind a frozen DCG, which passes once over the volumes."""

    network: Pneumonia
    train: Volumes
    validation: Volumes
    dcg_outputs: tuple[Batch, ...]
    seed: int
    device: str

    @classmethod
    def after_pass(cls, network: Pneumonia, data: tuple[Volumes, Volumes], seed: int, device: str) -> DiffusionPhase:
        """Return the phase after one pass of the DCG over the training volumes."""
        train, validation = data
        network.requires_grad_(requires_grad=True).dcg_model.requires_grad_(requires_grad=False)
        network.to(device).eval()
        dcg_outputs = []
        with torch.no_grad():
            for i in tqdm(range(len(train.labels)), desc="DCG", leave=False, mininterval=2.0):
                logits, local, _, regions = network.dcg_model(torch.from_numpy(train.inputs(i)).to(device))
                dcg_outputs.append((logits.cpu(), local.cpu(), regions.cpu()))
        return cls(network, train, validation, tuple(dcg_outputs), seed, device)

    def batches(self, epoch: int, size: int) -> Iterator[Batch]:
        """Return volumes, labels, both logits and regions."""
        random = np.random.default_rng((self.seed, epoch))
        for chosen in _whole_batches(random.permutation(len(self.train.labels)), size):
            volumes = torch.from_numpy(np.concatenate([self.train.inputs(i) for i in chosen]))
            parts = (torch.cat(outputs) for outputs in zip(*(self.dcg_outputs[i] for i in chosen), strict=True))
            yield volumes, torch.from_numpy(self.train.labels[chosen]), *parts

    def loss(self, batch: Batch, recipe: Recipe) -> Tensor:
        """Return 0.3 of the noise's squared error and 0.7 of the classifier's cross entropy, as the original."""
        volumes, labels, logits, local, regions = batch
        net = self.network
        features = net.prior_gen.features(volumes, regions)
        guidance = net.prior_gen.dense_map_gen(logits.softmax(dim=1), local.softmax(dim=1))
        clean = F.one_hot(labels, 2).float()[:, :, None, None, None].expand_as(guidance)
        noise = torch.randn_like(guidance)
        times = torch.randint(0, TIMESTEPS, guidance[:, :1].shape, device=guidance.device)
        noisy = net.schedule.noisy_map(clean, times, noise)
        predicted = net.unet(torch.cat([noisy, guidance], dim=1), times.float(), features)
        classified = F.cross_entropy(net.classifier(features), labels, label_smoothing=recipe.label_smoothing)
        return _NOISE_LOSS * F.mse_loss(predicted, noise) + _CLASS_LOSS * classified

    def score(self) -> float:
        """Return minus the cross entropy of the mixed probabilities, from the same noise every time."""
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn((1, 2, POINTS, POINTS, POINTS), generator=generator).to(self.device)
        with torch.inference_mode():
            inputs = (self.validation.inputs(i) for i in range(len(self.validation.labels)))
            probabilities = [
                mixed_probabilities(self.network(torch.from_numpy(volume).to(self.device), noise)).cpu()
                for volume in inputs
            ]
        return _score(torch.cat(probabilities).log(), torch.from_numpy(self.validation.labels), "whole")


def map_loss(saliency: Tensor, labels: Tensor, lesions: Tensor) -> Tensor:
    """Return the loss of the map: its highest cells against the label, plus marked cells against their marks.

    Shapes: saliency (n, 1, x, y, z) before the sigmoid; labels (n,); lesions (n, 16, 16, 8), NaN where unmarked.
    Source: Shen et al., Med Image Anal 2021, doi 10.1016/j.media.2020.101908 (GMIC, top t % pooling).
    """
    cells = saliency.flatten(1)
    highest = cells.sigmoid().topk(max(1, round(_TOP_SHARE * cells.shape[1])), dim=1).values.mean(dim=1)
    ill = labels.float()
    weak = F.binary_cross_entropy(highest.clamp(1e-5, 1 - 1e-5), ill)
    marked = ~lesions.flatten(1).isnan().any(dim=1)
    if not bool(marked.any()):
        return weak
    return weak + cell_loss(saliency[marked], lesions[marked])


def cell_loss(saliency: Tensor, lesions: Tensor) -> Tensor:
    """Return the cross entropy of the map's cells against marked cells; shapes as in `map_loss`."""
    targets = lesions[:, None]
    if targets.shape != saliency.shape:
        targets = F.adaptive_max_pool3d(targets, list(saliency.shape[2:]))
    ill = targets > _MARKED_SHARE
    return F.binary_cross_entropy_with_logits(saliency, ill.float(), torch.where(ill, _MARKED_WEIGHT, 1.0))


def augmented_volume(volume: Array, lesions: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """Return an input and its marked cells (1, ...), with a random mirroring, brightness and noise."""
    if random.random() < 0.5:  # noqa: PLR2004  # a fair coin
        volume, lesions = np.flip(volume, 2), np.flip(lesions, 0)
    exposed = volume * np.float32(random.uniform(0.9, 1.1))
    if random.random() < 0.3:  # noqa: PLR2004  # the original's share
        exposed = exposed + random.standard_normal(volume.shape, dtype=np.float32) * np.float32(0.01)
    return np.ascontiguousarray(np.clip(exposed, 0, 1), np.float32), np.ascontiguousarray(lesions)[None]


def _whole_batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Yield whole batches of an order; batch normalization cannot use a single volume."""
    size = min(size, len(order))
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]


def _score(log_odds: Tensor, labels: Tensor, name: str) -> float:
    """Log the cross entropy and the AUC of logits under a name; return minus the cross entropy."""
    score = -float(F.cross_entropy(log_odds, labels))
    area = auc(labels.numpy(), log_odds.softmax(dim=1)[:, 1].numpy())
    log.info("%s: cross entropy %.4f, AUC %.4f on %d volumes", name, -score, area, len(labels))
    return score
