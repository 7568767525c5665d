"""Trains the outline network on real nodules implanted in real chests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from ainode.models.nodule_outline.cells import CELL_MM, WIDE_CELL_MM, Triple, pictures
from ainode.models.nodule_outline.implant import Blend, Example, Implant, implanted, phantom, silent, varied
from ainode.models.nodule_outline.network import OutlineNetwork
from ainode.models.nodule_outline.nodules import Chest, Nodule, read_chests, read_nodules
from ainode.models.running.checkpoints import save_table
from ainode.models.training.epochs import Batch, Plan, fit
from ainode.models.training.experiment import TrainingOptions

log = logging.getLogger(__name__)

_EPOCHS, _BATCH, _RATE = 40, 6, 3e-3
# Each fifth patient is left out of the training and chooses the epoch.
_FOLDS = 5
# Real nodules of more than 20 mm are few and spotted: without phantoms the network leaves a hole in an even one.
_SILENT, _PHANTOMS, _CENTERED, _LARGE_MM = 0.18, 0.06, 0.25, 18.0
FARTHEST_MM = 5.0
"""how far from a nodule's middle a person may point"""
_DRAWN_MM = 6.0
"""how far from a nodule's middle the points of the examples lie: 5 mm is within, not at the end"""


@dataclass(frozen=True)
class Source:
    """The nodules and the chests of which examples are made."""

    nodules: tuple[Nodule, ...]
    chests: tuple[Chest, ...]

    @cached_property
    def implants(self) -> tuple[Implant, ...]:
        """Return the implant of each nodule."""
        return tuple(Implant.of(nodule) for nodule in self.nodules)


def left_out(nodules: Sequence[Nodule], seed: int = 0) -> NDArray[np.bool_]:
    """Return whether each nodule's patient is one of the fifth that is left out to choose by."""
    patients = sorted({nodule.patient for nodule in nodules})
    order = np.random.default_rng(seed).permutation(len(patients))
    chosen = {patients[i] for i in order[: len(patients) // _FOLDS]}
    return np.array([nodule.patient in chosen for nodule in nodules])


def drawn_example(source: Source, number: int, random: np.random.Generator) -> Example:
    """Return an example at random: mostly the nodule of a number, in part a phantom or a point without a nodule."""
    chest_number = int(random.integers(len(source.chests)))
    chest = source.chests[chest_number]
    kind = random.random()
    if kind < _SILENT:
        return _silent_example(source, chest, random)
    if kind < _SILENT + _PHANTOMS:
        return _phantom_example(chest, random)
    implant, nodule = source.implants[number], source.nodules[number]
    near_edge = random.random() < 0.3  # noqa: PLR2004 - many nodules lie at the pleura
    place = drawn_place(chest.places.edge if near_edge else chest.places.lung, random)
    wide = nodule.equivalent_mm > _LARGE_MM and random.random() < 0.5  # noqa: PLR2004 - a fair coin
    cell_mm = (WIDE_CELL_MM if wide else CELL_MM) * random.uniform(0.85, 1.2)
    example = implanted(implant, chest, place, _blend(random), off_mm=_off(random), cell_mm=cell_mm)
    # A chest or a window that ends at 150 HU hides calcium.
    highest = 150.0 if random.random() < 0.2 else np.inf  # noqa: PLR2004
    return Example(np.minimum(example.values, np.float32(highest)), example.target, cell_mm)


def _silent_example(source: Source, chest: Chest, random: np.random.Generator) -> Example:
    """Return an example without a nodule: lung, a vessel or tissue, often with lung of a chest blended in."""
    places = chest.places
    kind = random.choice(3, p=(0.4, 0.35, 0.25))
    place = drawn_place((places.lung, places.vessels, places.tissue)[kind], random)
    number = int(random.integers(len(source.chests)))
    other, from_place = source.chests[number], drawn_place(source.chests[number].places.lung, random)
    reach = random.uniform(2, 10) if kind == 0 else -100.0
    return silent(chest, place, other, from_place, Blend(reach, random.uniform(1, 3)))


def _phantom_example(chest: Chest, random: np.random.Generator) -> Example:
    """Return an example of an ellipsoid of one density, from faint ground glass to dense tissue."""
    radius = random.uniform(3, 14)
    z, y, x = (float(radius * share) for share in random.uniform(0.75, 1.25, 3))
    place = drawn_place(chest.places.lung, random)
    return phantom(chest, place, (z, y, x), random.uniform(-650, 100), off_mm=_off(random))


def drawn_place(places: NDArray[np.int32], random: np.random.Generator) -> Triple:
    """Return one of the places."""
    z, y, x = places[int(random.integers(len(places)))]
    return float(z), float(y), float(x)


def _blend(random: np.random.Generator) -> Blend:
    """Return a blend at random; a third of the nodules keep the whole cut-out around them."""
    whole, merged = random.random() < 0.35, random.random() < 0.5  # noqa: PLR2004 - a third and a half
    return Blend(random.uniform(0.3, 3.5), random.uniform(0.7, 3.0), whole=whole, merged=merged and not whole)


def _off(random: np.random.Generator) -> Triple:
    """Return how far the point of an example lies from a nodule's middle in mm."""
    if random.random() < _CENTERED:
        return 0.0, 0.0, 0.0
    direction = random.standard_normal(3)
    z, y, x = direction / np.linalg.norm(direction) * random.uniform(0, _DRAWN_MM)
    return float(z), float(y), float(x)


def batches(source: Source, seed: int) -> Callable[[int], Iterator[Batch]]:
    """Return a function from an epoch's number to its batches: pictures and targets."""

    def batches_of_epoch(epoch: int) -> Iterator[Batch]:
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(source.nodules))
        for start in range(0, len(order) - len(order) % _BATCH, _BATCH):
            yield batch([varied(drawn_example(source, int(i), random), random) for i in order[start : start + _BATCH]])

    return batches_of_epoch


def batch(examples: Sequence[Example]) -> Batch:
    """Return the pictures and the targets of examples."""
    shown = np.stack([pictures(example.values, example.cell_mm) for example in examples])
    return torch.from_numpy(shown), torch.from_numpy(np.stack([example.target for example in examples]))


def loss(network: nn.Module, examples: Batch) -> Tensor:
    """Return the cross entropy of the cells, and 1 less the Dice of each nodule."""
    shown, target = examples
    logits = network(shown)[0].float()
    entropy = F.binary_cross_entropy_with_logits(logits, target)
    probability = torch.sigmoid(logits)
    both = (probability * target).sum(dim=(1, 2, 3))
    total = probability.sum(dim=(1, 2, 3)) + target.sum(dim=(1, 2, 3))
    # 30 cells are the ball of 2.7 mm: a silent example costs by the cells that it fills.
    return 4 * entropy + (1 - (2 * both + 30) / (total + 30)).mean()


def validation_batches(source: Source) -> list[Batch]:
    """Return one example of each nodule that is left out, the same at each call."""
    random = np.random.default_rng(1)
    examples = []
    for number, implant in enumerate(source.implants):
        at = number % len(source.chests)
        place = drawn_place(source.chests[at].places.lung, random)
        examples.append(implanted(implant, source.chests[at], place, Blend(1.0, 2.0), off_mm=_off(random)))
    return [batch(examples[i : i + _BATCH]) for i in range(0, len(examples), _BATCH)]


def mean_dice(network: nn.Module, examples: Sequence[Batch], device: str) -> float:
    """Return the mean Dice of the outlines."""
    dice: list[float] = []
    with torch.inference_mode():
        for shown, target in examples:
            drawn = network(shown.to(device))[0].cpu() > 0
            truth = target > 0.5  # noqa: PLR2004 - half of the cell
            both = (drawn & truth).sum(dim=(1, 2, 3))
            dice.extend((2 * both / (drawn.sum(dim=(1, 2, 3)) + truth.sum(dim=(1, 2, 3))).clamp(min=1)).tolist())
    return float(np.mean(dice))


def train(data: Path, out: Path, options: TrainingOptions) -> Path:
    """Train the network; return the file of its weights."""
    nodules, chests = read_nodules(data, "train"), read_chests(data, "train")
    choosing = left_out(nodules)
    training, validation = (
        Source(tuple(n for n, chosen in zip(nodules, choosing, strict=True) if chosen == part), chests)
        for part in (False, True)
    )
    chosen_examples = validation_batches(validation)
    steps = len(training.nodules) // _BATCH
    plan = Plan.of(options, _EPOCHS, steps, learning_rate=_RATE, half=True)
    network = OutlineNetwork()

    def score(network: nn.Module) -> float:
        value = mean_dice(network, chosen_examples, plan.device)
        log.info("Dice on patients left out: %.3f", value)
        return value

    fit(network, batches(training, plan.seed), loss, score, plan, out)
    return save_table(dict(network.to("cpu").state_dict()), out / "nodule_outline_implanted.safetensors")
