import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.servers import free_port

from ainode.node.keeping.folder_lock import FolderLock
from ainode.node.reading import registry
from ainode.node.routes import Route
from ainode.node.settings import DatabaseTable, NodeTable, Settings, Sources, WebTable
from ainode.node.starting import requirements

SOURCES = Sources(Path("node.toml"), Path("routes.toml"))


def port_problems(data: Path, port: int) -> list[str]:
    return list(requirements.port_problems(Settings(node=NodeTable(data=data, port=port)), SOURCES))


def test_a_port_that_the_receiver_of_a_killed_node_still_holds_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "_LONGEST_END_S", 60.0)
    FolderLock(tmp_path).release()
    port = free_port()
    receiver = socket.create_server(("127.0.0.1", port))
    end = threading.Timer(0.5, receiver.close)
    end.start()
    assert port_problems(tmp_path, port) == []
    end.join()


def test_a_port_is_not_waited_for_where_no_node_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_seconds: float) -> None:
        pytest.fail("the start waits")

    monkeypatch.setattr(requirements, "time", SimpleNamespace(monotonic=time.monotonic, sleep=refuse))
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        (problem,) = port_problems(tmp_path, port)
    assert problem.startswith("node.toml: node.port: cannot listen on 127.0.0.1")


def test_the_ports_are_free_after_the_look_at_them(tmp_path: Path) -> None:
    port, web_port = free_port(), free_port()
    settings = Settings(node=NodeTable(data=tmp_path, port=port), web=WebTable(enabled=True, port=web_port))
    assert not list(requirements.port_problems(settings, SOURCES))
    for number in (port, web_port):
        socket.create_server(("127.0.0.1", number)).close()


def problems_of_handler(data: Path, handler: str) -> list[str]:
    settings = Settings(node=NodeTable(data=data), routes=(Route("r", handler),))
    return list(requirements.problems(settings, SOURCES))


def test_a_handler_is_looked_for_without_running_a_line_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site_of_ours"
    (package / "inner").mkdir(parents=True)
    for path in (package / "__init__.py", package / "inner" / "__init__.py", package / "inner" / "handler.py"):
        path.write_text("raise SystemExit('ran')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert problems_of_handler(tmp_path / "data", "site_of_ours.inner.handler") == []
    assert len(problems_of_handler(tmp_path / "data", "site_of_ours.inner.other")) == 1
    assert len(problems_of_handler(tmp_path / "data", "site_of_ours.handler.inner")) == 1


def test_a_folder_of_a_node_is_taken_whatever_lies_in_it(tmp_path: Path) -> None:
    settings = Settings(node=NodeTable(data=tmp_path, min_free_bytes=0))
    for name in (".bashrc", "lost+found", "tokens", "catalog.sqlite-wal"):
        (tmp_path / name).touch()
    assert list(requirements.problems(settings, SOURCES)) == []
    (tmp_path / "letters").touch()
    (problem,) = requirements.problems(settings, SOURCES)
    assert "holds 'letters', which is not of a node" in problem
    FolderLock(tmp_path).release()
    assert list(requirements.problems(settings, SOURCES)) == []


def test_every_handler_that_ships_is_found() -> None:
    for name in registry.names():
        registry.refuse_unknown(name)
        registry.refuse_unknown(f"ainode.handlers.{name}")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", ["", "data", "deep/data"])
def test_a_start_on_a_read_only_disk_is_refused_by_the_key_of_the_data_folder(read_only: Path, name: str) -> None:
    node = NodeTable(data=read_only / name, min_free_bytes=0)
    (problem,) = requirements.problems(Settings(node=node), SOURCES)
    assert problem == (
        f"node.toml: node.data: {read_only} is on a read-only disk; give a folder on a disk that can be written"
    )


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        ("spool", Path.touch, "is no folder"),
        ("audit", Path.touch, "is no folder"),
        ("catalog.sqlite", Path.mkdir, "is a folder"),
    ],
)
def test_a_file_in_the_place_of_a_folder_of_the_node_is_named_and_a_folder_in_a_file_s_place(
    tmp_path: Path, name: str, make: Callable[[Path], None], sentence: str
) -> None:
    make(tmp_path / name)
    (problem,) = requirements.problems(Settings(node=NodeTable(data=tmp_path)), SOURCES)
    assert problem.startswith(f"node.toml: node.data: {tmp_path / name} {sentence}")


@pytest.mark.parametrize(
    ("python", "sqlite", "url", "count"),
    [
        ((3, 13, 0), (3, 40, 1), "", 1),
        ((3, 13, 0), (3, 46, 1), "", 0),
        ((3, 11, 2), (3, 40, 1), "", 0),
        ((3, 13, 0), (3, 40, 1), "postgresql+psycopg://ainode@localhost/ainode", 0),
    ],
)
def test_an_sqlite_that_is_too_old_for_the_workflows_of_this_python_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    python: tuple[int, ...],
    sqlite: tuple[int, ...],
    url: str,
    count: int,
) -> None:
    monkeypatch.setattr(sys, "version_info", python)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", sqlite)
    settings = Settings(node=NodeTable(data=tmp_path, min_free_bytes=0), database=DatabaseTable(url=url))
    problems = list(requirements.problems(settings, SOURCES))
    assert ["workflows need 3.42; give a PostgreSQL" in problem for problem in problems] == [True] * count
