"""An option that counts once is refused where it is given twice, by each command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ainode.node.commands.cli import app
from ainode.node.errors import ConfigError
from ainode.node.terminal import refuse_repeated


def test_a_second_archive_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ainode.node.commands.cli", "init", "my"]
    archives = ("--archive", "FIRST@127.0.0.1:104", "--archive=SECOND@127.0.0.1:105")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, *archives], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "ainode: --archive is given 2 times, and the last alone would count; give it once\n"
    assert not (tmp_path / "my").exists()


@pytest.mark.parametrize(
    ("typed", "option"),
    [
        ("serve --config a --config b", "--config"),
        ("read file --out a --model m --out b", "--out"),
        ("route live new --config=a --config b", "--config"),
        ("demo --console --no-console", "--console"),
    ],
)
def test_an_option_that_counts_once_is_refused_twice_in_every_command(typed: str, option: str) -> None:
    with pytest.raises(ConfigError, match=f"^{option} is given 2 times"):
        refuse_repeated(app, typed.split())


@pytest.mark.parametrize(
    "typed",
    [
        "read file --out a --point 1,2,3 --point 4,5,6",
        "read --out --out file",
        "read --out a -- --out --out",
        "route live new --config a",
        "unknown --config a --config b",
        "export out 1.2 --wrong --config a --config b",
        "--help",
        "",
    ],
)
def test_what_may_be_repeated_and_what_is_no_option_is_left_to_the_command(typed: str) -> None:
    refuse_repeated(app, typed.split())
