"""A data folder belongs to one node at a time."""

import fcntl
import os
import weakref
from pathlib import Path
from typing import Final

from ainode.node.errors import ConfigError

LOCK_NAME: Final = "node.lock"


class FolderLock:
    """The right to run a node on a data folder, until `release` or the end of the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Take the right.

        Raises: ConfigError if another node has it, or the folder cannot be locked.
        """
        path = folder / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be opened ({error.strerror}); correct [node] data") from error
        self.release = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except BlockingIOError as error:
            self.release()
            raise ConfigError(
                f"another node runs on {folder}; stop the other node, or give this node a [node] data of its own"
            ) from error
        except OSError as error:
            self.release()
            raise ConfigError(
                f"{path}: cannot be locked ({error.strerror}); put [node] data on a disk that knows locks"
            ) from error


def owner(folder: Path) -> int | None:
    """Return the process of the node that runs on a data folder, None if none does, or nobody can tell."""
    try:
        with (folder / LOCK_NAME).open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read())
    except (OSError, ValueError):
        return None
    return None
