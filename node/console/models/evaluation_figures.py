"""The figures and curves of an evaluation as charts; what is missing says which command makes it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from ainode.node.console.figures import charts
from ainode.node.console.figures.charts import MAX_CLASSES, Axis, Curve, Estimate, unit_axis
from ainode.node.console.models.measures import measure_words
from ainode.node.domain import counted
from ainode.node.reading import cards
from ainode.node.reading.cards import Baseline, Evaluation, EvaluationFile, evaluation_command

_CHANCE = Curve("chance", ((0.0, 0.0), (1.0, 1.0)))


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a table: its name, its number with the interval, what it was counted on."""

    name: str
    text: str
    n: str = ""


@dataclass(frozen=True, slots=True)
class EvaluationFigures:
    """One evaluation as a page shows it."""

    name: str
    problem: str
    evaluation: Evaluation | None = None
    is_served: bool = True
    """whether the weights that were evaluated are the bytes that the node serves"""
    figures: tuple[Figure, ...] = ()
    baselines: tuple[tuple[str, Baseline], ...] = ()
    against_baselines: Markup | None = None
    curves: tuple[tuple[str, Markup], ...] = ()
    """a heading and a chart"""
    command: str = ""
    """what makes the curves, where there are none"""


def evaluation_figures(file: EvaluationFile, digests: Mapping[str, str]) -> EvaluationFigures:
    """Return the figures of a file; `digests` are the sha256 of the weights that the node serves, by name."""
    evaluation = file.evaluation
    if evaluation is None:
        return EvaluationFigures(file.name, file.problem)
    return EvaluationFigures(
        name=file.name,
        problem="",
        evaluation=evaluation,
        is_served=all(digests.get(name) == digest for name, digest in evaluation.weights.items()),
        figures=tuple(_figures(evaluation)),
        baselines=tuple(evaluation.baselines.items()),
        against_baselines=_against_baselines(file.name, evaluation),
        curves=tuple(_curves(file.name, evaluation)),
        command=evaluation_command(evaluation.model) if evaluation.curves is None else "",
    )


def _figures(evaluation: Evaluation) -> Iterator[Figure]:
    estimates = {
        "Area under the ROC curve": evaluation.auc,
        "Sensitivity": evaluation.sensitivity,
        "Specificity": evaluation.specificity,
        "Accuracy": evaluation.accuracy,
    }
    for name, estimate in estimates.items():
        if estimate:
            yield Figure(name, _words(estimate), str(estimate.n))
    for key, measure in evaluation.measures.items():
        yield Figure(measure_words(key), _words(measure), str(measure.n or ""))
    if evaluation.brier is not None:
        yield Figure("Brier score", f"{evaluation.brier:.3f}")
    if evaluation.expected_calibration_error is not None:
        yield Figure("Expected calibration error", f"{evaluation.expected_calibration_error:.3f}")


def _words(estimate: cards.Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _against_baselines(name: str, evaluation: Evaluation) -> Markup | None:
    if evaluation.auc is None:
        return None
    rows = {name: evaluation.auc} | {text: baseline.auc for text, baseline in evaluation.baselines.items()}
    estimates = [Estimate(text, row.value, row.low, row.high) for text, row in rows.items()]
    return charts.estimate_chart(f"{name} against baselines", estimates, unit_axis("area under the ROC curve"))


def _curves(name: str, evaluation: Evaluation) -> Iterator[tuple[str, Markup]]:
    points = evaluation.curves
    if points is None:
        return
    if points.roc:
        axes = unit_axis("1 - specificity"), unit_axis("sensitivity")
        yield "ROC", charts.line_chart(f"ROC of {name}", [Curve(name, points.roc)], *axes, reference=_CHANCE)
    if points.precision_recall:
        axes = unit_axis("recall"), unit_axis("precision")
        curve = Curve(name, points.precision_recall)
        yield "Precision and recall", charts.line_chart(f"Precision and recall of {name}", [curve], *axes)
    if points.calibration:
        tenths = [Estimate(counted(t.n, "case"), t.value, t.low, t.high, x=t.predicted) for t in points.calibration]
        axes = unit_axis("predicted probability"), unit_axis("share that is positive")
        yield "Calibration", charts.interval_chart(f"Calibration of {name}", tenths, *axes, reference=_CHANCE)
    matrix = points.confusion
    if matrix and matrix.is_whole and 0 < len(matrix.names) <= MAX_CLASSES:
        yield "Confusion", charts.confusion_matrix(f"Confusion of {name}", matrix.names, matrix.counts)
    for network, columns in points.losses.items():
        if "epoch" in columns:
            yield f"Losses {network}".strip(), _loss_chart(network or name, columns)


def _loss_chart(name: str, columns: Mapping[str, tuple[float, ...]]) -> Markup:
    """Return the losses of a training; other columns of the log, such as an accuracy, have another scale."""
    curves = [
        Curve(column, tuple(zip(columns["epoch"], values, strict=False)))
        for column, values in columns.items()
        if "loss" in column
    ]
    return charts.line_chart(f"Losses of {name}", curves, Axis("epoch"), Axis("loss"))
