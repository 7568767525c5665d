"""How many regions are marked in abdomens without a tumor: synthetic ones, for the data has no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ainode.models.phantoms.abdomen import abdomen

if TYPE_CHECKING:
    from ainode.models.pancreas_tumor.model import PancreasModel

_SCANS, _FIRST_SEED = 8, 5000


def false_marks(model: PancreasModel) -> Mapping[str, Any]:
    """Return the mean number of regions over synthetic abdomens without a tumor, and the share without a region."""
    counts = [_marks(model, _FIRST_SEED + number) for number in range(_SCANS)]
    return {
        "synthetic abdomens without a tumor": {
            "scans": _SCANS,
            "marks_per_scan": float(np.mean(counts)),
            "scans_without_a_mark": int(np.sum(np.asarray(counts) == 0)),
        }
    }


def _marks(model: PancreasModel, seed: int) -> int:
    phantom = abdomen(np.random.default_rng(seed), tumor=False)
    return len(model.predict(phantom.values, phantom.spacing_mm).regions)
