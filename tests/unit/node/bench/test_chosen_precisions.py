"""The bench has each handler load its networks with "auto", in a folder of its own, and shows what was chosen."""

from pathlib import Path

import pytest

from ainode.node.bench.chosen_precisions import choice_rows
from ainode.node.reading.weights import ModelEnvironment, WeightStore

HANDLER = """
import json

class Chooser:
    def __init__(self, environment):
        self.environment = environment
    def select(self, study): ...
    def read(self, selection): ...
    def weights(self): return ()
    def demonstration(self, seed): ...
    def prepare(self):
        folder = self.environment.cache / "precisions"
        folder.mkdir(parents=True)
        choice = {"name": "network", "processor": "p", "openvino": "1", "precision": self.environment.precision,
                  "candidates": [{"precision": "f32", "median_ms": 2.0, "largest_gap": 0.0}]}
        (folder / "1.json").write_text(json.dumps(choice))
        return ()

build = Chooser
"""


def test_what_auto_chooses_is_measured_anew_and_a_handler_that_breaks_has_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own := tmp_path / "own").mkdir()
    (own / "choosing_handler.py").write_text(HANDLER)
    (own / "breaking_handler.py").write_text(HANDLER.replace("folder.mkdir(parents=True)", "raise OSError"))
    monkeypatch.syspath_prepend(tmp_path)
    models = ModelEnvironment(WeightStore(tmp_path / "weights"), tmp_path / "networks")
    rows = list(choice_rows(models, ["own.breaking_handler", "own.choosing_handler"]))
    assert rows == [("network", "auto", "p", "1", "f32 2.0 ms, 0.0000")]
    assert not models.cache.exists()
