"""The short table that `ainode evaluate` prints; `metrics.json` has every figure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ainode.node.domain import counted
from ainode.node.terminal import table

Figures = Mapping[str, Any]
_ESTIMATE: Final = frozenset({"value", "low", "high", "n"})
# Deeper figures are of parts of parts.
_DEPTH: Final = 2
_NO_GOALS: Final = ("baselines", "classes", "curves")
_GAIN: Final = (
    "gain: the AUC of the weights less that of the baseline, on the same cases; where the whole interval lies above 0, "
    "the weights tell more than the baseline does"
)


def evaluation_lines(metrics: Figures) -> Iterator[str]:
    """Yield the figures of an evaluation with their 95 % intervals and n, and what is gained over each baseline."""
    cases, groups = counted(metrics["cases"], "case"), counted(metrics["groups"], "group")
    positive = ", ".join(metrics["positive"])
    yield f"{cases} of {groups} (patients or lesions); positive: {positive}; threshold {metrics['threshold']:g}"
    goals = {name: value for name, value in metrics.items() if not name.startswith(_NO_GOALS)}
    yield table(("figure", "with 95 % interval", "n"), _figures(goals))
    if baselines := metrics["baselines"]:
        rows = ((name, row["kind"], _words(row["auc"]), _words(row["gain"])) for name, row in baselines.items())
        yield table(("baseline", "kind", "AUC", "gain"), rows)
        yield _GAIN


def _figures(figures: Figures, prefix: str = "", depth: int = 1) -> Iterator[tuple[str, str, int]]:
    """Yield a row of name, figure with interval, and n for each figure that has an interval, down to a depth."""
    for name, value in figures.items():
        if isinstance(value, Mapping) and set(value) >= _ESTIMATE:
            yield prefix + name, _words(value), value["n"]
        elif isinstance(value, Mapping) and depth < _DEPTH:
            yield from _figures(value, f"{prefix}{name}: ", depth + 1)


def _words(estimate: Figures) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
