"""What a page says of the test of a model, beside what knows no anatomy."""

import pytest

from ainode.node.console.models.measures import figure_of
from ainode.node.reading.cards import Evaluation, EvaluationFile


def a_test(low: float, shortcuts: dict[str, float]) -> EvaluationFile:
    baselines = {
        name: {"kind": "shortcut", "auc": {"value": value, "low": value, "high": value}}
        for name, value in shortcuts.items()
    }
    figures = {"model": "a", "auc": {"value": 0.9, "low": low, "high": 0.95}, "baselines": baselines}
    return EvaluationFile("test", Evaluation.model_validate(figures))


@pytest.mark.parametrize(
    ("low", "shortcuts", "words", "is_beaten"),
    [
        (0.8, {"noise": 0.7, "gray": 0.85}, "0.850", True),
        (0.8, {"noise": 0.7}, "0.700", False),
        (0.0, {}, "", False),
    ],
)
def test_a_test_is_beaten_by_a_shortcut_that_was_measured_and_by_nothing_else(
    low: float, shortcuts: dict[str, float], words: str, *, is_beaten: bool
) -> None:
    figure = figure_of(a_test(low, shortcuts))
    assert figure is not None
    assert (figure.shortcut, figure.is_beaten) == (words, is_beaten)
