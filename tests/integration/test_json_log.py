"""A node that logs objects, and the way of a study that `ainode trace` puts together from them and its database."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.node import ROOT, RunningNode, configured, running
from support.studies import statuses, written

from ainode.node.domain import JobState


def logged(node: RunningNode) -> list[dict[str, Any]]:
    return [json.loads(line) for line in node.log.read_text(encoding="utf-8").splitlines()]


def trace(node: RunningNode, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ainode.node.commands.cli", "trace", *arguments, "--config", str(node.config)]
    paths = os.pathsep.join(map(str, (ROOT / ".ns", ROOT / "tests")))
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> RunningNode:
    """Return a node that has read a study, failed at another and refused a caller, and is stopped."""
    folder = tmp_path_factory.mktemp("node")
    made = configured(folder / "node", peers=[])
    made.config.write_text(made.config.read_text().replace("[node]", '[node]\nlog_format = "json"', 1))
    with running(made):
        for order in ("read", "raise"):
            study = written(folder, order, order=order)
            assert statuses(made, study.paths) == [0]
            made.read(study.uid)
    return made


def test_every_line_of_every_process_is_an_object(node: RunningNode) -> None:
    lines = logged(node)
    assert all({"time", "level", "logger", "words"} <= line.keys() for line in lines)
    assert {line["action"] for line in lines if "action" in line} >= {
        "ready",
        "complete",
        "job_opened",
        "read",
        "stopped",
    }
    assert {"handler_failed"} & {line.get("action") for line in lines}  # of a reader's process


def test_a_trace_follows_a_study_through_database_and_log(node: RunningNode, tmp_path: Path) -> None:
    job = next(job for job in node.ledger.jobs() if job.state is JobState.REPORTED)
    log = tmp_path / "with a strange line.log"
    strange = json.dumps({"time": "soon", "words": "of another program", "job": job.id})
    log.write_text(f"{node.log.read_text(encoding='utf-8')}{strange}\n", encoding="utf-8")
    done = trace(node, job.study_instance_uid, "--log", str(log))
    assert done.returncode == 0, done.stderr
    assert "of another program" not in done.stdout
    steps = (
        "First image or object received",
        "Complete",
        "Matched by route spine",
        "Reading began",
        "Read",
        f"job {job.id}",
    )
    places = [done.stdout.index(step) for step in steps]
    assert places == sorted(places)
    assert "log: job_opened" in done.stdout
    assert "study read in" in done.stdout
    failed = next(job for job in node.ledger.jobs() if job.state is JobState.FAILED)
    assert failed.id not in done.stdout
    assert "Reading failed" in trace(node, failed.study_instance_uid).stdout


def test_a_trace_of_what_the_node_never_saw_says_so(node: RunningNode, tmp_path: Path) -> None:
    done = trace(node, "1.2.3")
    assert (done.returncode, done.stdout) == (1, "the node knows nothing of study 1.2.3\n")
    text = tmp_path / "text.log"
    text.write_text("INFO ainode: ready\n")
    wrong = trace(node, "1.2.3", "--log", str(text))
    assert wrong.returncode == 2
    assert 'set log_format = "json" of [node]' in wrong.stderr
