"""`ainode init` writes the configuration of a new node."""

from pathlib import Path

import pytest

from ainode.node.commands.init import write_configuration
from ainode.node.errors import ConfigError
from ainode.node.settings import load


def test_the_written_node_has_its_console_on_for_this_machine_alone_and_its_own_data(tmp_path: Path) -> None:
    folder = tmp_path / 'a "node" of ours'
    write_configuration(folder)
    settings, shipped = load(folder / "node.toml"), load()
    assert settings.web.enabled
    assert settings.console.enabled
    assert settings.web.bind == settings.node.bind == "127.0.0.1"
    assert settings.data == folder / "data"
    assert settings.routes == shipped.routes
    assert settings.model_copy(update={"web": shipped.web, "node": shipped.node}) == shipped


def test_the_next_two_commands_are_printed_as_a_shell_takes_them(tmp_path: Path) -> None:
    lines = write_configuration(tmp_path / "my node").splitlines()
    config = f"--config '{tmp_path}/my node/node.toml'"
    assert lines[2:4] == [f"  ainode user add NAME --role administrator {config}", f"  ainode serve {config}"]


@pytest.mark.parametrize("name", ["node.toml", "routes.toml"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("# mine")
    with pytest.raises(ConfigError, match="exists"):
        write_configuration(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "# mine"


def test_a_folder_that_cannot_be_written_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_configuration(tmp_path / "file")
