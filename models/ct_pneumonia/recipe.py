"""The recipes of a training: the original's two schedules, and the short schedules of the demonstration weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

Rate = Callable[[int, int], float]


def plateau(epoch: int, epochs: int) -> float:
    """Return the share of the learning rate: a rise, a level, then half a cosine.

    Of the original's 50 epochs, the rise ends at 10 and the level at 30.
    """
    rise, level = epochs / 5, 3 * epochs / 5
    if epoch < rise:
        return min(1.0, (epoch + 1) / rise)
    if epoch < level:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (epoch - level) / (epochs - level)))


def restarts(epoch: int, epochs: int) -> float:
    """Return the share of the learning rate: half a cosine over 10 epochs, then over 20, 40, ...

    Source: Loshchilov and Hutter, SGDR, ICLR 2017, with T_0 10 and T_mult 2.
    """
    del epochs
    period = 10
    while epoch >= period:
        epoch, period = epoch - period, 2 * period
    return 0.5 * (1 + math.cos(math.pi * epoch / period))


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of one phase of a training.

    `rate` is called with the epoch and the number of epochs. `map_weight` is the weight of the saliency map's loss:
    the original's map has no loss, so its weights stay as they were drawn.
    """

    epochs: int
    learning_rate: float
    rate: Rate = plateau
    batch: int = 4
    accumulate: int = 4
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    clip: float = 1.0
    patience: int = 20
    map_weight: float = 1.0


ORIGINAL_DCG = {
    "small": Recipe(50, 1e-3, label_smoothing=0.05),
    "large": Recipe(50, 5e-3, weight_decay=0.05, label_smoothing=0.15, patience=15),
}
ORIGINAL_DIFFUSION = Recipe(100, 1e-4, rate=restarts)
# For two slow cores: the map on pieces, then the heads alone, where cells are marked; few epochs, a step every batch.
CELLS = Recipe(5, 2e-3, batch=16, accumulate=1)
HEADS = Recipe(40, 1e-3, batch=16, accumulate=1, label_smoothing=0.05)
SHORT_DCG = replace(ORIGINAL_DCG["small"], epochs=10, accumulate=1)
SHORT_DIFFUSION = replace(ORIGINAL_DIFFUSION, epochs=4, learning_rate=1e-3, rate=plateau, accumulate=1)
