"""Training: on nodules implanted in chests; a fifth of the patients and the lung of one side choose the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

from ainode.models.nodule_detection.card import read_card
from ainode.models.nodule_detection.dataset import chests_of, nodules_of
from ainode.models.nodule_detection.examples import Examples, learning_examples, network_cubes
from ainode.models.nodule_detection.froc import sensitivities, threshold_at
from ainode.models.nodule_detection.network import NoduleNetwork
from ainode.models.nodule_detection.search import LARGER_SIDE, SIDE
from ainode.models.running.checkpoints import save_half
from ainode.models.training.epochs import Batch, Plan, fit
from ainode.models.training.experiment import TrainingOptions

_EPOCHS, _BATCHES, _BATCH = 20, 40, 32
_RATE = 2e-3
_POSITIVE, _CONTROL = 12, 4
"""the nodules and the controls of a batch; the rest are other candidates"""
_PASSES, _PASSES_TO_CHOOSE, _OTHERS = 2, 1, 60
"""how often each nodule is implanted; the other candidates of each chest with implants"""
_CHOOSING_PATIENTS = 5
"""a patient in five chooses"""
_SEED_TO_CHOOSE = 77
OPERATING_RATE = 4.0
"""false marks a scan at the threshold"""
_SCANS_TO_CHOOSE = 0.5
"""one lung"""
_SMOOTHING = 0.02
_EXAMPLES = ("learning.npz", "choosing.npz")
_ONCE = 100


@dataclass(frozen=True, slots=True)
class Parts:
    """The examples to learn from and those to choose on."""

    learning: Examples
    choosing: Examples


def train(data: Path, out: Path, options: TrainingOptions) -> dict[str, Path]:
    """Train the network on the part `train` of `data`; return the file of weights by its manifest name."""
    card = read_card()
    parts = _stored_parts(data, out, options)
    network = NoduleNetwork().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    plan = Plan.of(options, _EPOCHS, _BATCHES, learning_rate=_RATE)
    fit(network, lambda epoch: batches(parts.learning, options.seed, epoch), _loss, _scorer(parts.choosing), plan, out)
    path = out / card.file
    save_half(network.cpu(), path, _settings(network, parts.choosing))
    for name in _EXAMPLES:
        (out / name).unlink()
    return {f"{card.name}/{card.network}": path}


def _stored_parts(data: Path, out: Path, options: TrainingOptions) -> Parts:
    """Return the examples; they stay in `out` until the training has ended, for a training that is resumed."""
    files = [out / name for name in _EXAMPLES]
    if not (options.resume and all(file.is_file() for file in files)):
        parts = parts_of(data, options.seed)
        for file, examples in zip(files, (parts.learning, parts.choosing), strict=True):
            examples.save(file)
    return Parts(*map(Examples.stored, files))


def parts_of(data: Path, seed: int) -> Parts:
    """Return the examples: the left lung of the last chest and a fifth of the patients are kept to choose on."""
    nodules, (first, *_, last) = nodules_of(data, "train"), chests_of(data, "train")
    right, left = last.halves()
    patients = np.unique([nodule.patient for nodule in nodules])
    choosing = set(np.random.default_rng(seed).permutation(patients)[: len(patients) // _CHOOSING_PATIENTS])
    learners = [nodule for nodule in nodules if nodule.patient not in choosing]
    choosers = [nodule for nodule in nodules if nodule.patient in choosing]
    return Parts(
        learning_examples((first, right), (last, first), learners, _PASSES, seed, _OTHERS),
        learning_examples((left,), (first,), choosers, _PASSES_TO_CHOOSE, seed + _SEED_TO_CHOOSE, 0),
    )


def batches(examples: Examples, seed: int, epoch: int) -> Iterator[Batch]:
    """Yield the batches of an epoch: nodules, other candidates and controls, each turned and changed by chance."""
    random = np.random.default_rng([seed, epoch])
    rows = [
        np.flatnonzero(chosen)
        for chosen in (examples.truth, examples.is_control, ~examples.truth & ~examples.is_control)
    ]
    counts = (_POSITIVE, _CONTROL, _BATCH - _POSITIVE - _CONTROL)
    generator = torch.Generator().manual_seed(seed * 1000 + epoch)
    for _ in range(_BATCHES):
        batch = np.concatenate([random.choice(group, count) for group, count in zip(rows, counts, strict=True)])
        cubes = torch.from_numpy(network_cubes(examples.cubes[batch]))
        truth = torch.from_numpy(examples.truth[batch].astype(np.float32))[:, None]
        yield varied(cubes, generator), truth


def varied(cubes: Tensor, generator: torch.Generator) -> Tensor:
    """Return cubes of the network's side: turned, mirrored, scaled, moved, with other density, noise and blur."""
    n = len(cubes)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    turns = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator))[0]
    # Every second cube is only mirrored: slices are thicker along one axis, and a turn hides that.
    mirrors = torch.diag_embed(torch.sign(uniform(-1, 1, 3)))
    keeps_axes = (uniform(0, 1) < 0.5)[:, None, None]  # noqa: PLR2004  # every second
    matrix = torch.where(keeps_axes, mirrors, turns) * uniform(0.85, 1.2, 1, 1)
    shift = uniform(-2.0, 2.0, 3)[..., None] / (LARGER_SIDE / 2)
    towers = []
    for number, part in enumerate((1.0, 0.5)):
        # The coarse cells are twice as wide: the same move is half as many cells.
        moved = torch.cat([matrix * (SIDE / LARGER_SIDE), shift * part], dim=2)
        grid = functional.affine_grid(moved, [n, 1, SIDE, SIDE, SIDE], align_corners=False)
        towers.append(
            functional.grid_sample(cubes[:, number : number + 1], grid, padding_mode="border", align_corners=False)
        )
    values = torch.cat(towers, dim=1)
    values = _with_other_sharpness(values, uniform(0, 1), generator)
    return (values * uniform(0.92, 1.08, 1, 1, 1, 1) + uniform(-0.03, 0.03, 1, 1, 1, 1)).clamp(0, 1)


def _with_other_sharpness(values: Tensor, chance: Tensor, generator: torch.Generator) -> Tensor:
    """Return the cubes, some with the noise of a sharp kernel, some blurred as by thick slices."""
    grain = torch.randn(values.shape, generator=generator)
    deviation = (chance.clamp(0, 0.5) * 0.12)[:, None, None, None, None]
    noisy = values + grain * deviation * torch.tensor([1.0, 0.4])[None, :, None, None, None]
    blurred = functional.avg_pool3d(values, 3, stride=1, padding=1, count_include_pad=False)
    mixed = 0.5 * values + 0.5 * blurred
    is_blurred = (chance > 0.8)[:, None, None, None, None]  # noqa: PLR2004  # a fifth
    return torch.where(is_blurred, mixed, noisy)


def _loss(network: nn.Module, batch: Batch) -> Tensor:
    cubes, truth = batch
    smooth = truth * (1 - 2 * _SMOOTHING) + _SMOOTHING
    return functional.binary_cross_entropy_with_logits(network(cubes), smooth)


def _scorer(examples: Examples) -> Callable[[nn.Module], float]:
    """Return the score of a network: the mean part of the nodules that it marks, over the rates of false marks."""
    others = ~examples.truth & ~examples.is_control

    def score(network: nn.Module) -> float:
        logits = logits_of(network, examples)
        return float(sensitivities(logits[examples.truth], logits[others], _SCANS_TO_CHOOSE).mean())

    return score


def logits_of(network: nn.Module, examples: Examples) -> NDArray[np.float64]:
    """Return the network's logit of each example, as it is."""
    rim = (LARGER_SIDE - SIDE) // 2
    inner = (slice(None), slice(None), *[slice(rim, rim + SIDE)] * 3)
    network.eval()
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(network_cubes(examples.cubes[first : first + _ONCE][inner])))[:, 0].numpy()
            for first in range(0, len(examples.truth), _ONCE)
        ]
    return np.concatenate(parts).astype(np.float64)


def _settings(network: nn.Module, examples: Examples) -> dict[str, str]:
    """Return Platt's line over the logits, and the probability above which there are 4 false marks a scan."""
    logits = logits_of(network, examples)
    line = LogisticRegression(C=1e3).fit(logits[:, None], examples.truth)
    others = logits[~examples.truth & ~examples.is_control]
    threshold = line.predict_proba([[threshold_at(others, _SCANS_TO_CHOOSE, OPERATING_RATE)]])[0, 1]
    return {
        "slope": f"{line.coef_[0, 0]:.4f}",
        "intercept": f"{line.intercept_[0]:.4f}",
        "threshold": f"{threshold:.4f}",
    }
