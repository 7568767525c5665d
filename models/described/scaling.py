"""From the values of an image to those that a network takes, and from its answers to probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import UniformPicture, UnusablePicture

Values = NDArray[np.float32]
Kind = Literal["display", "range", "percentiles", "zscore", "raw"]
Activation = Literal["softmax", "sigmoid", "none"]

_EIGHT_BITS = 255.0
# Sums of a softmax in 32 bits are off by less: 1.0000001 is 1.
_ROUNDING = 1e-5
_ONE_VALUE = "its pixels have one value; an image is read"
_DARK_IS_HIGH = (
    "high values are dark (MONOCHROME1), and values as they are say nothing of what is bright; MONOCHROME2 is read, or "
    "another scaling than raw"
)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How the values of an image become those of the network.

    To 0 to 1 by the kind, times `scale`, less `mean`, by `std`; "zscore" and "raw" are not cut to 0 to 1.
    """

    kind: Kind
    low: float = 0.0
    high: float = 1.0
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __str__(self) -> str:
        """Return the scaling in words, for a report."""
        bounds = f" {self.low:g} to {self.high:g}" if self.kind in {"range", "percentiles"} else ""
        times = "" if self.scale == 1 else f" times {self.scale:g}"
        moved = (
            "" if (self.mean, self.std) == ((0.0,), (1.0,)) else f", less {_texts(self.mean)}, by {_texts(self.std)}"
        )
        return f"{self.kind}{bounds}{times}{moved}"

    @property
    def grays(self) -> float:
        """Return how many whole numbers lie between black and white in the network's input, at least; 0 of "zscore".

        Values "raw" are those of the image, of which a file of 8 bits has the fewest.
        """
        units = {"zscore": 0.0, "raw": _EIGHT_BITS}.get(self.kind, 1.0)
        return units * self.scale / max(self.std)

    def unit(self, values: Values, whole: Values | None = None, *, is_inverted: bool = False) -> Values:
        """Return values by the kind: "display" takes 0 to 1 as they are, "range" and "percentiles" cut to 0 to 1.

        Percentiles, mean and deviation are those of `whole`, by default of the values themselves. White is high after
        it: `is_inverted` says that high values are dark, and turns them; those for "display" are turned already.
        Raises: UniformPicture if all values are one value, and the kind needs several; UnusablePicture if high values
        of the kind "raw" are dark.
        """
        if self.kind == "raw" and is_inverted:
            raise UnusablePicture(_DARK_IS_HIGH)
        if self.kind in {"display", "raw"}:
            return values
        sign = np.float32(-1 if is_inverted and self.kind != "range" else 1)
        low, high = self._bounds(sign * (values if whole is None else whole))
        if not high > low:
            raise UniformPicture(_ONE_VALUE)
        scaled = (sign * values - np.float32(low)) / np.float32(high - low)
        unit = scaled if self.kind == "zscore" else np.clip(scaled, 0, 1)
        return np.float32(1) - unit if is_inverted and self.kind == "range" else unit

    def _bounds(self, whole: Values) -> tuple[float, float]:
        """Return the values that become 0 and 1."""
        if self.kind == "zscore":
            mean = float(whole.mean())
            return mean, mean + float(whole.std())
        if self.kind == "percentiles":
            low, high = np.percentile(whole, (self.low, self.high))
            return float(low), float(high)
        return self.low, self.high

    def normalized(self, planes: Values) -> Values:
        """Return planes (channels, …) as the network takes them."""
        shape = (-1, *(1,) * (planes.ndim - 1))
        mean, std = (np.asarray(values, np.float32).reshape(shape) for values in (self.mean, self.std))
        return np.asarray((planes * np.float32(self.scale) - mean) / std, np.float32)


def _texts(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


def activated(values: NDArray[np.floating], activation: Activation, axis: int = -1) -> Values:
    """Return probabilities of a network's answers."""
    exact = np.asarray(values, np.float64)
    if activation == "sigmoid":
        exact = 1 / (1 + np.exp(-np.clip(exact, -700, 700)))
    elif activation == "softmax":
        powers = np.exp(exact - exact.max(axis=axis, keepdims=True))
        exact = powers / powers.sum(axis=axis, keepdims=True)
    return np.asarray(exact, np.float32)


def probabilities(values: Values, subject: str) -> Values:
    """Return numbers of 0 to 1; what rounding has put beyond them, by 1e-5 at most, is 0 or 1.

    `subject`, what the numbers are, begins the reason of a refusal.
    Raises: UnusablePicture if one is no probability, or no number.
    """
    if values.size and not (values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING):
        raise UnusablePicture(f"{subject} is no probability of 0 to 1; nothing is said of the image")
    return np.clip(values, np.float32(0), np.float32(1))
