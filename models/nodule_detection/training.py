"""Training: on nodules implanted in chests; a fifth of the patients and the lung of one side choose the weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

from ainode.models.nodule_detection.card import read_card
from ainode.models.nodule_detection.dataset import CHESTS_OF, chests_of, nodules_of
from ainode.models.nodule_detection.examples import Examples, learning_examples, network_cubes
from ainode.models.nodule_detection.froc import sensitivities, threshold_at
from ainode.models.nodule_detection.network import NoduleNetwork
from ainode.models.nodule_detection.search import LARGER_SIDE, SIDE
from ainode.models.running.checkpoints import save_half
from ainode.models.training.epochs import Batch, Plan, fit
from ainode.models.training.experiment import TrainingOptions

log = logging.getLogger(__name__)

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
_ONE_LUNG = 0.5
"""scans"""
_SMOOTHING = 0.02
_EXAMPLES = ("learning.npz", "choosing.npz")
_ONCE = 100


@dataclass(frozen=True, slots=True)
class Parts:
    """The examples to learn from and those to choose on, which are of so many scans: one lung is half a scan."""

    learning: Examples
    choosing: Examples
    scans: float


@dataclass(frozen=True, slots=True)
class Learned:
    """A trained network, its logits of the examples to choose on, and Platt's line over the logits."""

    network: NoduleNetwork
    logits: NDArray[np.float64]
    line: LogisticRegression

    def threshold(self, parts: Parts) -> float:
        """Return the probability above which the examples to choose on have the false marks of the operating point."""
        logit = threshold_at(self.logits[_others(parts.choosing)], parts.scans, OPERATING_RATE)
        return float(self.line.predict_proba([[logit]])[0, 1])


def train(data: Path, out: Path, options: TrainingOptions) -> dict[str, Path]:
    """Train the network on the part `train` of `data`; return the file of weights by its manifest name.

    For the threshold each chest is left out once: in its own chests a network makes fewer false marks than in others.
    """
    card = read_card()
    thresholds = []
    for number in range(len(CHESTS_OF["train"])):
        parts = _stored_parts(data, out / f"without_{number}", options, number)
        thresholds.append(_learned(parts, out / f"without_{number}", options).threshold(parts))
        log.info("chest %d left out: threshold %.4f", number, thresholds[-1])
    parts = _stored_parts(data, out, options)
    learned = _learned(parts, out, options)
    path = out / card.file
    save_half(learned.network.cpu(), path, _settings(learned.line, thresholds))
    for name in _EXAMPLES:
        for file in (out / name, *out.glob(f"without_*/{name}")):
            file.unlink()
    return {f"{card.name}/{card.network}": path}


def _learned(parts: Parts, out: Path, options: TrainingOptions) -> Learned:
    """Return a network trained on parts."""
    network = NoduleNetwork().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    plan = Plan.of(options, _EPOCHS, _BATCHES, learning_rate=_RATE)
    fit(network, lambda epoch: batches(parts.learning, options.seed, epoch), _loss, _scorer(parts), plan, out)
    logits = logits_of(network, parts.choosing)
    # The line is that of the candidates of one lung.
    weights = np.where(parts.choosing.truth, 1.0, _ONE_LUNG / parts.scans)
    line = LogisticRegression(C=1e3).fit(logits[:, None], parts.choosing.truth, sample_weight=weights)
    return Learned(network, logits, line)


def _stored_parts(data: Path, out: Path, options: TrainingOptions, left_out: int | None = None) -> Parts:
    """Return the examples; they stay in `out` until the training has ended, for a training that is resumed."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / name for name in _EXAMPLES]
    if not (options.resume and all(file.is_file() for file in files)):
        parts = parts_of(data, options.seed, left_out)
        for file, examples in zip(files, (parts.learning, parts.choosing), strict=True):
            examples.save(file)
    learning, choosing = map(Examples.stored, files)
    return Parts(learning, choosing, _ONE_LUNG if left_out is None else 1.0)


def parts_of(data: Path, seed: int, left_out: int | None = None) -> Parts:
    """Return the examples: a fifth of the patients are kept to choose on, in a chest that is left out.

    Without such a chest the left lung of the last one is kept to choose on.
    """
    nodules, (first, *_, last) = nodules_of(data, "train"), chests_of(data, "train")
    patients = np.unique([nodule.patient for nodule in nodules])
    choosing = set(np.random.default_rng(seed).permutation(patients)[: len(patients) // _CHOOSING_PATIENTS])
    learners = [nodule for nodule in nodules if nodule.patient not in choosing]
    choosers = [nodule for nodule in nodules if nodule.patient in choosing]
    if left_out is None:
        right, choosing_scan = last.halves()
        shown, donors, scans = [first, right], [last, first], _ONE_LUNG
    else:
        choosing_scan, other = (first, last) if left_out == 0 else (last, first)
        shown, donors, scans = [other], [other], 1.0
    return Parts(
        learning_examples(shown, donors, learners, _PASSES, seed, _OTHERS),
        learning_examples((choosing_scan,), (first,), choosers, _PASSES_TO_CHOOSE, seed + _SEED_TO_CHOOSE, 0),
        scans,
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


def _scorer(parts: Parts) -> Callable[[nn.Module], float]:
    """Return the score of a network: the mean part of the nodules that it marks, over the rates of false marks."""
    truth, others = parts.choosing.truth, _others(parts.choosing)

    def score(network: nn.Module) -> float:
        logits = logits_of(network, parts.choosing)
        return float(sensitivities(logits[truth], logits[others], parts.scans).mean())

    return score


def _others(examples: Examples) -> NDArray[np.bool_]:
    """Return which examples are candidates of the chest itself."""
    return ~examples.truth & ~examples.is_control


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


def _settings(line: LogisticRegression, thresholds: Sequence[float]) -> dict[str, str]:
    """Return Platt's line over the logits, and the threshold: in the middle of those of the chests left out."""
    logits = np.log(thresholds) - np.log1p(-np.asarray(thresholds))
    return {
        "slope": f"{line.coef_[0, 0]:.4f}",
        "intercept": f"{line.intercept_[0]:.4f}",
        "threshold": f"{1 / (1 + np.exp(-logits.mean())):.4f}",
    }
