"""The duration of outlining lung and infection on one chest CT of full size, by ainode and by eager PyTorch.

A reading is: the pictures of every second slice (stretch, CLAHE) and the network; the pictures are made alike in both
rows. Without weights the network has seeded random weights: as many operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ainode.models.benchmarking import eager_and_served, table_rows, timings
from ainode.models.lung_infection.card import read_card
from ainode.models.lung_infection.model import InfectionModel
from ainode.models.lung_infection.network import InfectionNetwork
from ainode.models.lung_infection.preprocess import slice_picture
from ainode.models.phantoms.thorax import Field, thorax
from ainode.models.running.checkpoints import load
from ainode.models.running.runtime import Execution, sha256_of

_SLICES, _SLICE_MM = 300, 1.0
_DRAWN = Field((60, 512, 512), (5.0, 0.75, 0.75))
_MOST_RUNS = 3


def infection_rows(path: Path | None, *, cache: Path, runs: int, threads: int = 2) -> list[Sequence[object]]:
    """Return a row for eager PyTorch and a row for ainode, each of a chest of 300 slices of 512 x 512."""
    torch.set_num_threads(threads)
    executions = eager_and_served(cache, threads)
    methods = {name: partial(_infected, _model(path, execution)) for name, execution in executions.items()}
    drawn = thorax(1, 1, scanned=_DRAWN, consolidations=3).values
    scan = drawn[np.arange(_SLICES) * len(drawn) // _SLICES]
    title = f"infection, {_SLICES} slices{'' if path else ', random weights'}"
    return table_rows(timings(methods, [scan], min(runs, _MOST_RUNS)), title)


def _model(path: Path | None, execution: Execution) -> InfectionModel:
    def build() -> InfectionNetwork:
        torch.manual_seed(0)
        network = InfectionNetwork()
        if path:
            load(network, path)
        return network.eval()

    return InfectionModel.of(build, sha256_of(path) if path else "seeded", execution=execution, card=read_card())


def _infected(model: InfectionModel, scan: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean probability of infection on each slice that is read."""
    step = int(read_card().slices_mm / _SLICE_MM)
    pictures = np.stack([slice_picture(slice_) for slice_ in scan[step // 2 :: step]])
    return np.asarray(model.probabilities(pictures)[:, 1].mean(axis=(1, 2)), np.float64)
