"""The files of a ZIP archive, unpacked within bounds and under names of our own."""

import lzma
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final

from ainode.node.domain import counted
from ainode.node.errors import BrokenSeries
from ainode.node.offline.kinds import kind_suffix

# Deflate makes at most a thousandth of its input; images of much air come to a tenth.
_MAX_RATIO: Final = 200
_SMALL_BYTES: Final = 64 * 1024**2
_ENCRYPTED: Final = 0x1
_BLOCK_BYTES: Final = 1024**2
# What the methods of compression raise on damaged bytes.
_DAMAGED: Final = (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an archive may unpack to."""

    # A whole-body CT has 1 GB, a study of several phases ten times as much.
    max_bytes: int = 20 * 1024**3
    max_files: int = 100_000


TRUSTED: Final = Bounds()
"""of an archive that a person of this machine names"""


def unpack(path: Path, folder: Path, bounds: Bounds = Bounds()) -> Path:
    """Unpack a ZIP archive into a folder, and return the folder. No name of the archive becomes a path.

    The end of a name that promises a kind of file is kept.
    Raises: BrokenSeries if the archive is damaged, encrypted, or larger than the bounds; nothing of it is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _refuse_unfit(entries, path.stat().st_size, bounds)
            for number, entry in enumerate(entries):
                with (folder / f"{number:06d}{kind_suffix(entry.filename)}").open("wb") as target:
                    _unpack_entry(archive, entry, target)
    except (*_DAMAGED, BrokenSeries) as error:
        shutil.rmtree(folder)
        if isinstance(error, BrokenSeries):
            raise
        raise BrokenSeries(f"the ZIP archive is damaged ({type(error).__name__}); make it again") from error
    return folder


def remaining(bounds: Bounds, folder: Path) -> Bounds:
    """Return what further archives may unpack to, after an archive that was unpacked into a folder."""
    if bounds is TRUSTED:
        return bounds
    sizes = [path.stat().st_size for path in folder.iterdir()]
    return Bounds(bounds.max_bytes - sum(sizes), bounds.max_files - len(sizes))


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: BinaryIO) -> None:
    """Unpack an entry; zipfile ends the entry at the size that its header claims.

    Raises: BrokenSeries if bzip2 finds the entry damaged; an error of _DAMAGED; OSError if the disk is full.
    """
    with archive.open(entry) as source:
        while block := _block(source):
            target.write(block)


def _block(source: IO[bytes]) -> bytes:
    try:
        return source.read(_BLOCK_BYTES)
    except OSError as error:
        raise BrokenSeries("the ZIP archive is damaged; make it again") from error


def _refuse_unfit(entries: list[zipfile.ZipInfo], packed_bytes: int, bounds: Bounds) -> None:
    """Refuse an archive that is encrypted, or whose entries claim more than the bounds.

    Raises: BrokenSeries.
    """
    if not entries:
        raise BrokenSeries("the ZIP archive holds no file; make it again")
    size_bytes = sum(entry.file_size for entry in entries)
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise BrokenSeries("the ZIP archive has a password; unpack it")
    if len(entries) > bounds.max_files or size_bytes > bounds.max_bytes:
        raise BrokenSeries(
            f"the ZIP archive has {counted(len(entries), 'file')} of {size_bytes} bytes ({bounds.max_files} files of "
            f"{bounds.max_bytes} bytes are read); unpack it, and give a folder"
        )
    if size_bytes > max(_SMALL_BYTES, packed_bytes * _MAX_RATIO):
        raise BrokenSeries(
            f"the ZIP archive unpacks to more than {_MAX_RATIO} times its size; unpack it, if you trust it"
        )
