"""Plots of the vertebrae: angles measured against true, and films with both columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Shown = tuple[str, NDArray[np.uint8], NDArray[np.float32], NDArray[np.float64] | None]
"""name, picture, true corners, corners measured"""
_ORDER = [0, 1, 3, 2, 0]


def draw_angles(path: Path, *, true: NDArray[np.float64], measured: NDArray[np.float64], limit: float) -> None:
    """Draw the largest angle of each film, measured against true, and the lines of equality and of 5 degrees beside."""
    figure, (axes,) = _figure(1, 5, 4.5)
    axes.plot((0, limit), (0, limit), color="0.4", linewidth=0.8)
    for beside in (-5, 5):
        axes.plot((0, limit), (beside, limit + beside), color="0.7", linestyle=":", linewidth=0.8)
    axes.plot(true, measured, "o", color="tab:blue", markersize=3)
    axes.set(xlabel="true largest angle in degrees", ylabel="measured, in degrees", xlim=(0, limit), ylim=(0, limit))
    figure.savefig(path)


def draw_films(path: Path, *, films: Sequence[Shown]) -> None:
    """Draw films with the true vertebrae (cyan) and those measured (red), each under its name."""
    figure, places = _figure(len(films), 2.2 * len(films), 5.5)
    for axes, (name, picture, true, measured) in zip(places, films, strict=True):
        axes.imshow(picture, cmap="gray")
        for corners, color in ((true, "tab:cyan"), (measured if measured is not None else (), "tab:red")):
            for four in corners:
                axes.plot(four[_ORDER, 0], four[_ORDER, 1], color=color, linewidth=0.7)
        axes.set_title(name, fontsize="small")
        axes.set_axis_off()
    figure.savefig(path)


def _figure(columns: int, width: float, height: float) -> tuple[Any, list[Any]]:  # matplotlib is typed only where it is
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, columns, number) for number in range(1, columns + 1)]
