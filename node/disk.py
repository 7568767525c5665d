"""Disk operations beyond reading and writing: room on the disk, files that are whole after a crash, digests."""

import errno
import hashlib
import os
from pathlib import Path

from ainode.node.errors import OutOfResources


def refuse_full(folder: Path, min_free_bytes: int) -> None:
    """Return if the disk of a folder is above its watermark.

    Raises: OutOfResources, OSError.
    """
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < min_free_bytes:
        raise OutOfResources("disk has less free space than node.min_free_bytes; send again later")


def is_full(error: Exception) -> bool:
    """Return whether an error says that the disk of the node has no room, or the user no quota."""
    return isinstance(error, OutOfResources) or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that it is either absent or whole after a crash.

    Raises: OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a crash.

    Raises: OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
