"""`ainode init` writes the configuration of a new node."""

import socket
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import installed
from typer.testing import CliRunner

from ainode.node.commands.init import (
    Answers,
    Archive,
    Choices,
    ae_title_of,
    archive_of,
    next_commands,
    port_of,
    receiving_port_of,
    user_of,
    write_configuration,
)
from ainode.node.commands.initial_routes import models_of
from ainode.node.commands.operation_commands import operations_app
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


def test_the_next_commands_are_printed_as_a_shell_takes_them(tmp_path: Path) -> None:
    lines = next_commands(write_configuration(tmp_path / "my node"), Answers(), Choices()).splitlines()
    config = f"--config '{tmp_path}/my node/node.toml'"
    assert lines[lines.index("Next:") + 1 :] == [
        *(f"  ainode user add NAME --role administrator {config}", f"  ainode check {config}"),
        f"  ainode serve {config}",
        "Then open http://127.0.0.1:8080/ on this machine.",
    ]
    assert "user add" not in next_commands(tmp_path / "node.toml", Answers(user="ada"), Choices())


def test_models_that_get_a_route_and_lack_a_package_are_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("cv2", "openvino", "safetensors", "scipy", "torch")
    monkeypatch.setitem(sys.modules, "timm", None)  # as Python finds a package that is not installed
    text = next_commands(tmp_path / "node.toml", Answers(), Choices())
    assert "Not ready yet: spine_radiograph, lung_nodule; missing: timm; in the checkout of ainode: " in text
    assert "'.[models]'" in text
    assert "Not ready" not in next_commands(tmp_path / "node.toml", Answers(), Choices(models=("skin_lesion",)))


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


def test_an_archive_of_this_machine_is_the_destination_of_each_route_and_nobody_else_may_call(tmp_path: Path) -> None:
    answers = Answers("OURS", 104, Archive("ORTHANC", "127.0.0.1", 4242), tmp_path / "elsewhere")
    settings, shipped = load(write_configuration(tmp_path / "my", answers)), load()
    assert (settings.node.ae_title, settings.node.port, settings.data) == ("OURS", 104, tmp_path / "elsewhere")
    (peer,) = settings.peers
    assert (peer.name, peer.ae_title, peer.host, peer.port) == ("orthanc", "ORTHANC", "127.0.0.1", 4242)
    assert {route.destinations for route in settings.routes} == {("orthanc",)}
    assert [route.name for route in settings.routes] == [route.name for route in shipped.routes]
    assert (settings.node.bind, settings.node.allow) == ("127.0.0.1", shipped.node.allow)


def test_the_name_of_a_route_stands_above_its_destinations(tmp_path: Path) -> None:
    write_configuration(tmp_path, Answers(archive=Archive("ORTHANC", "127.0.0.1", 4242)))
    routes = tomllib.loads((tmp_path / "routes.toml").read_text())["route"]
    assert {route["destinations"] == ["orthanc"] and next(iter(route)) for route in routes} == {"name"}


@pytest.mark.parametrize("destination", [None, "orthanc"])
def test_a_model_that_is_left_out_has_no_route_and_the_others_are_those_that_ship(
    tmp_path: Path, destination: str | None
) -> None:
    answers = Answers(archive=Archive("ORTHANC", "127.0.0.1", 4242) if destination else None)
    choices = Choices(models=models_of("lung_nodule, ct_tumor"))
    settings = load(write_configuration(tmp_path, answers, choices))
    destinations = (destination,) if destination else ()
    assert settings.routes == tuple(
        replace(route, destinations=destinations)
        for route in load().routes
        if route.handler in {"lung_nodule", "ct_tumor"}
    )
    assert "init --models" not in next_commands(tmp_path / "node.toml", answers, choices)


def test_a_node_without_shipped_models_has_no_route_and_still_the_comment_of_each_key(tmp_path: Path) -> None:
    config = write_configuration(tmp_path, choices=Choices(models=models_of("none")))
    assert load(config).routes == ()
    text = (tmp_path / "routes.toml").read_text()
    assert "\n# [[route]]\n# name = " in text
    assert "# destinations = []\n" in text
    (tmp_path / "routes.toml").write_text(text + '\n[[route]]\nname = "mine"\nhandler = "skin_lesion"\n')
    assert [route.name for route in load(config).routes] == ["mine"]


@pytest.mark.parametrize("text", ["spine", "lung_nodule,spine", "none,lung_nodule", ","])
def test_a_model_that_does_not_ship_is_refused_with_the_names_of_those_that_do(text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        models_of(text)
    assert all(route.handler in str(refusal.value) for route in load().routes)


def test_the_console_has_the_port_that_an_option_gives(tmp_path: Path) -> None:
    choices = Choices(console_port=18080)
    settings = load(write_configuration(tmp_path, choices=choices))
    assert (settings.web.port, settings.node.port) == (18080, 11112)
    assert next_commands(tmp_path / "node.toml", Answers(), choices).endswith(
        "http://127.0.0.1:18080/ on this machine."
    )


def test_the_node_does_not_receive_on_the_port_of_the_console(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give another"):
        receiving_port_of("8080", 8080)
    done = CliRunner().invoke(operations_app, ["init", str(tmp_path / "my"), "--console-port", "11112"])
    assert isinstance(done.exception, ConfigError)
    assert not (tmp_path / "my").exists()


@pytest.fixture
def port_in_use() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_a_port_that_another_program_has_is_told_with_a_free_one(tmp_path: Path, port_in_use: int) -> None:
    for answers, choices, table in (
        (Answers(), Choices(console_port=port_in_use), "[web]"),
        (Answers(port=port_in_use), Choices(), "[node]"),
    ):
        text = next_commands(tmp_path / "node.toml", answers, choices)
        (line,) = (line for line in text.splitlines() if line.startswith(f"Port {port_in_use},"))
        assert table in line
        proposed = int(line.partition("port = ")[2].partition(",")[0])
        assert proposed not in {answers.port, choices.console_port}
        socket.create_server(("127.0.0.1", proposed)).close()


def test_an_archive_of_another_machine_may_call_under_its_title_from_its_address_alone(tmp_path: Path) -> None:
    answers = Answers(archive=Archive("PACS", "192.0.2.7", 11112))
    settings = load(write_configuration(tmp_path, answers))
    assert settings.node.bind == "0.0.0.0"  # noqa: S104 - what is written
    assert settings.node.allow == ("*@127.0.0.0/8", "PACS@192.0.2.7")
    assert settings.web.bind == "127.0.0.1"


def test_the_name_of_an_archive_that_has_no_address_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the name has no address here"):
        write_configuration(tmp_path, Answers(archive=Archive("PACS", "pacs.invalid", 104)))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (Archive("AINODE", "127.0.0.1", 4242), "node.toml: peer.ae_title: 'AINODE' is an AE title of this node"),
        (Archive("ORTHANC", "127.0.0.1", 11112), "node.toml: peer.port: host and port are those of this node"),
    ],
)
def test_an_archive_that_would_be_the_node_itself_is_refused_and_nothing_written(
    tmp_path: Path, archive: Archive, words: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        write_configuration(tmp_path / "my", Answers(archive=archive))
    assert f"{tmp_path / 'my'}/{words}" in str(refusal.value)
    assert not (tmp_path / "my").exists()


def test_answers_are_checked_before_anything_is_written() -> None:
    assert archive_of(" ORTHANC@[::1]:4242 ") == Archive("ORTHANC", "::1", 4242)
    assert archive_of("") is None
    assert user_of("") == ""
    assert Archive("MY PACS/2", "h", 1).name == "my-pacs-2"
    for wrong in (
        "ORTHANC",
        "ORTHANC@host",
        "@host:1",
        "A@http://host:1",
        "A@host:0",
        "A@host:99999",
        "A" * 17 + "@h:1",
    ):
        with pytest.raises(ConfigError, match=r"give|name"):
            archive_of(wrong)
    for title in ("", "A" * 17, "A\\B", "Ä"):
        with pytest.raises(ConfigError, match="is no AE title"):
            ae_title_of(title)
    for port in ("", "0", "65536", "a", "1.5", "²"):
        with pytest.raises(ConfigError, match="is no port"):
            port_of(port)


def test_a_short_password_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    arguments = ["init", str(tmp_path / "my"), "--user", "ada", "--password-stdin"]
    done = CliRunner().invoke(operations_app, arguments, input="too short\n")
    assert isinstance(done.exception, ConfigError)
    assert "15" in str(done.exception)
    assert not (tmp_path / "my").exists()
