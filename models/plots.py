"""Pictures of how good a model is: one PNG each, no display needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

if TYPE_CHECKING:
    from ainode.models.training import Epoch


def evaluation_plots(labels: ArrayLike, scores: ArrayLike, threshold: float, folder: Path) -> tuple[Path, ...]:
    """Write roc.png, precision_recall.png, confusion.png and calibration.png; return them."""
    truth, guess = np.asarray(labels) > 0.5, np.asarray(scores)  # noqa: PLR2004  # labels are 0 or 1
    false_positive, true_positive, _ = roc_curve(truth, guess)
    precision, recall, _ = precision_recall_curve(truth, guess)
    fraction, mean = calibration_curve(truth, guess, n_bins=10)
    table = confusion_matrix(truth, guess > threshold)
    return (
        _line(folder / "roc.png", false_positive, true_positive, ("1 - specificity", "sensitivity")),
        _line(folder / "precision_recall.png", recall, precision, ("recall", "precision")),
        _line(folder / "calibration.png", mean, fraction, ("predicted probability", "share abnormal")),
        _table(folder / "confusion.png", table),
    )


def loss_plot(history: Sequence[Epoch], path: Path) -> Path:
    """Write the loss and the score of every epoch to a PNG; return it."""
    figure, axes = _figure()
    axes.plot([row.epoch for row in history], [row.loss for row in history], label="training loss")
    twin = axes.twinx()
    twin.plot([row.epoch for row in history], [row.score for row in history], "C1", label="validation score")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    twin.set_ylabel("validation score")
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


def _table(path: Path, table: ArrayLike) -> Path:
    figure, axes = _figure()
    axes.imshow(table, cmap="Blues")
    counts = np.asarray(table)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    axes.set(xlabel="read as", ylabel="is", xticks=[0, 1], yticks=[0, 1])
    axes.set_xticklabels(["normal", "abnormal"])
    axes.set_yticklabels(["normal", "abnormal"])
    figure.savefig(path)
    return path
