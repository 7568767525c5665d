"""Who may read the data folder."""

import grp
import logging
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.databases import migrated

from ainode.node.app import Node
from ainode.node.disk import part_folder, place_durably, write_durably
from ainode.node.errors import ConfigError
from ainode.node.keeping.permissions import Permissions
from ainode.node.settings import NodeTable, Settings

_ENGINES: list[Engine] = []
"""the open databases of a test: the last one that closes a database removes its log"""


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)  # nobody can raise a limit again
    umask = os.umask(0o022)
    yield
    os.umask(umask)
    while _ENGINES:
        _ENGINES.pop().dispose()


def modes(folder: Path) -> set[tuple[str, int]]:
    """Return what lies in and below a folder: `d` or `f`, and the permissions."""
    return {
        ("d" if path.is_dir() else "f", stat.S_IMODE(path.lstat().st_mode)) for path in (folder, *folder.rglob("*"))
    }


def other_group() -> grp.struct_group:
    """Return a group of this user that is not the group of the files this user makes."""
    groups = (entry for entry in grp.getgrall() if entry.gr_gid != os.getegid())
    return next(entry for entry in groups if not os.geteuid() or entry.gr_gid in os.getgroups())


def a_data_folder(folder: Path) -> Path:
    """Return a data folder with a study, a document, a token, a database and its logs, weights and a lock."""
    for name in ("spool/kept/ab/1.dcm", "documents/job/1.dcm", "tokens.json", "weights/spine/spine.pt", "node.lock"):
        write_durably(folder / name, b"content")
    engine = migrated(f"sqlite:///{folder / 'catalog.sqlite'}")
    _ENGINES.append(engine)
    assert {path.name for path in folder.glob("catalog*")} > {"catalog.sqlite"}, "no write-ahead log was made"
    return folder


def test_a_start_takes_the_data_folder_of_an_earlier_version_from_all_others(tmp_path: Path) -> None:
    data = a_data_folder(tmp_path / "data")
    assert ("f", 0o644) in modes(data)
    Permissions().apply_to(data)
    assert modes(data) == {("d", 0o700), ("f", 0o600)}


def test_a_folder_that_was_made_private_by_hand_does_not_hide_a_readable_folder_in_it(tmp_path: Path) -> None:
    data = a_data_folder(tmp_path / "data")
    data.chmod(0o700)
    Permissions().apply_to(data)
    assert modes(data) == {("d", 0o700), ("f", 0o600)}


def test_a_walk_that_was_cut_off_is_walked_again(tmp_path: Path) -> None:
    data = a_data_folder(tmp_path / "data")
    (data / "spool/kept/ab").chmod(0o700)
    (data / "spool/kept/ab/1.dcm").chmod(0o600)
    Permissions().apply_to(data)
    assert modes(data) == {("d", 0o700), ("f", 0o600)}


def test_what_a_process_and_its_children_write_is_for_its_user_alone(tmp_path: Path) -> None:
    Permissions().apply_to_process()
    data = a_data_folder(tmp_path / "data")
    with part_folder(data / "priors") as part:
        (part / "1.dcm").touch()
        place_durably(part, data / "priors" / "series")
    assert modes(data) == {("d", 0o700), ("f", 0o600)}


def test_no_process_of_a_node_leaves_its_memory_in_a_file_when_it_crashes() -> None:
    script = (
        "import subprocess, sys\n"
        "from ainode.node.keeping.permissions import Permissions\n"
        "Permissions().apply_to_process()\n"
        "subprocess.run([sys.executable, '-c', 'import resource; print(resource.getrlimit(resource.RLIMIT_CORE))'])"
    )
    started = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert started.stdout == "(0, 0)\n"


def test_members_of_the_configured_group_read_what_was_there_and_what_comes(tmp_path: Path) -> None:
    group = other_group()
    permissions = Permissions.of_group(group.gr_name)
    permissions.apply_to(a_data_folder(tmp_path / "data"))
    permissions.apply_to_process()
    data = a_data_folder(tmp_path / "data")
    write_durably(data / "documents/next/2.dcm", b"content")
    with part_folder(data / "priors") as part:
        (part / "1.dcm").touch()
        place_durably(part, data / "priors" / "series")
    assert modes(data) == {("d", 0o2750), ("f", 0o640)}
    assert {path.lstat().st_gid for path in (data, *data.rglob("*"))} == {group.gr_gid}


def test_no_group_reads_the_audit_trail_or_the_digests_of_tokens(tmp_path: Path) -> None:
    data = a_data_folder(tmp_path / "data")
    write_durably(data / "audit" / "2026-01-01.log", b"content")
    write_durably(data / "tokens", b"{}")
    Permissions.of_group(other_group().gr_name).apply_to(data)
    assert modes(data / "audit") == {("d", 0o700), ("f", 0o600)}
    assert modes(data / "tokens") == {("f", 0o600)}
    assert modes(data / "documents") == {("d", 0o2750), ("f", 0o640)}


def test_the_own_group_of_a_process_needs_no_bit_that_a_unit_of_systemd_forbids() -> None:
    permissions = Permissions.of_group(grp.getgrgid(os.getegid()).gr_name)
    assert permissions.folder_mode == 0o750


def test_a_link_below_the_data_folder_changes_nothing_outside(tmp_path: Path) -> None:
    outside = tmp_path / "shared.pt"
    outside.touch(0o644)
    data = a_data_folder(tmp_path / "data")
    (data / "weights" / "shared.pt").symlink_to(outside)
    Permissions().apply_to(data)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def test_an_unknown_group_is_refused_with_the_key_before_the_data_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[node\] group: no group is named 'nobody-has-this'; `groupadd"):
        Node(Settings(node=NodeTable(data=tmp_path / "data", group="nobody-has-this")))
    assert not (tmp_path / "data").exists()


def test_what_the_user_may_not_change_is_told_once_and_stops_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "chmod", refuse)
    with caplog.at_level(logging.WARNING):
        Permissions().apply_to(a_data_folder(tmp_path / "data"))
    (record,) = caplog.records
    assert "may not change" in record.getMessage()
