"""`ainode init` as a new user meets it: five questions on a terminal, or options, and then `ainode check`."""

import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import free_port, installed, storescp
from support.node import ROOT

from ainode.node.settings import load

PASSWORD = "correct horse battery staple"  # noqa: S105 - of a person that the test makes


def environment(home: Path) -> dict[str, str]:
    paths = os.pathsep.join(map(str, (ROOT / ".ns", ROOT / "tests")))
    kept = {name: value for name, value in os.environ.items() if name in {"OMP_NUM_THREADS", "AINODE_READER__NETWORKS"}}
    return {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": paths, "TERM": "dumb", **kept}


def ainode(home: Path, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ainode.node.commands.cli", *arguments],
        env=environment(home),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=home,
    )


def typed(home: Path, *answers: str) -> str:
    """Run `ainode init my` on a terminal, type each answer once something is asked, and return what is shown."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ainode.node.commands.cli", "init", "my"],
        env=environment(home),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=home,
        start_new_session=True,
    )
    os.close(terminal)
    shown: list[str] = []

    def read() -> None:
        try:
            while content := os.read(controller, 4096):
                shown.append(content.decode())
        except OSError:  # the other side is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 300
    answered = 0
    try:
        for answer in answers:
            while process.poll() is None and not "".join(shown)[answered:].rstrip(" ").endswith(":"):
                assert time.monotonic() < deadline, "".join(shown)
                time.sleep(0.05)
            answered = len("".join(shown))
            os.write(controller, f"{answer}\n".encode())
        process.wait(300)
    finally:
        process.kill()
        process.wait(60)
        reader.join(60)
        os.close(controller)
    assert process.returncode == 0, "".join(shown)
    return "".join(shown)


@pytest.mark.timeout(900)
def test_five_answers_on_a_terminal_make_a_node_that_the_check_accepts(tmp_path: Path) -> None:
    installed("openvino", "timm", "torch", "ultralytics", "fastapi")
    with storescp(tmp_path / "archive") as archive:
        port = free_port()
        shown = typed(
            tmp_path,
            "",  # AINODE
            "no port",
            str(port),
            "nowhere",
            f"{archive.peer.ae_title}@127.0.0.1:{archive.peer.port}",
            "",  # beside node.toml
            "ada",
            PASSWORD,
            PASSWORD,
        )
        assert "'no port' is no port" in shown
        assert "'nowhere' is no archive" in shown
        assert PASSWORD not in shown
        assert "ada may log in as administrator" in shown
        settings = load(tmp_path / "my" / "node.toml")
        assert (settings.node.ae_title, settings.node.port) == ("AINODE", port)
        assert settings.data == tmp_path / "my" / "data"
        done = ainode(tmp_path, "check", "--config", "my/node.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"peer {archive.peer.ae_title.lower()}" in done.stdout


def test_options_answer_the_questions_of_a_script(tmp_path: Path) -> None:
    port = free_port()
    options = ("--ae-title", "OURS", "--port", str(port), "--archive", "PACS@127.0.0.1:104", "--data", "elsewhere")
    done = ainode(tmp_path, "init", "my", *options, "--user", "ada", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    settings = load(tmp_path / "my" / "node.toml")
    assert (settings.node.ae_title, settings.node.port, settings.data) == ("OURS", port, tmp_path / "elsewhere")
    assert "ada" in ainode(tmp_path, "user", "list", "--config", "my/node.toml").stdout
    assert "user add" not in done.stdout


def test_a_wrong_option_writes_nothing_and_says_what_it_must_be(tmp_path: Path) -> None:
    done = ainode(tmp_path, "init", "my", "--archive", "PACS")
    assert done.returncode == 2
    assert "give AE@HOST:PORT" in done.stderr
    assert not (tmp_path / "my").exists()


def test_without_a_terminal_and_options_the_defaults_are_written(tmp_path: Path) -> None:
    assert ainode(tmp_path, "init", "my").returncode == 0
    assert load(tmp_path / "my" / "node.toml").peers == ()


def test_a_node_with_some_of_the_models_is_ready_and_takes_routes_and_models_later(tmp_path: Path) -> None:
    installed("onnx", "openvino", "torch")
    from support.graphs import mean_file

    options = ("--models", "skin_lesion", "--console-port", str(free_port()), "--user", "ada", "--password-stdin")
    done = ainode(tmp_path, "init", "my", *options, stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    done = ainode(tmp_path, "check", "--config", "my/node.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    routes = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("route ")]
    assert routes == ["skin-lesion"]
    path = tmp_path / "my" / "routes.toml"
    shadow = '\n[[route]]\nname = "skin-new"\nhandler = "skin_lesion"\nmode = "shadow"\n'
    path.write_text(path.read_text(encoding="utf-8") + shadow, encoding="utf-8")
    route = ("route", "live", "skin-new", "--instead-of", "skin-lesion", "--anyway", "--config", "my/node.toml")
    done = ainode(tmp_path, *route)
    assert done.returncode == 0, done.stdout + done.stderr
    modes = {route.name: route.mode.value for route in load(tmp_path / "my" / "node.toml").routes}
    assert modes == {"skin-lesion": "shadow", "skin-new": "live"}
    mean_file(tmp_path / "hip.onnx")
    done = ainode(tmp_path, "model", "new", "hip", "--from", "hip.onnx", "--config", "my/node.toml")
    assert (tmp_path / "my" / "data" / "models" / "hip" / "model.toml").exists(), done.stdout + done.stderr
