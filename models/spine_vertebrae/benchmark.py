"""The duration of one reading of a whole spine, by ainode and by eager PyTorch.

A reading is: contrast, the whole picture and the part with the vertebrae, each with its mirror image, the chain, the
angles. Both rows do all of it; the network runs in each row's own way.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ainode.models.benchmarking import Table, column_titles, eager_and_served, table_rows, timings
from ainode.models.phantoms.spine import spine_radiograph
from ainode.models.spine_vertebrae.geometry import largest
from ainode.models.spine_vertebrae.model import VertebraModel

_PICTURES = 4
_ROWS, _COLUMNS = 2000, 800
_RIGHT_ANGLE = 90.0


def benchmark(path: Path, *, cache: Path, runs: int, threads: int = 2) -> Table:
    """Return a row for eager PyTorch and a row for ainode."""
    torch.set_num_threads(threads)
    executions = eager_and_served(cache, threads)
    methods = {
        name: partial(_angle, VertebraModel.load(path, execution=execution)) for name, execution in executions.items()
    }
    pictures = [_picture(seed) for seed in range(_PICTURES)]
    return Table(column_titles("film", reference="eager"), table_rows(timings(methods, pictures, runs), "whole spine"))


def _picture(seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    drawn = spine_radiograph(random, rows=_ROWS, columns=_COLUMNS, view="AP", region="WHOLE", abnormal=False)
    return drawn.image.astype(np.float32)


def _angle(model: VertebraModel, picture: NDArray[np.float32]) -> float:
    """Return the largest angle in right angles, 0 to 1; 0 where no column was found."""
    spine_curves = model.predict(picture).curves
    return largest(spine_curves).angle / _RIGHT_ANGLE if spine_curves else 0.0
