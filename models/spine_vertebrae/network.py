"""The network of the vertebrae: where a middle is, and from each place there the four corners."""

from __future__ import annotations

from ainode.models.running.pixel_network import PixelNetwork
from ainode.models.spine_vertebrae.preprocess import STRIDE


class VertebraNetwork(PixelNetwork):
    """The logit of a vertebra's middle; x and y from the place to the four corners; the number of the vertebra.

    Shapes: (n, 1, rows, columns) in, (n, 10, rows / 4, columns / 4) out.
    Units: distances in `REACH`; the number runs from 0 (T1) to 1 (L5).
    """

    def __init__(self) -> None:
        super().__init__(outputs=10, stride=STRIDE)
