"""A node that is root and may less than root, as in a container: a program runs, or the check says what is missing."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.node import ROOT
from support.programs import shell, write_program

from ainode.node.reading import confinement
from ainode.node.reading.sight import lacking_capabilities

pytestmark = [
    pytest.mark.skipif(bool(confinement.missing()), reason="; ".join(confinement.missing())),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up what root may do"),
]
# linux/prctl.h, linux/capability.h
DROP_FROM_BOUNDS = 24
KILL = 5
OF_DOCKER = 0xA80425FB
"""what root may do in a container of docker (docs of docker, Runtime privilege and Linux capabilities)"""
READING = """
import sys
from pathlib import Path
from support.programs import environment_of, request_of
from ainode.node.offline.readings import reading_of
from ainode.node.settings import ReaderTable
folder = Path(sys.argv[1])
try:
    reading = reading_of(request_of(folder), "tool", environment_of(folder), ReaderTable(time_limit_s=60))
    print(reading.answer.summary)
except Exception as error:
    print(type(error).__name__, error)
"""
NAMELESS = """import os, time
kept = [os.open(os.environ["TMPDIR"], os.O_RDWR | os.O_TMPFILE) for _ in range(3)]
for file in kept: os.write(file, bytes(10 << 20))
time.sleep(30)"""
HOARD = "x = bytes([1]) * (300 << 20); import time; time.sleep(30)"


def less_than_root(allowed: int, *command: str) -> str:
    """Return what a command prints that is root with some capabilities alone."""

    def give_up() -> None:
        library = ctypes.CDLL(None)
        for number in range(64):
            if not allowed >> number & 1:
                library.prctl(DROP_FROM_BOUNDS, number, 0, 0, 0)

    paths = os.pathsep.join(map(str, (ROOT / ".ns", ROOT / "tests")))
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=give_up,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
    )
    return done.stdout + done.stderr


def read(folder: Path, program: str, allowed: int = OF_DOCKER) -> str:
    """Return the summary of a program's reading, or why there is none."""
    limits = "time_limit_s = 20\nmemory_bytes = 268435456\ndisk_bytes = 20971520\nprocesses = 32"
    write_program(folder / "models", program, limits=limits)
    return less_than_root(allowed, sys.executable, "-c", READING, str(folder))


def test_a_program_that_runs_longer_than_a_look_at_its_files_is_read_by_root_of_a_container(tmp_path: Path) -> None:
    said = read(tmp_path, shell('sleep 2; echo \'{"summary": "read to the end"}\' > $out/result.json'))
    assert said.strip() == "read to the end"


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="the system has no Python")
@pytest.mark.parametrize(
    ("program", "reason"),
    [(NAMELESS, "it wrote more than 20971520 bytes"), (HOARD, "was ended above 268435456 bytes")],
)
def test_root_of_a_container_holds_a_program_to_its_limits(tmp_path: Path, program: str, reason: str) -> None:
    assert reason in read(tmp_path, f"#!/usr/bin/python3\n{program}\n")


def test_root_that_cannot_end_a_program_runs_none_and_says_what_is_missing(tmp_path: Path) -> None:
    said = read(tmp_path, shell("echo '{}' > $out/result.json"), OF_DOCKER & ~(1 << KILL))
    assert "the node is root without CAP_KILL" in said
    assert "cap_add" in said


def test_the_check_of_a_node_names_what_is_missing_before_a_study_comes(tmp_path: Path) -> None:
    write_program(tmp_path / "models", shell("exit 0"))
    (tmp_path / "node.toml").write_text(f'[node]\ndata = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text(
        '[[route]]\nname = "tool"\nhandler = "tool"\nmodality = ["DX"]\n', encoding="utf-8"
    )
    config = str(tmp_path / "node.toml")
    command = (sys.executable, "-c", "from ainode.node.commands.cli import app; app()", "check", "--config", config)
    lines = less_than_root(OF_DOCKER & ~(1 << KILL), *command).splitlines()
    (line,) = (line for line in lines if "CAP_KILL" in line)
    assert "tool" in line
    assert "not ready" in line


def test_capabilities_are_those_in_force() -> None:
    assert lacking_capabilities(f"Name:\tx\nCapPrm:\t{0:016x}\nCapEff:\t{OF_DOCKER:016x}\n") == ()
    assert lacking_capabilities(f"CapEff:\t{OF_DOCKER & ~0xC0:016x}\n") == ("CAP_SETGID", "CAP_SETUID")
