"""The duration of reading one abdomen of full size, by ainode and by eager PyTorch.

A reading is: the pictures of every slice, three views of each through the network, and the regions; all but the network
is alike in both rows. Without weights the network has seeded random weights: as many operations.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ainode.models.benchmarking import Table, column_titles, eager_and_served, table_rows, timings
from ainode.models.pancreas_tumor.card import read_card
from ainode.models.pancreas_tumor.model import PancreasModel
from ainode.models.pancreas_tumor.network import PancreasNetwork
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.running.checkpoints import load
from ainode.models.running.runtime import Execution, sha256_of

_SLICES, _SLICE_MM, _SIDE, _PIXEL_MM = 100, 2.5, 512, 0.75
_MOST_RUNS = 3


def benchmark(path: Path | None, *, cache: Path, runs: int, threads: int = 2) -> Table:
    """Return head and rows of eager PyTorch and of ainode, each of an abdomen of 100 slices of 512 x 512."""
    torch.set_num_threads(threads)
    executions = eager_and_served(cache, threads)
    methods = {name: partial(_values, _model(path, execution)) for name, execution in executions.items()}
    scan = abdomen(np.random.default_rng(1), slices=_SLICES, side=_SIDE, step_mm=_SLICE_MM).values
    title = f"pancreas, {_SLICES} slices{'' if path else ', random weights'}"
    rows = table_rows(timings(methods, [scan], min(runs, _MOST_RUNS)), title)
    return Table(column_titles("network", reference="eager"), rows)


def _model(path: Path | None, execution: Execution) -> PancreasModel:
    def build() -> PancreasNetwork:
        torch.manual_seed(0)
        network = PancreasNetwork()
        if path:
            load(network, path)
        return network.eval()

    return PancreasModel.of(build, sha256_of(path) if path else "seeded", execution=execution, card=read_card())


def _values(model: PancreasModel, scan: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the highest probability on each slice that is read."""
    prediction = model.predict(scan, (_SLICE_MM, _PIXEL_MM, _PIXEL_MM))
    return np.asarray(prediction.probabilities.max(axis=(1, 2)), np.float64)
