import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ainode.node.errors import ConfigError
from ainode.node.keeping.folder_lock import FolderLock

HOLD = """
import sys
from pathlib import Path
from ainode.node.keeping.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_second_node_on_a_data_folder_is_refused_until_a_kill_ends_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    ) as first:
        assert first.stdout
        assert first.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match=f"another node runs on {tmp_path}"):
            FolderLock(tmp_path)
        first.send_signal(signal.SIGKILL)
        first.wait()
        FolderLock(tmp_path).release()


def test_a_lock_that_is_released_or_forgotten_is_free(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(ConfigError):
        FolderLock(tmp_path)
    lock.release()
    lock = FolderLock(tmp_path)
    del lock
    FolderLock(tmp_path).release()


def test_a_folder_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        FolderLock(tmp_path / "absent")
