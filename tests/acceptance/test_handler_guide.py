"""The handler of handlers/README.md, as a newcomer would bring it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from support.judges import module_errors
from support.node import ROOT

from ainode.node import testing


def the_example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "handlers" / "README.md").read_text("utf-8"), re.DOTALL)
    return code


def test_the_example_of_the_guide_is_a_route_that_is_ready_and_makes_a_valid_report(tmp_path: Path) -> None:
    package = tmp_path / "my_site"
    package.mkdir()
    (package / "mean_brightness.py").write_text(the_example(), encoding="utf-8")
    (tmp_path / "node.toml").write_text(f'[node]\ndata = "{tmp_path / "data"}"\nmin_free_bytes = 0\n')
    guide = (ROOT / "handlers" / "README.md").read_text("utf-8")
    (route,) = re.findall(r"( {4}\[\[route\]\]\n(?: {4}.+\n)+)", guide)
    (tmp_path / "routes.toml").write_text(re.sub(r"^ {4}", "", route, flags=re.MULTILINE))
    (image,) = testing.write([testing.noise(512, 512, BodyPartExamined="CHEST")], tmp_path / "in", study="guide")

    def ainode(*arguments: object) -> str:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "ainode.node.commands.cli",
                *map(str, arguments),
                "--config",
                tmp_path / "node.toml",
            ],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ROOT / ".ns")))},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert re.search(r"route brightness +ready", ainode("check"))
    ainode("read", image, "--model", "my_site.mean_brightness", "--out", tmp_path / "out")
    documents = sorted((tmp_path / "out").rglob("*.dcm"))
    assert len(documents) == 2
    assert [error for document in documents for error in module_errors(document)] == []
    assert "brightness" in next((tmp_path / "out").rglob("result.json")).read_text()


def test_the_example_has_as_many_lines_as_the_guide_says() -> None:
    handler = the_example().split("class MeanBrightness:")[1]
    assert len([line for line in handler.splitlines() if line.strip()]) <= 30
