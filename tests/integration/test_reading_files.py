"""`ainode read` in processes of its own: what a reading imports, and that the first answers as every later one."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import installed

from ainode.node import testing
from ainode.node.reading import registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore

installed("cv2", "openvino", "timm", "torch", "ultralytics")

PROGRAM = """
import atexit, sys
from ainode.node.commands import cli
atexit.register(lambda: print("imported:", *sorted(name for name in sys.modules if "." not in name), file=sys.stderr))
cli.main()
"""
OF_OTHER_COMMANDS = {"dbos", "fastapi", "matplotlib", "pynetdicom", "scipy", "sqlalchemy"}
OF_A_CONVERSION = {"timm", "torch", "ultralytics"}


def imported_by_reading(paths: Path, out: Path, config: Path) -> set[str]:
    """Return the packages that a reading of a radiograph imported."""
    words = ["read", paths, "--model", "spine_radiograph", "--out", out, "--config", config]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rsplit("imported:", 1)[1].split())


@pytest.mark.timeout(600)
def test_no_reading_with_shipped_weights_imports_torch_and_the_second_answers_as_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AINODE_READER__NETWORKS", str(tmp_path / "networks"))
    monkeypatch.setenv("AINODE_READER__DEVICE", "cpu")
    (config := tmp_path / "node.toml").write_text(f'[node]\ndata = "{tmp_path / "data"}"\n')
    models = ModelEnvironment(WeightStore(tmp_path / "weights"), tmp_path)
    study = registry.handler("spine_radiograph", models).demonstration(0)
    testing.write(study.images[:1], tmp_path / "study", study="speed")
    first = imported_by_reading(tmp_path / "study", tmp_path / "first", config)
    second = imported_by_reading(tmp_path / "study", tmp_path / "second", config)
    assert not (first | second) & (OF_OTHER_COMMANDS | OF_A_CONVERSION)
    written = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir() if path.is_file()}
    assert "result.json" in written
    assert {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir() if path.is_file()} == written
