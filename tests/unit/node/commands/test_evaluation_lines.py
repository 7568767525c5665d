"""The table that `ainode evaluate` prints: short, with intervals, baselines and the word gain explained."""

import json
from pathlib import Path

import pytest

from ainode.node.commands.evaluation_lines import evaluation_lines

_METRICS = sorted((Path(__file__).parents[4] / "models").glob("*/metrics/*.json"))


@pytest.mark.parametrize("path", _METRICS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_the_figures_of_all_shipped_weights_fit_a_screen(path: Path) -> None:
    metrics = json.loads(path.read_text("utf-8"))
    text = "\n".join(evaluation_lines(metrics))
    auc = metrics["auc"]
    assert f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})" in text
    assert all(name in text for name in metrics["baselines"])
    assert "gain: the AUC of the weights less that of the baseline" in text
    assert text.count("\n") < 60


def test_a_figure_of_a_part_is_named_with_its_table_and_a_deeper_one_is_left_to_the_file() -> None:
    estimate = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 9}
    metrics = {
        "cases": 9,
        "groups": 1,
        "positive": ["ill"],
        "threshold": 0.5,
        "auc": estimate,
        "outline": {"dice": estimate, "deep": {"dice": estimate}},
        "baselines": {},
    }
    lines = "\n".join(evaluation_lines(metrics)).splitlines()
    assert lines[0] == "9 cases of 1 group (patients or lesions); positive: ill; threshold 0.5"
    assert [line.split("  ")[0] for line in lines[2:]] == ["auc", "outline: dice"]
    assert lines[2].split() == ["auc", "0.500", "(0.250", "to", "0.750)", "9"]
