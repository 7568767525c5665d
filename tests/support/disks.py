"""Small disks of their own for tests."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.waiting import until

SMALL_DISK_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BLOCK_BYTES = 4096


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a file system of 1 MiB on a folder; skip, by name, where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mount of a tmpfs is not allowed")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted file system, and the files with which another program fills it."""

    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def load(self, size_bytes: int) -> None:
        """Take some of the room away."""
        self._ballast.mkdir(exist_ok=True)
        (self._ballast / "load").write_bytes(bytes(size_bytes))

    def fill_bytes(self) -> None:
        """Write until not one more block fits."""
        self._ballast.mkdir(exist_ok=True)
        with (self._ballast / "bytes").open("ab", buffering=0) as file:
            for size in (1 << 20, _BLOCK_BYTES, 1):
                with _until_full():
                    while True:
                        file.write(bytes(size))

    def fill_names(self) -> None:
        """Make files until there is no name left; the bytes of the disk stay free."""
        self._ballast.mkdir(exist_ok=True)
        with _until_full():
            number = 0
            while True:
                (self._ballast / f"name {number}").touch()
                number += 1

    def make_room(self) -> None:
        """Remove what the other program wrote."""
        shutil.rmtree(self._ballast, ignore_errors=True)


@contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise


@contextmanager
def fillable_disk(folder: Path, *, size_mib: int = 48, names: int = 1000) -> Iterator[SmallDisk]:
    """Mount an empty ext4 in a file, else a tmpfs, that holds so many bytes and about so many files; else skip."""
    folder.mkdir(parents=True)
    image = folder.with_name(f"{folder.name}.ext4")
    if not (_mounted_ext4(folder, image, size_mib, names) or _mounted_tmpfs(folder, size_mib, names)):
        pytest.skip("neither a loop device nor a tmpfs can be mounted here (root can)")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", folder], check=True, capture_output=True)
        image.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class LoopDisk(SmallDisk):
    """An ext4 in a file: what the file holds is what a power cut leaves."""

    @property
    def image(self) -> Path:
        """Return the file of the disk."""
        return self.folder.with_name(f"{self.folder.name}.ext4")

    def cut_power(self, end: Callable[[], None]) -> None:
        """Go on with what the disk holds now; `end` ends whoever uses the disk, and comes too late to write.

        Nobody may write meanwhile. What a program wrote and did not flush is in the cache of the file system, not in
        the file of the disk, and is lost.
        """
        rest = self.image.with_suffix(".rest")
        subprocess.run(["cp", "--sparse=always", self.image, rest], check=True)
        end()
        subprocess.run(["umount", self.folder], check=True)
        self._wait_for_detachment()
        rest.replace(self.image)
        subprocess.run(["mount", "-o", "loop", self.image, self.folder], check=True)

    def refuse_writes(self) -> None:
        """Make the disk read-only at once, as Linux does after an error of a disk; what was not flushed is lost."""
        subprocess.run(["mount", "-o", "remount,abort", self.folder], check=True)

    def mount_anew(self) -> None:
        """Mount the disk, which nobody may use, so that writes are taken again."""
        subprocess.run(["umount", self.folder], check=True)
        self._wait_for_detachment()
        subprocess.run(["mount", "-o", "loop", self.image, self.folder], check=True)

    def _wait_for_detachment(self) -> None:
        """Wait until no mount of the disk is left; a process with mounts of its own may have inherited a mount."""
        list_mounts = ["losetup", "-j", self.image]
        until(lambda: not subprocess.run(list_mounts, capture_output=True, check=True).stdout)


@contextmanager
def loop_disk(folder: Path, *, size_mib: int, names: int) -> Iterator[LoopDisk]:
    """Mount an empty ext4 in a file; skip, by name, where that is not allowed."""
    folder.mkdir(parents=True)
    disk = LoopDisk(folder)
    if not _mounted_ext4(folder, disk.image, size_mib, names):
        pytest.skip("no loop device can be mounted here (root can)")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)
        disk.image.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FailingDisk:
    """A mounted file system whose sectors a test can take away."""

    folder: Path
    image: Path

    def fail(self, *files: Path) -> None:
        """Make files of the disk unreadable, as bad sectors do; nothing of the disk can be read from then on."""
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.truncate(self.image, _BLOCK_BYTES)


@contextmanager
def failing_disk(folder: Path) -> Iterator[FailingDisk]:
    """Mount an empty ext4 in a file; skip where that is not allowed."""
    folder.mkdir(parents=True)
    image = folder.with_name(f"{folder.name}.ext4")
    if not _mounted_ext4(folder, image, size_mib=16, names=1000):
        pytest.skip("no loop device can be mounted here (root can)")
    try:
        yield FailingDisk(folder, image)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)
        image.unlink(missing_ok=True)


def _mounted_ext4(folder: Path, image: Path, size_mib: int, names: int) -> bool:
    with image.open("wb") as file:
        file.truncate(size_mib << 20)
    # no blocks reserved for root, who runs the tests
    make: list[str | Path] = ["mkfs.ext4", "-q", "-m", "0", "-N", str(names), image]
    return _succeeds(make) and _succeeds(["mount", "-o", "loop", image, folder])


def _mounted_tmpfs(folder: Path, size_mib: int, names: int) -> bool:
    options = f"size={size_mib}m,nr_inodes={names}"
    return _succeeds(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder])


def _succeeds(command: list[str | Path]) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
