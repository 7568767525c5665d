"""What of the input made a network answer so: its activation map where the graph has one, else occlusion.

Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.2 (occlusion).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ainode.models.described.scaling import Activation, activated
from ainode.models.running.saliency import rectified_map

if TYPE_CHECKING:
    from ainode.models.described.network import Network

Map = NDArray[np.float32]

# Patches along each axis of the input: a bounded number of passes, 49 of a picture and 36 of a volume.
_PATCHES = {2: (7, 7), 3: (4, 3, 3)}
# Layers of the strongest patch that are hidden one by one: a patch of a volume holds many slices.
_LAYERS = 12
ACTIVATION, OCCLUSION = "activation map", "occlusion"


def attention(
    network: Network, inputs: Map, number: int, activation: Activation, *, is_channels_last: bool
) -> tuple[Map, str]:
    """Return the map of an answer, 0 to 1 on a coarse grid over the input, and how it was made.

    Shapes: inputs as the network takes them; out (h, w) or (d, h, w).
    """
    maps = network.maps(inputs)
    if maps is not None:
        return rectified_map(maps[number]), ACTIVATION
    return rectified_map(_occlusion(network, inputs, number, activation, is_channels_last=is_channels_last)), OCCLUSION


@dataclass(frozen=True, slots=True)
class _Hiding:
    """An input, of which a patch can be hidden behind the mean of each channel."""

    inputs: Map
    is_channels_last: bool

    @property
    def size(self) -> tuple[int, ...]:
        """Return the size of the input along each axis in space."""
        return self.inputs.shape[1:-1] if self.is_channels_last else self.inputs.shape[2:]

    def without(self, *patch: tuple[int, int]) -> Map:
        """Return the input with a patch hidden, which is given by its ends along each axis."""
        before = (slice(None),) if self.is_channels_last else (slice(None), slice(None))
        axes = tuple(range(len(before), len(before) + len(patch)))
        hidden = self.inputs.copy()
        hidden[(*before, *(slice(*ends) for ends in patch))] = self.inputs.mean(axis=axes, keepdims=True)
        return hidden


def _parts(first: int, last: int, count: int) -> list[tuple[int, int]]:
    """Return the ends of parts of an axis, as many and as even as they can be."""
    edges = np.linspace(first, last, min(count, last - first) + 1).round().astype(int).tolist()
    return list(pairwise(edges))


def _occlusion(network: Network, inputs: Map, number: int, activation: Activation, *, is_channels_last: bool) -> Map:
    """Return how much the probability of an answer falls where a patch of the input has the input's mean."""
    hiding = _Hiding(inputs, is_channels_last)
    counts = _PATCHES[len(hiding.size)]
    parts = [_parts(0, size, count) for size, count in zip(hiding.size, counts, strict=True)]

    def probability(values: Map) -> float:
        return float(activated(network(values)[0].reshape(-1), activation)[number])

    whole = probability(inputs)
    falls = [whole - probability(hiding.without(*patch)) for patch in product(*parts)]
    return np.asarray(falls, np.float32).reshape([len(ends) for ends in parts])


def deciding_place(
    coarse: Map, inputs: Map, axis: int, probability: Callable[[Map], float], *, is_channels_last: bool
) -> tuple[float, ...]:
    """Return the middle of a map's strongest cell, in the layer of it that lowers the probability most when hidden.

    Layers lie across an axis of the input; where none lowers it more than the others, the middle layer is returned.
    Shapes: coarse (d, h, w) over the whole input; the place is an index of the input, as fractions.
    """
    hiding = _Hiding(inputs, is_channels_last)
    cell = np.unravel_index(int(coarse.argmax()), coarse.shape)
    cells = zip(hiding.size, coarse.shape, cell, strict=True)
    ends = [_parts(0, size, count)[number] for size, count, number in cells]
    layers = _parts(*ends[axis], _LAYERS)
    left = [probability(hiding.without(*ends[:axis], layer, *ends[axis + 1 :])) for layer in layers]
    if min(left) < max(left):
        ends[axis] = layers[int(np.argmin(left))]
    return tuple((first + last - 1) / 2 for first, last in ends)
