"""From logits to a calibrated probability; the calibration lies in the metadata of the file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import CheckpointRefused

_NAMES = ("slope", "intercept", "threshold")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt's line over the logit, and the threshold on its result.

    Source: Platt, Probabilistic outputs for support vector machines, 1999.
    """

    slope: float = 1.0
    intercept: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a slope that reverses the order of the logits, and a threshold outside of 0 to 1."""
        if not (self.slope > 0 and 0 < self.threshold < 1):
            raise CheckpointRefused(f"impossible calibration in the weights: {self}")

    def probability(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the calibrated probability of logits."""
        return np.asarray(1 / (1 + np.exp(-(self.slope * logits + self.intercept))))

    def metadata(self) -> dict[str, str]:
        """Return the calibration as text, for the header of a safetensors file."""
        return {name: repr(getattr(self, name)) for name in _NAMES}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Calibration:
        """Return the calibration in a file's metadata; without one, the plain sigmoid."""
        if "slope" not in metadata:
            return cls()
        try:
            return cls(*(float(metadata[name]) for name in _NAMES))
        except (KeyError, ValueError) as error:
            raise CheckpointRefused(f"calibration in the weights is not whole: {error}") from error
