"""A temporary folder of one process: its lock ends with the process, and the next process removes what is left."""

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path


def held_folder(parent: Path, prefix: str = "") -> tuple[Path, int]:
    """Make a folder that nobody removes while the descriptor is open; remove the folders that no process holds.

    Raises: OSError.
    """
    remove_left(parent, prefix)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):  # a process that cleans up may take a folder that is not locked yet
            holder = os.open(folder, os.O_RDONLY)
            fcntl.flock(holder, fcntl.LOCK_EX)
            if folder.exists():
                return folder, holder
            os.close(holder)


def remove_left(parent: Path, prefix: str = "") -> None:
    """Remove the folders that no process holds."""
    for left in parent.glob(f"{prefix}*"):
        _remove_if_left(left)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder that no process holds."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(folder)
    except OSError:
        return
    finally:
        os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder that no process uses, however deep folders lie in it, and whatever their modes are.

    `shutil.rmtree` calls itself for each folder in a folder: a stranger's thousand would be there for ever.
    """
    folders = [folder]
    with suppress(OSError):
        while folders:
            emptied = folders.pop()
            for entry in [*os.scandir(emptied)]:
                if entry.is_dir(follow_symlinks=False):
                    Path(entry.path).chmod(0o700)
                    folders.append(Path(entry.path).rename(tempfile.mkdtemp(dir=folder)))  # no name grows too long
                else:
                    Path(entry.path).unlink()
            if emptied != folder:
                emptied.rmdir()
        folder.rmdir()
