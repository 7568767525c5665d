"""What the test of a model measured, in one line for the list and in rows for the page of the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ainode.node.reading.cards import Estimate, EvaluationFile

_WORDS: Final = {
    "dice": "Dice",
    "outline dice": "Dice",
    "lung_dice": "Dice of the lungs",
    "dice_in_given_lung": "Dice in a given lung",
    "dice_of_hit_tumors": "Dice of the tumors that were hit",
    "center_in_tumor": "Middle in the tumor, share of slices",
    "angle_error_degrees": "Largest angle off by, in degrees",
    "symmetric_error_percent": "Three angles off by, in percent",
    "share_error_points": "Share off by, in percentage points",
}
"""by the key of metrics.json; another key has its own words"""
_LEADING: Final = ("dice", "outline dice", "center_in_tumor", "angle_error_degrees")
"""what a model that does not classify is judged by, and what its line in the list has beside an AUC"""
_SEARCH: Final = "marked at 4 false marks a scan"
"""what a search is judged by: the first kind of finding of its card"""


@dataclass(frozen=True, slots=True)
class TestFigure:
    """What a test of a model says in one line."""

    name: str
    """of the weights, such as `lung`"""
    auc: str
    """with its interval; '' of a test without an AUC"""
    measures: tuple[tuple[str, str], ...] = ()
    """the name and the value of what the model is judged by beside an AUC, or in its place"""
    shortcut: str = ""
    """the highest AUC of what knows no anatomy, on the same cases; '' where none was measured"""
    is_beaten: bool = False
    """whether a shortcut is as good as the lower end of the interval"""


def figure_of(file: EvaluationFile) -> TestFigure | None:
    """Return the figure of a test, None of a test that measured nothing."""
    evaluation = file.evaluation
    if evaluation is None:
        return None
    measures = tuple(
        (measure_words(key), estimate_words(evaluation.measures[key])) for key in _leading(evaluation.measures)
    )
    auc = evaluation.auc
    if auc is None:
        first = [(measure_words(key), estimate_words(value)) for key, value in evaluation.measures.items()][:1]
        return TestFigure(file.name, "", measures or tuple(first)) if evaluation.measures else None
    shortcuts = [baseline.auc.value for baseline in evaluation.baselines.values() if baseline.kind == "shortcut"]
    if not shortcuts:
        return TestFigure(file.name, estimate_words(auc), measures)
    best = max(shortcuts)
    return TestFigure(file.name, estimate_words(auc), measures, f"{best:.3f}", is_beaten=best >= auc.low)


def _leading(measures: Mapping[str, Estimate]) -> list[str]:
    searches = [key for key in measures if key.endswith(_SEARCH)][:1]
    return [*(key for key in _LEADING if key in measures), *searches]


def measure_words(key: str) -> str:
    """Return what a measure of metrics.json is called."""
    words = key.replace("_", " ")
    return _WORDS.get(key, words[:1].upper() + words[1:])


def estimate_words(estimate: Estimate) -> str:
    """Return a figure with its interval and its number of cases, such as `0.782 (0.779 to 0.783, n 3)`."""
    n = f", n {estimate.n}" if estimate.n else ""
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f}{n})"
