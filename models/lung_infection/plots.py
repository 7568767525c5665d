"""Plots of the outlines: Dice of each patient, the share of each patient, and slices with both outlines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.training.plots import draw_outlines, empty_plot

Mask = NDArray[np.bool_]


def draw_dice(path: Path, by_rule: Mapping[str, Mapping[str, float]], goal: float) -> None:
    """Draw the Dice of each patient, a mark for each rule, and the goal of the mean."""
    figure, axes = empty_plot(7, 4)
    patients = sorted(next(iter(by_rule.values())))
    for marker, (name, values) in zip("os^Dv", by_rule.items(), strict=False):
        mean = np.mean(list(values.values()))
        axes.plot(patients, [values[patient] for patient in patients], marker, label=f"{name}: mean {mean:.3f}")
    axes.axhline(goal, color="0.6", linestyle=":")
    axes.set(ylabel="Dice of the infection", ylim=(0, 1.02), xlim=(-0.5, len(patients) - 0.5))
    axes.tick_params(axis="x", labelrotation=15)
    figure.legend(loc="outside upper center", fontsize="small")
    figure.savefig(path)


def draw_shares(path: Path, true: Mapping[str, float], outlined: Mapping[str, float]) -> None:
    """Draw the infected share of each patient, outlined against true, in percent."""
    figure, axes = empty_plot(5, 4)
    limit = 1.1 * max(*true.values(), *outlined.values(), 1.0)
    axes.plot((0, limit), (0, limit), color="0.6", linestyle=":")
    for patient, share in true.items():
        axes.plot(share, outlined[patient], "o", color="tab:blue")
        place = (share, outlined[patient])
        axes.annotate(patient, place, xytext=(6, -10), textcoords="offset points", fontsize="small")
    axes.set(xlabel="true share in percent", ylabel="outlined share in percent", xlim=(0, limit), ylim=(0, limit))
    figure.savefig(path)


def draw_slices(path: Path, slices: Mapping[str, tuple[NDArray[np.uint8], Mask, Mask]]) -> None:
    """Draw slices with the infection outlined (red) and true (cyan), each under its title."""
    figure, _ = empty_plot(3 * len(slices), 3.4)
    figure.clear()
    for number, (title, (picture, outlined, true)) in enumerate(slices.items(), start=1):
        axes = figure.add_subplot(1, len(slices), number)
        draw_outlines(axes, picture, outlined, true)
        axes.set_title(title, fontsize="small")
    figure.savefig(path)
