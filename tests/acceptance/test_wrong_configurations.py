"""Every wrong configuration of the table is refused in words, before anything listens and before a folder is made."""

import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.node import ROOT
from support.servers import free_port

from ainode.node.commands import cli

TABLE = tomllib.loads(Path(__file__).with_name("wrong_configurations.toml").read_text(encoding="utf-8"))
# Names of rows that are also tried as a whole process, one for each place that finds a fault.
BY_PROCESS = (
    "a node.toml with a byte order mark",
    "a table that is no JSON",
    "a database of an unknown kind",
    "a data folder below a file",
    "a port that is in use",
    "a handler that does not exist",
)
COMMANDS = (
    *("check", "jobs", "doctor pacs", "send file pacs", "retry job", "deliver job", "replay 1.2", "explain 1.2"),
    *("read file --out out", "weights list", "weights verify", "token list", "token add orthanc"),
)


@dataclass(frozen=True)
class Configuration:
    """One row of the table."""

    name: str
    words: list[str]
    node: str = ""
    routes: str = ""
    encoding: str = "utf-8"
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


CONFIGURATIONS = {row["name"]: Configuration(**row) for row in TABLE["configuration"]}


@dataclass(frozen=True)
class Installation:
    """A folder with a wrong configuration, and a port that is in use."""

    row: Configuration
    folder: Path
    busy: int

    def filled(self, text: str) -> str:
        for name, value in {"folder": self.folder, "busy": self.busy, "long": "x" * 300}.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    def write(self) -> None:
        texts = {"node.toml": self.row.node, "routes.toml": self.row.routes, **self.row.files}
        for name, text in texts.items():
            if name not in self.row.without:
                encoding = self.row.encoding if name == "node.toml" else "utf-8"
                (self.folder / name).write_text(self.filled(text), encoding=encoding)
        for name in self.row.folders:
            (self.folder / name).mkdir()
        for name, target in self.row.links.items():
            (self.folder / name).symlink_to(self.folder / target)

    @property
    def environment(self) -> dict[str, str]:
        has_folder = "data = " in self.row.node
        variables = {} if has_folder else {"AINODE_NODE__DATA": "{folder}/data"}
        return {name: self.filled(text) for name, text in (variables | self.row.environment).items()}

    def assert_refused(self, status: object, output: str) -> None:
        assert status == 2, output
        assert all(line.startswith("ainode: ") for line in output.splitlines()), output
        missing = [words for words in map(self.filled, self.row.words) if words not in output]
        assert not missing, output
        assert "secret" not in output.replace("peer.0.password", "").replace("client_secret_env", "")
        assert not (self.folder / "data").exists()
        made = {path.name for path in self.folder.iterdir()} - {"node.toml", "routes.toml"}
        assert made == {*self.row.files, *self.row.folders, *self.row.links} - {"node.toml", "routes.toml"}


@pytest.fixture
def busy() -> Iterator[int]:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        yield port


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_wrong_configuration_is_refused_by_file_key_and_remedy_before_anything_listens(
    name: str, tmp_path: Path, busy: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installation = Installation(CONFIGURATIONS[name], tmp_path, busy)
    installation.write()
    for variable in [variable for variable in os.environ if variable.upper().startswith("AINODE_")]:
        monkeypatch.delenv(variable)
    for variable, value in installation.environment.items():
        monkeypatch.setenv(variable, value)
    for package in installation.row.absent:
        monkeypatch.setitem(sys.modules, package, None)

    def refuse(_listener: socket.socket, *_backlog: int) -> None:
        pytest.fail("the node listens")

    monkeypatch.setattr(socket.socket, "listen", refuse, raising=False)
    monkeypatch.setattr(sys, "argv", ["ainode", "serve", "--config", str(tmp_path / "node.toml")])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    installation.assert_refused(ending.value.code, capsys.readouterr().err)


@pytest.mark.parametrize("name", BY_PROCESS)
def test_a_process_with_a_wrong_configuration_ends_with_status_2_and_no_traceback(
    name: str, tmp_path: Path, busy: int
) -> None:
    installation = Installation(CONFIGURATIONS[name], tmp_path, busy)
    installation.write()
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("AINODE_")}
    paths = {"PYTHONPATH": f"{ROOT / '.ns'}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-m", "ainode.node.commands.cli", "serve", "--config", tmp_path / "node.toml"],
        env=inherited | paths | installation.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    installation.assert_refused(done.returncode, done.stderr)
    assert not done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_reads_the_configuration_ends_with_status_2_if_it_is_wrong(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installation = Installation(CONFIGURATIONS["a key that does not exist"], tmp_path, 0)
    installation.write()
    monkeypatch.setenv("AINODE_NODE__DATA", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "argv", ["ainode", *command.split(), "--config", str(tmp_path / "node.toml")])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    installation.assert_refused(ending.value.code, capsys.readouterr().err)


@pytest.mark.parametrize("command", ["jobs", "retry job", "deliver job", "replay 1.2", "explain 1.2"])
def test_a_command_that_asks_the_database_says_that_no_node_has_run_there(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AINODE_NODE__DATA", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "argv", ["ainode", *command.split()])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert ending.value.code == 2
    assert f"{tmp_path}/data/catalog.sqlite: no node has run there; give --config" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_the_table_has_at_least_75_wrong_configurations() -> None:
    assert len(CONFIGURATIONS) == len(TABLE["configuration"]) >= 75
