"""What `ainode weights precisions` shows is what the models kept."""

import json
from pathlib import Path

import pytest

from ainode.node.reading.precisions import choices

CHOICE = {
    "name": "network",
    "processor": "a processor",
    "openvino": "2026.4",
    "precision": "bf16",
    "candidates": [
        {"precision": "f32", "median_ms": 10.04, "largest_gap": 0.0},
        {"precision": "bf16", "median_ms": 5.0, "largest_gap": 0.0012},
    ],
}


def test_a_choice_is_shown_with_what_it_was_chosen_of(tmp_path: Path) -> None:
    (tmp_path / "precisions").mkdir()
    (tmp_path / "precisions" / "1.json").write_text(json.dumps(CHOICE))
    (tmp_path / "precisions" / "2.json").write_text("{")
    (choice,) = choices(tmp_path)
    assert choice.row == ("network", "bf16", "a processor", "2026.4", "f32 10.0 ms, 0.0000; bf16 5.0 ms, 0.0012")


def test_a_folder_without_choices_has_none(tmp_path: Path) -> None:
    assert not list(choices(tmp_path))


def test_the_choices_of_the_models_are_read(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from ainode.models.running.precision import CHOICES, Candidate, Choice, _keep

    (tmp_path / CHOICES).mkdir()
    _keep(Choice("network", "p", "o", "f32", (Candidate("f32", 1.0, 0.0),)), tmp_path / CHOICES / "1.json")
    assert [choice.precision for choice in choices(tmp_path)] == ["f32"]
