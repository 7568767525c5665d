"""What the commands say of a peer without an address."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import a_file

from ainode.node.archive.delivery import transport
from ainode.node.archive.store import Outgoing
from ainode.node.commands.cli import send_files
from ainode.node.diagnosis.checks import check_lines
from ainode.node.diagnosis.doctor import examine
from ainode.node.errors import ConfigError
from ainode.node.settings import NodeTable, Peer, Settings

CALLER = Peer(name="ct", ae_title="CT1")
BY_WEB = Peer(name="pacs", ae_title="PACS", orthanc="http://127.0.0.1:9", deliver="orthanc")


def settings(folder: Path, peer: Peer) -> Settings:
    return Settings(node=NodeTable(data=folder, min_free_bytes=0), peers=(peer,))


def test_a_peer_that_only_calls_is_ready_and_check_says_so(tmp_path: Path) -> None:
    assert ("peer ct", "ready", "it only calls the node: no host and port") in check_lines(settings(tmp_path, CALLER))


def test_check_calls_a_peer_without_a_host_by_the_web_alone(tmp_path: Path) -> None:
    (line,) = [line for line in check_lines(settings(tmp_path, BY_WEB)) if line[0] == "peer pacs"]
    assert line[1] == "not ready"
    assert "GET /system" in line[2]


def test_nothing_is_sent_to_a_peer_that_only_calls(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="peer ct: give its ae_title, host and port"):
        transport(CALLER, "AINODE").send([Outgoing.of(a_file())])
    with pytest.raises(ConfigError, match="peer ct only calls the node: give its host and port"):
        examine(CALLER, settings(tmp_path, CALLER), token="7", now=datetime.now(UTC))  # noqa: S106


def test_no_file_is_sent_to_a_listener_for_messages(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[[peer]]\nname = "his"\nhost = "127.0.0.1"\nport = 9\ndeliver = "hl7"\n')
    (tmp_path / "routes.toml").touch()
    with pytest.raises(ConfigError, match="peer his takes messages and no files; `ainode deliver JOB his` sends"):
        send_files([str(tmp_path / "image.dcm"), "his"], config)


def test_a_sender_that_the_node_cannot_call_is_not_asked_for_its_count(tmp_path: Path) -> None:
    assert settings(tmp_path, BY_WEB).peer_of_title("PACS") is None
    assert settings(tmp_path, CALLER).peer_of_title("CT1") is None
