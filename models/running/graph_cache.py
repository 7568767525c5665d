"""Converted graphs on the disk: a graph is used if its files are the bytes that were written, else not at all."""

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import openvino as ov

log = logging.getLogger(__name__)
GRAPH: Final = "graph.xml"
_DIGESTS: Final = "sha256.txt"


def cached_graph(folder: Path) -> Any | None:  # noqa: ANN401  # openvino has no stubs
    """Return the graph of a folder, None without the folder; a damaged folder is removed."""
    if not os.path.lexists(folder):
        return None
    try:
        _refuse_damaged(folder)
        return ov.Core().read_model(folder / GRAPH)
    # RuntimeError is OpenVINO's, for a file that OpenVINO cannot read.
    except (OSError, RuntimeError, ValueError):
        message = "the converted network in %s is damaged or of an earlier version, and is converted anew"
        log.warning(message, folder.name)
        shutil.rmtree(folder, ignore_errors=True)
        return None


def keep_graph(graph: Any, folder: Path, origin: str) -> None:  # noqa: ANN401  # openvino has no stubs
    """Write a graph into a new folder, which appears whole or not at all; where that fails, a log line says why.

    `origin` names what the graph was converted from.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _part_folder(folder.parent) as part:
            ov.save_model(graph, part / GRAPH, compress_to_fp16=False)
            (part / "made_from.txt").write_text(f"{origin}\n", "utf-8")
            (part / _DIGESTS).write_text(_digests(part), "utf-8")
            for path in (*part.iterdir(), part):
                _sync(path)
            part.replace(folder)
        _sync(folder.parent)
    # RuntimeError is OpenVINO's, for a full disk.
    except (OSError, RuntimeError) as error:
        if not (folder / _DIGESTS).exists():  # the folder exists if another process was first
            log.warning("the converted network is not kept, and converted again at the next start: %s", error)


def _refuse_damaged(folder: Path) -> None:
    """Refuse a folder whose files are not the bytes that were written.

    Raises: ValueError, OSError.
    """
    if (folder / _DIGESTS).read_text("utf-8") != _digests(folder):
        raise ValueError("its files are not the bytes that were written")


def _digests(folder: Path) -> str:
    """Return a line for each other file of a folder: sha256 and name, as the program sha256sum prints them.

    Raises: OSError.
    """
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name != _DIGESTS:
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines)


@contextmanager
def _part_folder(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder, locked so that a program that removes the parts of killed processes spares it."""
    with TemporaryDirectory(dir=parent, suffix=".part", ignore_cleanup_errors=True) as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
