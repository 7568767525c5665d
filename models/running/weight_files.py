"""What a file of weights or of a network is, by its outside: safetensors' header, TorchScript's archive."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from ainode.models.errors import CheckpointRefused

_LENGTH = struct.Struct("<Q")
_MOST_HEADER_BYTES = 100_000_000
# What grows more on unpacking was made to.
_MOST_GROWTH, _LEAST_BYTES = 20, 64 * 2**20


def refuse_growth(archive: zipfile.ZipFile, path: Path) -> None:
    """Return if an archive grows on unpacking as weights do: they are stored as they are, or hardly smaller.

    Nothing of an entry is read beyond the size that the archive says of it.
    Raises: CheckpointRefused.
    """
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(_LEAST_BYTES, _MOST_GROWTH * path.stat().st_size):
        raise CheckpointRefused(f"{path.name}: grows to {unpacked / 2**20:,.0f} MiB on unpacking; no weights do")


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight in a safetensors file by its header alone.

    Raises: CheckpointRefused if the file is no safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            header: dict[str, Any] = json.loads(file.read(min(length, _MOST_HEADER_BYTES)))
        return {name: tuple(map(int, entry["shape"])) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, AttributeError, KeyError, RecursionError, TypeError, ValueError, struct.error) as error:
        raise CheckpointRefused(f"{path.name}: not a safetensors file, or cut short") from error


def is_script(path: Path) -> bool:
    """Return whether a file has the layout of TorchScript: a ZIP archive with code and constants."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, NotImplementedError, OSError):
        return False
    return "constants.pkl" in names and any(name.startswith("code/") for name in names)
