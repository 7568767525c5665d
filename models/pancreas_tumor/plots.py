"""Plots of the regions: how often the middle lies in the tumor, Dice over area, and slices with both outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.training.plots import draw_outlines, empty_plot

Mask = NDArray[np.bool_]


def draw_goals(path: Path, *, shares: Mapping[str, Mapping[str, Any]], goal: float) -> None:
    """Draw the share of slices on which the middle of each rule lies in the tumor, with intervals, and the goal."""
    figure, axes = empty_plot(6, 3)
    for number, share in enumerate(shares.values()):
        axes.plot((share["low"], share["high"]), (number, number), color="tab:blue")
        axes.plot(share["value"], number, "o", color="tab:blue")
        axes.annotate(f"{share['value']:.3f}", (share["value"], number), xytext=(0, 6), textcoords="offset points")
    axes.axvline(goal, color="0.6", linestyle=":")
    axes.set_yticks(range(len(shares)), labels=list(shares))
    axes.set(xlabel="middle in the tumor, share of slices; dotted: the goal", xlim=(0, 1))
    axes.set_ylim(len(shares) - 0.5, -0.7)
    figure.savefig(path)


def draw_dice(path: Path, *, areas: NDArray[np.int64], dices: NDArray[np.float64]) -> None:
    """Draw the Dice of each slice over the tumor's area in pixels of the picture."""
    figure, axes = empty_plot(6, 4)
    axes.plot(areas, dices, ".", alpha=0.6)
    axes.axhline(float(dices.mean()), color="0.6", linestyle=":")
    axes.set_xscale("log")
    axes.set(xlabel="area of the tumor in pixels", ylabel="Dice", ylim=(-0.03, 1), title=f"mean {dices.mean():.3f}")
    figure.savefig(path)


def draw_slices(path: Path, *, slices: Sequence[tuple[NDArray[np.uint8], Mask, Mask]]) -> None:
    """Draw slices with the region (red) and the tumor (cyan)."""
    columns = 4
    rows = -(-len(slices) // columns)
    figure, _ = empty_plot(3 * columns, 3 * rows)
    figure.clear()
    for number, (picture, drawn, true) in enumerate(slices, start=1):
        draw_outlines(figure.add_subplot(rows, columns, number), picture, drawn, true)
    figure.savefig(path)
