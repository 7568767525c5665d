"""The figures of cards, manifest and README are those that `ainode evaluate` wrote, and `research` is earned."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ainode.models.training.metrics import Estimate
from ainode.models.training.shortcuts import above_shortcuts

ROOT = Path(__file__).parents[3]
MANIFEST = tomllib.loads((ROOT / "weights" / "manifest.toml").read_text("utf-8"))["weights"]
FILES = {path: json.loads(path.read_text("utf-8")) for path in sorted(ROOT.glob("models/*/metrics/*.json"))}
CARDS = sorted(ROOT.glob("models/*/card.toml"))
_HALF_OF_THE_LAST_DIGIT = 0.0005
_DAY_MINUTES = 24 * 60


def metrics_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the evaluation of one file of weights; there is one and no more."""
    (metrics,) = (metrics for metrics in FILES.values() if entry["name"] in metrics["weights"])
    return dict(metrics)


def departures(stated: object, written: object, place: str) -> Iterator[str]:
    """Yield where a card states another figure than the file, or one that the file does not have."""
    if isinstance(stated, dict) and isinstance(written, dict):
        for key, value in stated.items():
            yield from departures(value, written.get(key), f"{place}.{key}")
    elif isinstance(stated, float) and isinstance(written, float):
        if abs(stated - written) > _HALF_OF_THE_LAST_DIGIT * 1.001:
            yield f"{place}: {stated}, evaluated {written}"
    elif stated != written:
        yield f"{place}: {stated}, evaluated {written}"


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["name"])
def test_the_evaluation_is_of_the_very_bytes_that_ship(entry: Mapping[str, Any]) -> None:
    metrics = metrics_of(entry)
    assert metrics["weights"][entry["name"]] == entry["sha256"]
    assert metrics["part"] == "test"
    assert {rule["kind"] for rule in metrics["baselines"].values()} >= {"shortcut", "pixels"}


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["name"])
def test_the_manifest_states_the_evaluated_figure(entry: Mapping[str, Any]) -> None:
    metrics = metrics_of(entry)
    if entry["network"] == "detector":
        figure = f"mAP at IoU 0.5 {metrics['detector']['map_50']:.3f}"
    else:
        figure = str(Estimate(**metrics["baselines"].get(f"{entry['network']} alone", metrics)["auc"]))
    assert figure in entry["metrics"]


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["name"])
def test_research_weights_lie_above_every_shortcut_with_their_whole_interval(entry: Mapping[str, Any]) -> None:
    if entry["status"] == "research":
        assert above_shortcuts(metrics_of(entry))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_a_card_states_what_was_evaluated_shortcuts_included(card: Path) -> None:
    tables = tomllib.loads(card.read_text("utf-8"))["metrics"]
    for name, table in tables.items():
        written = FILES[card.parent / table["file"]]
        stated = {key: value for key, value in table.items() if key != "file"}
        assert list(departures(stated, written, name)) == []
        assert set(stated["baselines"]) == set(written["baselines"])
    assert {table["file"] for table in tables.values()} == {
        f"metrics/{path.name}" for path in FILES if path.parent.parent == card.parent
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parents[1].name}/{path.stem}")
def test_the_readme_states_the_evaluated_figure(path: Path) -> None:
    area = FILES[path]["auc"]
    stated = f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f}"
    assert stated in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_the_minutes_of_a_card_are_those_of_its_log_and_no_size_or_clock(card: Path) -> None:
    training = tomllib.loads(card.read_text("utf-8"))["training"]
    sections = [training, *(section for section in training.values() if isinstance(section, dict))]
    stated = [section["wall_minutes"] for section in sections if "wall_minutes" in section]
    evaluations = [metrics for path, metrics in FILES.items() if path.parents[1] == card.parent]
    logged = [metrics["training_minutes"] for metrics in evaluations if "training_minutes" in metrics]
    assert all(0 < minutes < _DAY_MINUTES for minutes in stated)
    assert not logged or sorted(stated) == sorted(map(round, logged))


def test_a_figure_that_departs_from_the_file_is_noticed() -> None:
    written = {"auc": {"value": 0.98538, "n": 12}}
    assert list(departures({"auc": {"value": 0.985, "n": 12}}, written, "lung")) == []
    assert list(departures({"auc": {"value": 0.984}}, written, "lung")) == ["lung.auc.value: 0.984, evaluated 0.98538"]
    assert list(departures({"acu": 0.98}, written, "lung")) == ["lung.acu: 0.98, evaluated None"]
