"""Pictures of how good a model is: one PNG each, no display needed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_curve

from ainode.models.training.metrics import Estimate, auc, proportion

# Columns of a log that are no figure of the model.
_NO_CURVES = frozenset({"epoch", "seconds", "learning_rate"})
_BINS = 10
_WORTH_NOTHING = {"color": "0.6", "linestyle": ":"}


def evaluation_plots(
    labels: ArrayLike, scores: ArrayLike, folder: Path, *, confusion: tuple[ArrayLike, ArrayLike, Sequence[str]]
) -> tuple[Path, ...]:
    """Write roc.png, precision_recall.png, calibration.png and confusion.png; return them.

    `confusion` is true class numbers, those read, and the classes' names.
    """
    truth, guess = np.asarray(labels) > 0.5, np.asarray(scores)  # noqa: PLR2004  # labels are 0 or 1
    real, read, names = confusion
    table = confusion_matrix(real, read, labels=range(len(names)))
    return (
        _roc(folder / "roc.png", truth, guess),
        _precision_recall(folder / "precision_recall.png", truth, guess),
        _calibration(folder / "calibration.png", truth, guess),
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


def _unit_square(axes: Any, title: str, x: str, y: str) -> None:  # noqa: ANN401 - as above
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))


def _roc(path: Path, truth: NDArray[np.bool_], scores: NDArray[Any]) -> Path:
    false_positive, true_positive, _ = roc_curve(truth, scores)
    figure, axes = _figure()
    axes.plot(false_positive, true_positive)
    axes.plot((0, 1), (0, 1), **_WORTH_NOTHING)
    title = f"area {auc(truth, scores):.3f}, {truth.sum()} positive of {len(truth)}"
    _unit_square(axes, title, "1 - specificity", "sensitivity")
    figure.savefig(path)
    return path


def _precision_recall(path: Path, truth: NDArray[np.bool_], scores: NDArray[Any]) -> Path:
    precision, recall, _ = precision_recall_curve(truth, scores)
    figure, axes = _figure()
    axes.plot(recall, precision)
    axes.axhline(truth.mean(), **_WORTH_NOTHING)
    title = f"average precision {average_precision_score(truth, scores):.3f}, {truth.mean():.0%} are positive"
    _unit_square(axes, title, "recall", "precision")
    figure.savefig(path)
    return path


def _calibration(path: Path, truth: NDArray[np.bool_], scores: NDArray[Any]) -> Path:
    """Draw each tenth of the probabilities with the interval of its share: a bin of few cases says little."""
    which = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    filled = [which == one for one in np.unique(which)]
    means = [float(scores[one].mean()) for one in filled]
    shares: list[Estimate] = [proportion(int(truth[one].sum()), int(one.sum())) for one in filled]
    # Of a share of 0 or 1 the interval's end may lie a rounding beyond it.
    reach = [[max(0.0, one.value - one.low) for one in shares], [max(0.0, one.high - one.value) for one in shares]]
    figure, axes = _figure()
    axes.errorbar(means, [one.value for one in shares], yerr=reach, fmt="o", capsize=3)
    for mean, share in zip(means, shares, strict=True):
        axes.annotate(str(share.n), (mean, share.value), xytext=(6, 4), textcoords="offset points", fontsize="small")
    axes.plot((0, 1), (0, 1), **_WORTH_NOTHING)
    title = "95 % interval and number of cases of each tenth"
    _unit_square(axes, title, "predicted probability", "share that is positive")
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
