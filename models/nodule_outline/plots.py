"""Plots of outlines against the readers' masks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Values = NDArray[np.float64]

_POINTS: dict[str, Any] = {"linestyle": "none", "marker": ".", "alpha": 0.5}
_LINE: dict[str, Any] = {"color": "0.3", "linewidth": 1}
_EDGES_MM = (3, 4, 5, 6, 8, 10, 15, 20, 32)
_TICKS_MM = (3, 4, 6, 8, 10, 15, 20, 30)
_RATIOS = (0.25, 0.5, 0.8, 1, 1.25, 2, 4)


def dice_plot(diameters_mm: Values, dice: Values, path: Path) -> Path:
    """Draw the Dice of each nodule over its diameter, with the median of each range of diameters; return the PNG."""
    figure = Figure(figsize=(5, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(diameters_mm, dice, **_POINTS)
    for low, high in pairwise(_EDGES_MM):
        inside = dice[(diameters_mm >= low) & (diameters_mm < high)]
        if len(inside):
            axes.hlines(np.median(inside), low, high, color="C1")
    axes.set_xscale("log")
    axes.set_xticks(_TICKS_MM, labels=[str(tick) for tick in _TICKS_MM])
    axes.minorticks_off()
    title = f"mean {dice.mean():.3f}, {len(dice)} nodules; lines: medians"
    axes.set(title=title, xlabel="diameter in mm", ylabel="Dice", ylim=(0, 1))
    figure.savefig(path)
    return path


def volume_plot(volumes_mm3: Values, readers_mm3: Values, path: Path) -> Path:
    """Draw how many times the readers' volume each outline has, over the mean of both; return the PNG.

    The lines are the median and the limits between which 95 % of the outlines lie.
    Source: Bland and Altman, Lancet 1986.
    """
    figure = Figure(figsize=(5, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    has_outline = volumes_mm3 > 0
    drawn, readers = volumes_mm3[has_outline], readers_mm3[has_outline]
    ratio = drawn / readers
    axes.plot(np.sqrt(drawn * readers), ratio, **_POINTS)
    limits = np.percentile(ratio, [2.5, 50, 97.5])
    for limit, style in zip(limits, ("--", "-", "--"), strict=True):
        axes.axhline(limit, linestyle=style, **_LINE)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_yticks(_RATIOS, labels=[f"{tick:g}" for tick in _RATIOS])
    axes.minorticks_off()
    title = f"median {limits[1]:.2f}, 95 % from {limits[0]:.2f} to {limits[2]:.2f}, {len(ratio)} nodules"
    axes.set(title=title, xlabel="mean of both volumes in mm³", ylabel="volume by the readers'", ylim=(0.15, 7))
    figure.savefig(path)
    return path
