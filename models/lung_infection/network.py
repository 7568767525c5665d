"""The network of lung and infection."""

from __future__ import annotations

from ainode.models.running.pixel_network import PixelNetwork


class InfectionNetwork(PixelNetwork):
    """Logits of lung and infection on each pixel of a picture; lung includes infection.

    Shapes: (n, 1, 256, 256) in, (n, 2, 256, 256) out.
    """

    def __init__(self) -> None:
        super().__init__(outputs=2)
