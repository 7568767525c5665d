"""The audit trail of a node that runs."""

from pathlib import Path

import pytest
from support.node import configured, running
from support.syslog import events
from typer.testing import CliRunner

from ainode.node.commands.cli import app


def test_a_node_records_its_start_and_its_stop_and_a_changed_byte_is_found_by_the_command(tmp_path: Path) -> None:
    node = configured(tmp_path)
    with running(node):
        pass
    trail = tmp_path / "data" / "audit"
    assert [event.code for event in events(trail)] == ["110100 110120", "110100 110121"]
    (path,) = trail.glob("audit-*.log")
    assert path.stat().st_mode & 0o777 == 0o600
    arguments = ["audit", "verify", "--config", str(node.config)]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (0, f"{trail}: every record is as it was written\n")
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert (
        result.stdout == f"{path.name}: line 2, record 2: was changed\nhead: record 2 is another one than was written\n"
    )


def test_no_trail_is_a_status_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert CliRunner().invoke(app, ["audit", "verify", str(tmp_path / "absent")]).exit_code == 1
    assert capsys.readouterr().out == ""
