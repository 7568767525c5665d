"""The duration of the outline of one nodule, by ainode and by eager PyTorch: cubes, the network, the measures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from ainode.models.benchmarking import eager_and_served, table_rows, timings
from ainode.models.following.grid import Grid, Position
from ainode.models.nodule_outline.model import OutlinedNodule, OutlineModel, reference_scan


def outline_rows(path: Path, *, cache: Path, runs: int, threads: int = 2) -> list[Sequence[object]]:
    """Return a row for eager PyTorch and a row for ainode, each of the outline at a point of a synthetic scan."""
    torch.set_num_threads(threads)
    executions = eager_and_served(cache, threads)
    methods = {
        name: partial(_presence, OutlineModel.load(path, execution=execution)) for name, execution in executions.items()
    }
    return table_rows(timings(methods, [reference_scan()], runs), "outline of a nodule")


def _presence(model: OutlineModel, point: tuple[Grid, Position]) -> float:
    """Return how sure the model is of the nodule."""
    nodule = model.outline(*point)
    if not isinstance(nodule, OutlinedNodule):
        raise ValueError(nodule.reason)  # noqa: TRY004  # the phantom is refused: a wrong caller
    return nodule.presence
