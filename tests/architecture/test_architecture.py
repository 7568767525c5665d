import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ainode.node import __version__

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("node", "handlers", "models")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources() -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


def test_every_import_points_downwards() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("models/wrong.py", "from ainode.node import domain", "Models know arrays only"),
        ("node/wrong.py", "from ainode.models import training", "The node knows no handler and no model"),
        ("handlers/wrong.py", "from ainode.node import jobs", "A handler sees nouns, images and weights"),
        ("node/errors.py", "from ainode.node import app", "The rooms of the node"),
        ("node/encoding/part10.py", "from ainode.node.keeping import ledger", "The rooms of the node"),
        ("node/loose.py", "", "The rooms of the node"),
        ("node/encoding/part10.py", "import numpy", "The receiver's process stays small"),
    ],
)
def test_a_wrong_import_breaks_its_contract(module: str, line: str, contract: str, tmp_path: Path) -> None:
    package = tmp_path / ".ns" / "ainode"
    for room in ROOMS:
        shutil.copytree(ROOT / room, package / room, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    with (package / module).open("a") as file:
        file.write(f"\n{line}\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / ".ns")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert any(contract in said and said.endswith("BROKEN") for said in done.stdout.splitlines()), done.stdout


def test_every_package_folder_is_in_the_wheel() -> None:
    folders = {
        f"ainode.{'.'.join(path.parent.relative_to(ROOT).parts)}"
        for room in (*ROOMS, "config", "weights")
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert folders == set(PROJECT["tool"]["setuptools"]["packages"])


def test_the_version_stands_once() -> None:
    assert PROJECT["project"]["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_no_module_is_longer_than_four_hundred_lines() -> None:
    assert not [path.name for path in sources() if len(path.read_text(encoding="utf-8").splitlines()) > 400]


def test_no_function_is_longer_than_forty_lines_of_code() -> None:
    long = []
    for path in sources():
        if path.parent.name == "versions":
            continue  # a migration is a list of tables
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = ast.unparse(node).splitlines()
                documented = ast.get_docstring(node) or ""
                if len(lines) - len(documented.splitlines()) > 41:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not long


def test_a_broad_except_stands_only_at_the_boundary_of_a_handler_a_study_an_association_or_a_pull() -> None:
    broad = [
        path.name
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}))
    ]
    assert sorted(broad) == sorted(
        set(broad)
        & {
            *("boundary.py", "commitments.py", "dispatcher.py", "faults.py", "intake.py", "intake_thread.py"),
            *("listener.py", "puller.py", "workflows.py"),
        }
    )


def test_the_image_installs_what_the_makefile_installs() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for wanted in ("constraints.txt", "docker/debian-packages run", "[node,detect]", "ainode", "serve"):
        assert wanted in dockerfile
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, flags=re.MULTILINE)
    missing = [name for line in copied for name in line.split() if not (ROOT / name).exists()]
    assert not missing


def test_a_receiver_only_install_asks_for_no_network_library() -> None:
    base = " ".join(PROJECT["project"]["dependencies"])
    assert not re.search(r"torch|tensorflow|openvino|ultralytics|timm|monai", base)


@pytest.mark.parametrize("word", ["make demo", "make test"])
def test_the_readme_names_the_two_commands(word: str) -> None:
    assert word in (ROOT / "README.md").read_text(encoding="utf-8")
