"""Plots of a model's figures: one PNG each; no display is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_curve

from ainode.models.training.curves import calibration, log_columns
from ainode.models.training.metrics import auc

_FROC_TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)
_CHANCE_LINE = {"color": "0.6", "linestyle": ":"}


def empty_plot(width: float = 5, height: float = 4) -> tuple[Any, Any]:  # matplotlib is typed only where it is
    """Return a figure and its axes; width and height in inches, 120 pixels each."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def draw_outlines(
    axes: Any,  # noqa: ANN401 - as above
    picture: NDArray[np.uint8],
    drawn: NDArray[np.bool_],
    true: NDArray[np.bool_],
) -> None:
    """Draw a picture with what a model outlined (red) and the truth (cyan); each (rows, columns)."""
    axes.imshow(picture, cmap="gray")
    for mask, color in ((drawn, "tab:red"), (true, "tab:cyan")):
        if mask.any():
            axes.contour(mask, levels=[0.5], colors=[color], linewidths=0.8)
    axes.set_axis_off()


def evaluation_plots(
    labels: ArrayLike, scores: ArrayLike, folder: Path, *, confusion: tuple[ArrayLike, ArrayLike, Sequence[str]]
) -> tuple[Path, ...]:
    """Write roc.png, precision_recall.png, calibration.png and confusion.png; return them.

    `confusion` is the true class numbers, the predicted class numbers and the names of the classes.
    """
    truth, score_array = np.asarray(labels) > 0.5, np.asarray(scores)  # noqa: PLR2004  # labels are 0 or 1
    class_numbers, predicted, names = confusion
    table = confusion_matrix(class_numbers, predicted, labels=range(len(names)))
    return (
        _draw_roc(folder / "roc.png", truth, score_array),
        _draw_precision_recall(folder / "precision_recall.png", truth, score_array),
        _draw_calibration(folder / "calibration.png", truth, score_array),
        _draw_table(folder / "confusion.png", table, names),
    )


def froc_plot(points: Sequence[tuple[float, float]], path: Path) -> Path:
    """Draw a free-response ROC: the part of the lesions that is marked, over false marks a scan; return the PNG."""
    figure, axes = empty_plot()
    axes.plot(*zip(*points, strict=True))
    ticks = [tick for tick in _FROC_TICKS if points[0][0] <= tick <= points[-1][0]]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.set(xlabel="false marks a scan", ylabel="part of the lesions that is marked", ylim=(0, 1.02))
    axes.grid(color="0.9")
    figure.savefig(path)
    return path


def loss_plot(log: Path, path: Path) -> Path:
    """Draw a log.csv: every column of a loss to the left, every other figure to the right; return the PNG."""
    columns = log_columns(log)
    figure, axes = empty_plot()
    figures = [name for name in columns if name != "epoch" and "loss" not in name]
    for name in [name for name in columns if "loss" in name]:
        axes.plot(columns["epoch"], columns[name], "-", label=name)
    axes.set(xlabel="epoch", ylabel="loss")
    if figures:
        twin = axes.twinx()
        for name in figures:
            twin.plot(columns["epoch"], columns[name], "--", label=name)
        twin.set_ylabel("score")
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path)
    return path


def _label_unit_square(axes: Any, title: str, x: str, y: str) -> None:  # noqa: ANN401 - as above
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))


def _draw_roc(path: Path, truth: NDArray[np.bool_], scores: NDArray[Any]) -> Path:
    false_positive, true_positive, _ = roc_curve(truth, scores)
    figure, axes = empty_plot()
    axes.plot(false_positive, true_positive)
    axes.plot((0, 1), (0, 1), **_CHANCE_LINE)
    title = f"area {auc(truth, scores):.3f}, {truth.sum()} positive of {len(truth)}"
    _label_unit_square(axes, title, "1 - specificity", "sensitivity")
    figure.savefig(path)
    return path


def _draw_precision_recall(path: Path, truth: NDArray[np.bool_], scores: NDArray[Any]) -> Path:
    precision, recall, _ = precision_recall_curve(truth, scores)
    figure, axes = empty_plot()
    axes.plot(recall, precision)
    axes.axhline(truth.mean(), **_CHANCE_LINE)
    title = f"average precision {average_precision_score(truth, scores):.3f}, {truth.mean():.0%} are positive"
    _label_unit_square(axes, title, "recall", "precision")
    figure.savefig(path)
    return path


def _draw_calibration(path: Path, truth: NDArray[np.bool_], scores: NDArray[Any]) -> Path:
    """Draw each tenth of the probabilities with the interval of its share: a bin of few cases says little."""
    means, shares = zip(*calibration(truth, scores), strict=True)
    # Rounding may put the end of the interval of a share of 0 or 1 beyond the share.
    error_bars = [
        [max(0.0, share.value - share.low) for share in shares],
        [max(0.0, share.high - share.value) for share in shares],
    ]
    figure, axes = empty_plot()
    axes.errorbar(means, [share.value for share in shares], yerr=error_bars, fmt="o", capsize=3)
    for mean, share in zip(means, shares, strict=True):
        axes.annotate(str(share.n), (mean, share.value), xytext=(6, 4), textcoords="offset points", fontsize="small")
    axes.plot((0, 1), (0, 1), **_CHANCE_LINE)
    title = "95 % interval and number of cases of each tenth"
    _label_unit_square(axes, title, "predicted probability", "share that is positive")
    figure.savefig(path)
    return path


def _draw_table(path: Path, table: ArrayLike, names: Sequence[str]) -> Path:
    figure, axes = empty_plot()
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
