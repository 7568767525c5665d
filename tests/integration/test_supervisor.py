"""What a supervisor sees: the exit status of a node, and the unit that systemd runs."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from support import free_port, installed, program
from support.node import ROOT, RunningNode, configured, running

UNIT = ROOT / "config" / "ainode.service"


def exit_status(node: RunningNode) -> int:
    """Run a node that ends by itself."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / '.ns'}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "ainode.node.commands.cli", "serve", "--config", str(node.config)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode


def test_a_node_that_is_asked_to_stop_ends_with_0_and_says_so(tmp_path: Path) -> None:
    node = configured(tmp_path)
    node.start()
    assert node.process
    node.process.terminate()
    assert node.process.wait(120) == 0
    assert re.findall(r"action=(stopp\w+)", node.log.read_text()) == ["stopping", "stopped"]


def test_a_node_whose_receiver_was_killed_goes_on_and_its_supervisor_sees_no_end(tmp_path: Path) -> None:
    with running(configured(tmp_path)) as node:
        assert node.process
        (killed,) = node.receivers
        for child in psutil.Process(node.process.pid).children(recursive=True):
            child.send_signal(signal.SIGKILL)
        node.until(lambda: len(node.receivers) == 1 and killed not in node.receivers, within_s=120)


def test_a_node_whose_database_was_removed_ends_with_1(tmp_path: Path) -> None:
    node = configured(tmp_path)
    node.start()
    assert node.process
    (tmp_path / "data" / "catalog.sqlite").unlink()
    assert node.process.wait(120) == 1


def test_a_node_whose_database_is_not_there_yet_ends_with_1_so_that_it_is_started_again(tmp_path: Path) -> None:
    installed("psycopg")
    address = f"postgresql+psycopg://127.0.0.1:{free_port()}/ainode"
    assert exit_status(configured(tmp_path, more=f'[database]\nurl = "{address}"')) == 1


def test_a_node_with_a_wrong_configuration_ends_with_2(tmp_path: Path) -> None:
    assert exit_status(configured(tmp_path, more="[reader]\nidle = 1")) == 2


def test_systemd_finds_no_fault_in_the_unit_and_its_exposure_is_low(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    text = UNIT.read_text(encoding="utf-8")
    installed_program = "/opt/ainode/.venv/bin/ainode"
    assert f"ExecStart={installed_program} serve --config /etc/ainode/node.toml" in text
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(installed_program, sys.executable), encoding="utf-8")
    verified = subprocess.run([str(analyze), "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    judgement = [str(analyze), "security", "--offline=yes", "--threshold=20", str(unit)]
    assert subprocess.run(judgement, capture_output=True, check=False).returncode == 0


def test_systemd_repeats_the_start_a_few_times_and_never_after_a_wrong_configuration() -> None:
    values = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert (values["Restart"], values["RestartPreventExitStatus"]) == ("on-failure", "2")
    # With a shorter interval the limit would never be reached, and a node that cannot start would start for ever.
    assert int(values["StartLimitIntervalSec"]) > int(values["StartLimitBurst"]) * int(values["RestartSec"])
