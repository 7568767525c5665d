"""The duration of the search through one chest CT of full size, by ainode and by eager PyTorch.

A search is: lungs, cells, candidates, cubes, the network. All but the network are the same in both rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ainode.models.benchmarking import eager_and_served, table_rows, timings
from ainode.models.following.benchmark import SIZE, scan
from ainode.models.following.grid import Grid, Omission
from ainode.models.nodule_detection.model import NoduleDetector

_FIRST = 20
_MOST_RUNS = 3


def search_rows(paths: Mapping[str, Path], *, cache: Path, runs: int, threads: int = 2) -> list[Sequence[object]]:
    """Return a row for eager PyTorch and a row for ainode, each of a chest of 300 slices of 512 x 512."""
    torch.set_num_threads(threads)
    executions = eager_and_served(cache, threads)
    methods = {
        name: partial(_probabilities, NoduleDetector.load(paths, execution=execution))
        for name, execution in executions.items()
    }
    title = f"search of {SIZE[0]} slices"
    return table_rows(timings(methods, [scan(1)], min(runs, _MOST_RUNS)), title)


def _probabilities(model: NoduleDetector, chest: Grid) -> NDArray[np.float64]:
    """Return the highest probabilities of a search."""
    detection = model.predict(chest)
    if isinstance(detection, Omission):
        raise ValueError(detection.reason)  # noqa: TRY004  # the phantom is refused: a wrong caller
    highest = [candidate.probability for candidate in detection.candidates[:_FIRST]]
    return np.pad(np.asarray(highest), (0, _FIRST - len(highest)))
