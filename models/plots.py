"""Pictures of how good a model is: one PNG each, no display needed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

# Columns of a log that are no figure of the model.
_NO_CURVES = frozenset({"epoch", "seconds", "learning_rate"})


def evaluation_plots(
    labels: ArrayLike, scores: ArrayLike, folder: Path, *, confusion: tuple[ArrayLike, ArrayLike, Sequence[str]]
) -> tuple[Path, ...]:
    """Write roc.png, precision_recall.png, calibration.png and confusion.png; return them.

    `confusion` is true class numbers, those read, and the classes' names.
    """
    truth, guess = np.asarray(labels) > 0.5, np.asarray(scores)  # noqa: PLR2004  # labels are 0 or 1
    false_positive, true_positive, _ = roc_curve(truth, guess)
    precision, recall, _ = precision_recall_curve(truth, guess)
    fraction, mean = calibration_curve(truth, guess, n_bins=10)
    real, read, names = confusion
    table = confusion_matrix(real, read, labels=range(len(names)))
    return (
        _line(folder / "roc.png", false_positive, true_positive, ("1 - specificity", "sensitivity")),
        _line(folder / "precision_recall.png", recall, precision, ("recall", "precision")),
        _line(folder / "calibration.png", mean, fraction, ("predicted probability", "share that is positive")),
        _table(folder / "confusion.png", table, names),
    )


def loss_plot(log: Path, path: Path) -> Path:
    """Draw a log.csv: every column of a loss to the left, every other figure to the right; return the PNG."""
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure, axes = _figure()
    twin = axes.twinx()
    for name in rows[0] if rows else ():
        if name not in _NO_CURVES:
            side, style = (axes, "-") if "loss" in name else (twin, "--")
            side.plot([float(row["epoch"]) for row in rows], [float(row[name]) for row in rows], style, label=name)
    axes.set(xlabel="epoch", ylabel="loss")
    twin.set_ylabel("score")
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path)
    return path


def _figure() -> tuple[Any, Any]:  # matplotlib is typed only where it is installed
    figure = Figure(figsize=(5, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _line(path: Path, x: ArrayLike, y: ArrayLike, names: tuple[str, str]) -> Path:
    figure, axes = _figure()
    axes.plot(x, y)
    axes.set(xlabel=names[0], ylabel=names[1], xlim=(0, 1), ylim=(0, 1.02))
    figure.savefig(path)
    return path


def _table(path: Path, table: ArrayLike, names: Sequence[str]) -> Path:
    figure, axes = _figure()
    axes.imshow(table, cmap="Blues")
    counts = np.asarray(table)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    ticks = range(len(names))
    axes.set(xlabel="read as", ylabel="is", xticks=ticks, yticks=ticks)
    axes.set_xticklabels(names)
    axes.set_yticklabels(names)
    figure.savefig(path)
    return path
