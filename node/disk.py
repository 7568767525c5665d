"""Disk operations beyond reading and writing: room on the disk, files that are whole after a crash, digests."""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ainode.node.errors import OutOfResources

_PART: Final = ".part"
"""ends the name of a file or folder that is being written"""
MIN_FREE_FILES: Final = 1_000
"""one study of 1,000 images takes 1,000 files"""
_PART_MODE: Final = stat.S_ISGID | 0o755


def refuse_full(folder: Path, min_free_bytes: int) -> None:
    """Return if the disk of a folder is above its watermark, in bytes and in files; a watermark of 0 is none.

    Raises: OutOfResources, OSError.
    """
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < min_free_bytes:
        raise OutOfResources("disk has less free space than node.min_free_bytes; send again later")
    # A file system without a fixed number of inodes states 0 of 0.
    if min_free_bytes and disk.f_files and disk.f_favail < MIN_FREE_FILES:
        raise OutOfResources(f"disk has room for {disk.f_favail} more files only; send again later")


def is_full(error: Exception) -> bool:
    """Return whether an error says that the disk of the node has no room, or the user no quota."""
    return isinstance(error, OutOfResources) or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}


def write_durably(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file so that it is absent or whole after a crash, with its name and the names of its new folders.

    Two writers of one path each have a part of their own: the last one wins. A write that fails leaves no part.
    `mode` are the permissions of a new file, less the umask.
    Raises: OSError.
    """
    make_folder(path.parent)
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_PART}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def place_durably(source: Path, target: Path) -> None:
    """Rename a file, or a folder of files, so that the target is absent or whole after a crash.

    Raises: OSError.
    """
    make_folder(target.parent)
    for path in (*source.rglob("*"), source) if source.is_dir() else (source,):
        _sync(path)
    source.replace(target)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents so that the name of each new folder survives a crash.

    Raises: OSError.
    """
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new_folders:
        sync_folder(path.parent)


@contextmanager
def part_folder(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder, removed at the end; `remove_parts` removes the folder of a killed process.

    The folder has the permissions of its parent, because `place_durably` may rename it to stay.

    Raises: OSError.
    """
    make_folder(parent)
    with TemporaryDirectory(dir=parent, suffix=_PART, ignore_cleanup_errors=True) as name, _lock(Path(name)):
        Path(name).chmod(parent.stat().st_mode & _PART_MODE)
        yield Path(name)


def remove_parts(root: Path, patterns: Iterable[str]) -> None:
    """Remove the parts that killed writers left; the part of a live writer is locked and stays.

    `patterns` are relative to `root`: `documents/*/*` finds the parts in each folder of `documents`.
    """
    for part in [part for pattern in patterns for part in root.glob(f"{pattern}{_PART}")]:
        with suppress(FileNotFoundError, BlockingIOError), _lock(part):
            shutil.rmtree(part) if part.is_dir() else part.unlink()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder; the lock ends with the process.

    Raises: BlockingIOError while another process holds the lock; OSError.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a crash.

    Raises: OSError.
    """
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
