"""From logits to calibrated probabilities, and from slices to a study; the calibration lies in the file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import CheckpointRefused

Logits = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The temperature of the softmax, and the rule from the probabilities of slices to those of a study.

    `share` is the part of the slices, those of highest score, over which a study's probabilities are averaged.
    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """

    temperature: float = 1.0
    share: float = 1.0
    threshold: float = 0.5
    """the threshold of a study's score"""

    def __post_init__(self) -> None:
        """Refuse numbers that give no probability."""
        if not (self.temperature > 0 and 0 < self.share <= 1 and 0 < self.threshold < 1):
            raise CheckpointRefused(f"impossible calibration in the weights: {self}")

    def probabilities(self, logits: Logits) -> Logits:
        """Return the softmax over the last axis."""
        scaled = np.asarray(logits, np.float64) / self.temperature
        exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))

    def study(self, slices: Logits, positive: int) -> Logits:
        """Return a study's probabilities: the mean over its slices of highest score, at least one slice.

        Shapes: slices (n, classes) in, (classes,) out; `positive` is the class whose probability is the score.
        """
        count = max(1, round(self.share * len(slices)))
        highest = np.argsort(-slices[:, positive], kind="stable")[:count]
        return np.asarray(slices[highest].mean(axis=0))

    def metadata(self) -> dict[str, str]:
        """Return the calibration as text, for the header of a safetensors file."""
        return {entry.name: repr(getattr(self, entry.name)) for entry in fields(self)}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Calibration:
        """Return the calibration in a file's metadata; without one, the plain softmax."""
        if "temperature" not in metadata:
            return cls()
        try:
            return cls(**{entry.name: float(metadata[entry.name]) for entry in fields(cls)})
        except (KeyError, ValueError) as error:
            raise CheckpointRefused(f"calibration in the weights is not whole: {error}") from error
