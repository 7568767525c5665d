"""The answer of a network that marks pixels, as labels on the pixels of the image or volume that was read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ainode.models.described.scaling import Activation, activated, probabilities
from ainode.models.errors import ModelError, UnusablePicture

Values = NDArray[np.float32]
Labels = NDArray[np.uint8]
OnSource = Callable[[Values, bool], Values]
"""turns values of the network's grid into values on the pixels of the source; whether the nearest one is taken"""


@dataclass(frozen=True, slots=True)
class Marking:
    """How the answer of a network becomes labels.

    `numbers` are the channels, or the values of a label map, of the labels 1, 2, … in their order.
    """

    masks: Literal["channels", "labels"]
    numbers: tuple[int, ...]
    activation: Activation
    threshold: float
    """of a channel with "sigmoid" or "none"; with "softmax" the most probable channel counts"""
    is_channels_last: bool = False
    left_out: tuple[int, ...] = ()
    """values of a label map that may come beside `numbers` and 0, and of which nothing is said"""

    def labels(self, answer: Values, dimensions: int, on_source: OnSource) -> Labels:
        """Return the labels on the source: 0 where nothing is marked; of several channels the most probable one.

        Channels are carried to the source as probabilities, linear between their cells, and judged there.
        Shapes: answer (1, channels, …), (1, …, channels), or (1, …) for a label map.
        Raises: ModelError if the answer has another shape, fewer channels, or a value that is no known label;
        UnusablePicture if it holds no numbers.
        """
        if not np.isfinite(answer).all():
            raise UnusablePicture("the network's answer is not finite; nothing is said of the image")
        if self.masks == "labels":
            return self._of_map(answer, dimensions, on_source)
        channels = self._channels(answer, dimensions)
        shares = probabilities(activated(channels, self.activation, axis=0), "the network's answer")
        judged = range(len(shares)) if self.activation == "softmax" else self.numbers
        best: Values | None = None
        labels: Labels | None = None
        for number in judged:
            probability = on_source(shares[number], False)  # noqa: FBT003 - linear
            if best is None or labels is None:
                least = 0.0 if self.activation == "softmax" else self.threshold
                best, labels = np.full(probability.shape, least, np.float32), np.zeros(probability.shape, np.uint8)
            is_better = probability > best
            labels[is_better] = self.numbers.index(number) + 1 if number in self.numbers else 0
            best[is_better] = probability[is_better]
        if labels is None:
            raise ModelError("no channel is named")
        return labels

    def _of_map(self, answer: Values, dimensions: int, on_source: OnSource) -> Labels:
        values = answer[0]
        if values.ndim == dimensions + 1 and 1 in {values.shape[0], values.shape[-1]}:
            values = values[0] if values.shape[0] == 1 else values[..., 0]
        if values.ndim != dimensions:
            raise ModelError(
                f"the network answers in the shape {answer.shape}; a label map of {dimensions} axes is read"
            )
        self._refuse_unknown(values)
        rounded = np.rint(on_source(values, True))  # noqa: FBT003 - the nearest
        labels = np.zeros(rounded.shape, np.uint8)
        for label, number in enumerate(self.numbers, start=1):
            labels[rounded == number] = label
        return labels

    def _refuse_unknown(self, values: Values) -> None:
        """Return if a label map holds 0 and the labels that the description knows, and nothing else.

        Raises: ModelError.
        """
        described = sorted({0, *self.numbers, *self.left_out})
        is_known = np.isin(values, described)
        if not is_known.all():
            raise ModelError(
                f"the network marks with {float(values[~is_known][0]):g}; the description knows "
                f"{', '.join(map(str, described))}: name the label as a segment, or below left_out"
            )

    def _channels(self, answer: Values, dimensions: int) -> Values:
        channels: Values = answer[0]
        if channels.ndim != dimensions + 1:
            raise ModelError(f"the network answers in the shape {answer.shape}; channels on {dimensions} axes are read")
        if self.is_channels_last:
            channels = np.asarray(np.moveaxis(channels, -1, 0), np.float32)
        if max(self.numbers) >= len(channels):
            raise ModelError(
                f"the network answers with {len(channels)} channels; the description names channel {max(self.numbers)}"
            )
        if self.activation == "softmax" and len(channels) == 1:
            raise ModelError('softmax over one channel is 1 everywhere; activation = "sigmoid" reads one channel')
        return channels


def largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected piece of a mask; the mask itself if it has one piece or none."""
    from scipy import ndimage  # noqa: PLC0415 - half a second to import, and most networks need none

    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == int(sizes.argmax()), np.bool_)
