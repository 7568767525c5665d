"""The folders in which a site's program works: images in, an answer out, files of its own; and how much these may take.

They lie outside of the data folder, which no program reads. What a killed process left is removed when
it is killed, by the start of a node, and by the next run.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ainode.node.errors import ConfigError, HandlerError
from ainode.node.reading.held_folder import held_folder, remove_left, remove_tree

NOBODY: Final = 65534
"""user and group of a program where the node is root: of nobody's files, and of no process of the node"""
_BASE: Final = "ainode-programs"
_MOST_FILES: Final = 10_000
_MOST_DEPTH: Final = 100
_BLOCK_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folders of one run of a program."""

    folder: Path

    @property
    def neighbors(self) -> Path:
        """Return the folder of all workplaces of this user, of which a program reads its own alone."""
        return self.folder.parent

    @property
    def inputs(self) -> Path:
        """Return the folder with what the program reads."""
        return self.folder / "in"

    @property
    def answer(self) -> Path:
        """Return the folder that the program writes its answer to."""
        return self.folder / "out"

    @property
    def temporary(self) -> Path:
        """Return the folder for temporary files of the program."""
        return self.folder / "tmp"

    def input_bytes(self) -> int:
        """Return what the files take that the program reads, and some programs may change."""
        return sum(_disk_bytes(os.path.join(self.inputs, name)) for name in os.listdir(self.inputs))  # noqa: PTH118, PTH208

    def used_bytes(self) -> int:
        """Return what the program has written into folders of its own.

        Raises: HandlerError above so many files that nobody counts them, or where folders cannot be listed.
        """
        sizes = count = 0
        folders = [(str(self.answer), 0), (str(self.temporary), 0)]
        while folders:
            folder, depth = folders.pop()
            for entry in _entries(folder):
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, depth + 1))
                else:
                    sizes += _disk_bytes(entry.path)
            if count > _MOST_FILES:
                raise HandlerError(f"the program was ended: it wrote more than {_MOST_FILES} files")
            if depth > _MOST_DEPTH:
                raise HandlerError(f"the program was ended: it made more than {_MOST_DEPTH} folders in one another")
        return sizes


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    """Return what lies in a folder; nothing, if the folder has gone.

    Raises: HandlerError if this process may not list the folder: a program must not hide there what it writes.
    """
    try:
        return [*os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise HandlerError("the program was ended: it made a folder that the node cannot list") from error


def _disk_bytes(path: str) -> int:
    """Return what a file takes on the disk, 0 if the file has gone."""
    try:
        return os.lstat(path).st_blocks * _BLOCK_BYTES
    except OSError:
        return 0


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Yield new folders, and remove them afterwards.

    Raises: ConfigError if somebody else has the folder that holds them; OSError.
    """
    folder, holder = held_folder(_base())
    try:
        place = Workplace(folder)
        for part, mode in ((place.inputs, 0o755), (place.answer, 0o777), (place.temporary, 0o777)):
            part.mkdir()
            part.chmod(mode)  # a container may run as a user whom this machine does not know
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, 0)
        yield place
    finally:
        os.close(holder)
        remove_tree(folder)


def _base() -> Path:
    """Return the folder of all workplaces of this user, which others pass through and cannot list.

    Raises: ConfigError, OSError.
    """
    base = _place()
    base.mkdir(mode=0o711, exist_ok=True)
    if not _is_own(base):
        raise ConfigError(f"{base} belongs to somebody else; remove it, or set TMPDIR to a folder of the node's user")
    base.chmod(0o711)
    return base


def _place() -> Path:
    return Path(tempfile.gettempdir()) / f"{_BASE}-{os.geteuid()}"


def _is_own(base: Path) -> bool:
    """Return whether a path is a folder of this user.

    Raises: OSError.
    """
    status = base.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def remove_left_workplaces() -> None:
    """Remove the folders of runs whose process has ended: they hold images of a patient."""
    with suppress(OSError):
        if _is_own(_place()):
            remove_left(_place())
