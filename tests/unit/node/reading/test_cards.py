import json
import re
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from support.described import write_model

from ainode.node.reading.cards import card
from ainode.node.reading.weights import WeightStore

METRICS = {"model": "mine", "weights": {"mine/net": "ab"}, "auc": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}}


def put(site: Path, model: str, card_text: str, **metrics: str) -> None:
    folder = site / "cards" / model / "metrics"
    folder.mkdir(parents=True)
    (folder.parent / "card.toml").write_text(card_text, "utf-8")
    for name, content in metrics.items():
        (folder / f"{name}.json").write_text(content, "utf-8")


@pytest.mark.parametrize("model", sorted({entry.model for entry in WeightStore(Path("/absent")).entries()}))
def test_every_model_that_ships_has_a_card_with_scope_limits_licence_and_tests(model: str, tmp_path: Path) -> None:
    shipped = card(model, tmp_path)
    assert (shipped.name, shipped.problem) == (model, "")
    assert shipped.task
    assert dict(shipped.scope)["modality"]
    assert "any clinical decision" in shipped.not_for[0]
    assert {"code"} <= set(dict(shipped.licence))
    assert shipped.training
    assert shipped.known_limits
    folder = Path(str(resources.files("ainode.models"))) / model
    in_short = " ".join(tomllib.loads((folder / "card.toml").read_text("utf-8"))["known_limits"])
    figures = re.compile(r"\d+(?:\.\d+)?")
    assert set(figures.findall(in_short)) <= set(figures.findall(" ".join(shipped.limits)))
    for test in shipped.evaluations:
        assert test.evaluation is not None, test.problem
        assert test.evaluation.auc is not None
        assert "shortcut" in {baseline.kind for baseline in test.evaluation.baselines.values()}


def test_the_tests_of_a_card_are_of_the_files_that_the_manifest_names(tmp_path: Path) -> None:
    digests = {entry.name: entry.sha256 for entry in WeightStore(tmp_path).entries()}
    for test in card("skin_lesion", tmp_path).evaluations:
        assert test.evaluation is not None
        assert dict(test.evaluation.weights).items() <= digests.items()


def test_no_code_of_a_model_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ainode.models.skin_lesion")]:
        monkeypatch.delitem(sys.modules, name)  # it is back for the next test: two of a class are two classes
    card("skin_lesion", tmp_path)
    assert not [name for name in sys.modules if name.startswith("ainode.models.skin_lesion")]


def test_the_card_of_a_site_wins_and_may_say_little(tmp_path: Path) -> None:
    put(tmp_path, "skin_lesion", 'task = "ours"\nmodality = "XC"\n[training]\n', ours=json.dumps(METRICS))
    ours = card("skin_lesion", tmp_path)
    assert (ours.name, ours.task, ours.scope, ours.not_for) == ("skin_lesion", "ours", (("modality", "XC"),), ())
    (test,) = ours.evaluations
    assert test.evaluation is not None
    assert test.evaluation.auc is not None
    assert test.evaluation.auc.high == 0.9


@pytest.mark.parametrize("content", ["", "[]", '{"model": 1}', '{"model": "x", "auc": {"value": "much"}}', "\x00"])
def test_a_file_of_metrics_that_cannot_be_read_says_so_and_spares_the_card(content: str, tmp_path: Path) -> None:
    put(tmp_path, "mine", 'task = "ours"', broken=content, whole=json.dumps(METRICS))
    broken, whole = card("mine", tmp_path).evaluations
    assert broken.evaluation is None
    assert "broken.json is no metrics.json" in broken.problem
    assert whole.evaluation is not None


def test_a_card_that_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    put(tmp_path, "mine", "task = ", whole=json.dumps(METRICS))
    mine = card("mine", tmp_path)
    assert "card.toml cannot be read" in mine.problem
    assert len(mine.evaluations) == 1


@pytest.mark.parametrize("model", ["absent", "../weights", "", "a/b", "a\0b", "x" * 65])
def test_a_name_without_a_card_has_an_empty_card(model: str, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "card.toml").write_text('task = "hidden"')
    empty = card(model, tmp_path)
    assert (empty.task, empty.evaluations) == ("", ())
    assert empty.problem


def test_the_card_of_a_described_model_is_its_description(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"network")
    write_model(tmp_path / "models", "hip", tmp_path / "net.onnx")
    own = card("hip", tmp_path / "weights")
    assert (own.task, own.version, own.status, own.problem) == ("Bright or dark", "3", "site", "")
    assert own.not_for == ("anybody",)
    assert own.scope == (("modality", "DX"), ("body part", "CHEST"))
    assert own.training == (("data", "nothing: made for a test"),)
    write_model(tmp_path / "models", "hip", tmp_path / "net.onnx", "title = 3")
    assert "title = 3; a text is needed" in card("hip", tmp_path / "weights").problem
