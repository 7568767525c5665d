"""Files without a name that processes hold: they take the disk, and no folder lists them."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ainode.node.errors import HandlerError
from ainode.node.reading.sight import visible

_PROC: Final = Path("/proc")
_BLOCK_BYTES: Final = 512
_PATIENCE_S, _PAUSE_S = 1.0, 0.02
_REMOVED: Final = b" (deleted)"
# proc(5), state in `stat`: one that has ended holds nothing, and its open files are nobody's to list.
_ENDED: Final = (b"Z", b"X", b"")


def removed_bytes(processes: Iterable[int], folder: Path) -> int:
    """Return what removed files, which processes hold open or mapped, take on the disk; the maps of a folder count.

    Raises: HandlerError if this process may not see what they hold: a program must not hide there what it writes.
    """
    sizes: dict[tuple[int, int], int] = {}
    for process in processes:
        statuses = _files_of(process, folder)
        sizes |= {(file.st_dev, file.st_ino): file.st_blocks * _BLOCK_BYTES for file in statuses if not file.st_nlink}
    return sum(sizes.values())


def _files_of(process: int, folder: Path) -> list[os.stat_result]:
    """Return the files that a process holds, none if it has ended.

    Between its change of user and its program's first instruction, nobody sees what a process holds.

    Raises: HandlerError if this process may not see them.
    """
    gives_up_at = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return visible(lambda: [*_statuses([*_open_files(process), *_maps(process, folder)])])
        except (FileNotFoundError, ProcessLookupError):
            return []
        except PermissionError as error:
            if _has_ended(process):
                return []
            if time.monotonic() > gives_up_at:
                raise HandlerError("the program was ended: the node cannot see which removed files it holds") from error
        time.sleep(_PAUSE_S)


def _statuses(links: Iterable[Path]) -> Iterator[os.stat_result]:
    for link in links:
        with suppress(FileNotFoundError):  # the process has closed the file
            yield link.stat()


def _open_files(process: int) -> list[Path]:
    return [*(_PROC / str(process) / "fd").iterdir()]


def _maps(process: int, folder: Path) -> list[Path]:
    """Return the links to the removed files below a folder that a process maps (proc(5), map_files)."""
    own = os.fsencode(folder.resolve()) + b"/"
    maps = _PROC / str(process) / "map_files"
    lines = (_PROC / str(process) / "maps").read_bytes().splitlines()
    return [maps / _range(line) for line in lines if line.endswith(_REMOVED) and own in line]


def _range(line: bytes) -> str:
    """Return the addresses of a map as map_files writes them, without zeros in front."""
    return "-".join(f"{int(address, 16):x}" for address in line.split()[0].split(b"-"))


def _has_ended(process: int) -> bool:
    try:
        status = (_PROC / str(process) / "stat").read_bytes()
    except OSError:
        return True
    return status.rpartition(b")")[2].split()[0] in _ENDED
