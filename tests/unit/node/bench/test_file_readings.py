import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ainode.node.bench.file_readings import cost_lines, cost_of
from ainode.node.commands.model_commands import bench_app
from ainode.node.errors import ConfigError
from ainode.node.reading.weights import ModelEnvironment, WeightStore

_TIMED = """
from types import SimpleNamespace
from support.handler import build

def benchmark(models, *, full_size, runs):
    return SimpleNamespace(titles=("way", "runs"), rows=[("ours", runs)], note="")
"""


def test_the_cost_of_a_program_is_that_of_the_program_alone() -> None:
    hoard = "import sys; content = bytearray(300_000_000); content[::4096] = bytes(len(content[::4096]))"
    idle, busy = (cost_of([sys.executable, "-c", program], {}) for program in ("pass", hoard))
    assert busy.resident_mb - idle.resident_mb > 200
    assert idle.processor_s > 0
    assert idle.wall_s > 0


def test_a_program_that_fails_has_no_cost_and_says_why() -> None:
    with pytest.raises(OSError, match="exit status 3: no weights"):
        cost_of([sys.executable, "-c", "import sys; print('no weights', file=sys.stderr); sys.exit(3)"], {})


def test_a_row_is_told_before_the_next_handler_is_measured(tmp_path: Path) -> None:
    lines = cost_lines(("absent", "absent_too"), ModelEnvironment(WeightStore(tmp_path), tmp_path), runs=1)
    assert next(lines).split()[:2] == ["a", "file"]
    assert "absent " in (line := next(lines))
    assert "not measured" in line
    assert "absent_too" not in line


def test_the_handlers_that_are_named_are_timed_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site_of_tests").mkdir()
    (tmp_path / "site_of_tests" / "timed.py").write_text(_TIMED)
    (tmp_path / "node.toml").write_text(f'[node]\ndata = "{tmp_path / "data"}"\n')
    monkeypatch.syspath_prepend(tmp_path)
    words = ["infer", "--runs", "1", "--model", "site_of_tests.timed", "--config", str(tmp_path / "node.toml")]
    result = CliRunner().invoke(bench_app, words, catch_exceptions=False)
    lines = result.stdout.splitlines()
    assert lines[0] == "site_of_tests.timed: 1 reading by each program"
    rows = [line.split() for line in lines if line.startswith("site_of_tests.timed ")]
    assert [row[1:3] for row in rows] == [["first", "1"], ["later", "1"]]
    assert "skin_lesion" not in result.stdout


def test_the_bench_names_the_handler_of_a_route() -> None:
    with pytest.raises(ConfigError, match="its handler is pancreas_tumor"):
        CliRunner().invoke(bench_app, ["infer", "--model", "pancreas-ct"], catch_exceptions=False)
