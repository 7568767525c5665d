"""Takes a bundle in, from a folder or a ZIP archive: the few files that are read, copied within bounds.

Nothing else of a bundle is copied: no scripts, no logging.conf, no other weights.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

import torch
from torch import nn

from ainode.models.bundles import weights
from ainode.models.bundles.contents import (
    LOGGING,
    METADATA,
    WEIGHTS_FOLDER,
    Contents,
    configuration_name,
    refuse_code_in_logging,
    weights_name,
)
from ainode.models.bundles.description import Description, description
from ainode.models.bundles.pipeline import network, parts
from ainode.models.bundles.resolver import Resolver
from ainode.models.errors import BundleRefused

_MAX_ENTRIES: Final = 10_000
_MAX_TEXT_BYTES: Final = 1024**2
# The largest public bundles have 1.2 GB of weights.
_MAX_WEIGHTS_BYTES: Final = 4 * 1024**3
_MAX_RATIO: Final = 200
_SMALL_BYTES: Final = 64 * 1024**2
_ENCRYPTED: Final = 0x1
_BLOCK_BYTES: Final = 1024**2
_DAMAGED: Final = (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error)
_LICENCES: Final = (PurePosixPath("LICENSE"), PurePosixPath("docs/data_license.txt"))


@dataclass(frozen=True, slots=True)
class Imported:
    """A bundle as it was taken in."""

    weights: PurePosixPath
    companions: tuple[PurePosixPath, ...]
    """the other files that an answer hangs on: configuration and metadata"""
    left_out: tuple[PurePosixPath, ...]
    """code, pickles and other weights of the bundle: neither read nor copied"""
    description: Description


def imported(source: Path, target: Path, other_weights: Path | None = None) -> Imported:
    """Copy what is read of a bundle into the empty folder `target`, review it, and return what it says of itself.

    `other_weights` is a file that takes the place of the bundle's own. Nothing of the bundle runs: its network is
    described without memory for its weights, and their names and shapes are held against it.
    Raises: BundleRefused; CheckpointRefused if the weights may not be opened, or are those of another network.
    """
    with _opened(source) as (names, content):
        configuration = configuration_name(names)
        if LOGGING in names:
            with content(LOGGING) as log_settings:
                refuse_code_in_logging(log_settings.read(_MAX_TEXT_BYTES).decode("utf-8", "replace"))
        own_weights = None if other_weights else weights_name(names)
        texts = [name for name in (configuration, METADATA, *_LICENCES) if name in names]
        for name in texts:
            _copy(content(name), target / name, _MAX_TEXT_BYTES)
        if own_weights:
            _copy(content(own_weights), target / own_weights, _MAX_WEIGHTS_BYTES)
        left_out = tuple(name for name in names if name != own_weights and _is_code(name))
    placed = own_weights or _placed(other_weights, target)
    companions = tuple(name for name in texts if name not in _LICENCES)
    chosen = own_weights or PurePosixPath(other_weights.name if other_weights else "")
    return Imported(placed, companions, left_out, examined(target, chosen.stem))


def _placed(other_weights: Path | None, target: Path) -> PurePosixPath:
    """Return where a file that takes the place of the bundle's weights lies, copied."""
    if other_weights is None:
        raise ValueError("neither weights of the bundle nor others")
    weights.refuse_unfit(other_weights)
    name = WEIGHTS_FOLDER / f"model{other_weights.suffix}"
    _copy(other_weights.open("rb"), target / name, _MAX_WEIGHTS_BYTES)
    return name


def _is_code(name: PurePosixPath) -> bool:
    """Return whether a file of a bundle is code, or weights: what somebody might miss."""
    return name == LOGGING or name.suffix in {".py", *weights.SUFFIXES, *weights.PICKLES}


def examined(folder: Path, weights_stem: str) -> Description:
    """Return what a bundle says of itself, after all of it but the weights was built, without memory for a network.

    `weights_stem` is the name, without its end, that the file of weights had before.
    Raises: BundleRefused; CheckpointRefused.
    """
    contents = Contents.of(folder)
    resolver = Resolver(contents.tree, "cpu")
    built = parts(resolver)
    for path in _checkpoints(resolver):
        if PurePosixPath(path).stem != weights_stem:
            raise BundleRefused(
                f"the bundle loads {path}, the weights are {weights_stem}: others may be for another spacing; give "
                f"those made of {path}, named {PurePosixPath(path).stem}"
            )
    if contents.weights.suffix == ".safetensors" and (outline := _outline(resolver)):
        weights.refuse_others(outline, contents.weights)
    return description(contents.tree, contents.metadata, built)


def _checkpoints(resolver: Resolver) -> Iterator[str]:
    """Yield the files of weights that MONAI's runner would load.

    Raises: BundleRefused.
    """
    content = resolver.tree.content
    handlers = content.get("handlers")
    places = [f"handlers#{number}" for number in range(len(handlers) if isinstance(handlers, list) else 0)]
    for place in ("checkpointloader", *places):
        if resolver.tree.holds(f"{place}#load_path"):
            path = resolver.part(f"{place}#load_path")
            if isinstance(path, str):
                yield path


def _outline(resolver: Resolver) -> nn.Module | None:
    """Return the network without memory for its weights; None for one that MONAI cannot build so (SwinUNETR).

    Raises: BundleRefused.
    """
    try:
        with torch.device("meta"):
            return network(resolver)
    except BundleRefused as error:
        if "on meta tensors" in str(error):  # its constructor computes with tensors; the reader holds it to its weights
            return None
        raise


Content = Callable[[PurePosixPath], IO[bytes]]


@contextmanager
def _opened(source: Path) -> Iterator[tuple[list[PurePosixPath], Content]]:
    """Give the names of a bundle's files and what opens one.

    Raises: BundleRefused if a name leads elsewhere, a file is a link, or an archive holds more than is unpacked.
    """
    if source.is_dir():
        names = list(_folder_names(source))
        yield names, lambda name: _no_link(source / name)
        return
    try:
        with zipfile.ZipFile(source) as archive:
            entries = _entries(archive, source.stat().st_size)
            yield list(entries), lambda name: archive.open(entries[name])
    except OSError as error:
        raise BundleRefused(f"{source.name}: cannot be read: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise BundleRefused(f"{source.name}: no folder, and no ZIP archive that is whole") from error


def _folder_names(folder: Path) -> Iterator[PurePosixPath]:
    """Yield the files of a bundle's folder.

    Raises: BundleRefused if one of them is a link, or there are too many.
    """
    count = 0
    for top, folders, files in os.walk(folder):
        count += len(folders) + len(files)
        if count > _MAX_ENTRIES:
            raise BundleRefused(f"the folder has more than {_MAX_ENTRIES} files; give the bundle's own folder")
        for name in (*folders, *files):
            path = Path(top, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise BundleRefused(f"{path.relative_to(folder).as_posix()}: a link, or no file; a bundle holds files")
        yield from (PurePosixPath(Path(top, name).relative_to(folder).as_posix()) for name in files)


def _no_link(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _entries(archive: zipfile.ZipFile, packed_bytes: int) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the files of an archive by their names below the bundle's own folder.

    Raises: BundleRefused.
    """
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > _MAX_ENTRIES:
        raise BundleRefused(f"the archive has {len(entries)} files; {_MAX_ENTRIES} are read")
    size_bytes = sum(entry.file_size for entry in entries)
    if size_bytes > max(_SMALL_BYTES, packed_bytes * _MAX_RATIO):
        raise BundleRefused(f"the archive unpacks to {size_bytes} bytes, more than {_MAX_RATIO} times its size")
    named: dict[PurePosixPath, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for entry in entries:
        name = _safe_name(entry)
        if str(name).casefold() in seen:
            raise BundleRefused(f"the archive holds {name} twice")
        seen.add(str(name).casefold())
        named[name] = entry
    tops = [name.parent.parent for name in named if name.parts[-2:] == METADATA.parts]
    if len(tops) != 1 or len(tops[0].parts) > 1:
        raise BundleRefused(f"the archive holds {METADATA} {len(tops)} times; a bundle has it once, at its top")
    return {name.relative_to(tops[0]): entry for name, entry in named.items() if name.is_relative_to(tops[0])}


def _safe_name(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Return the name of an archive's file.

    Raises: BundleRefused if it leads out of the archive's folder, is a link, or is encrypted.
    """
    name = PurePosixPath(entry.filename)
    text = ascii(entry.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in entry.filename or ":" in name.parts[0]:
        raise BundleRefused(f"the archive's {text} leads out of its folder")
    if stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG}:
        raise BundleRefused(f"the archive's {text} is a link, or no file")
    if entry.flag_bits & _ENCRYPTED:
        raise BundleRefused(f"the archive's {text} has a password; unpack the archive")
    return name


def _copy(source: IO[bytes], target: Path, most_bytes: int) -> None:
    """Copy a file to where none is, and no more of it than `most_bytes`; close it.

    Raises: BundleRefused.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("xb") as file:
        left = most_bytes
        while block := source.read(_BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                raise BundleRefused(f"{target.name}: more than {most_bytes} bytes")
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
