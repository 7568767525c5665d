"""A process that reads with a model of others, confined: no network, no process of its own, no file of others changed.

Three means of Linux hold this, and none needs an administrator: Landlock for files and signals, a filter of system
calls, limits of resources. The node measures the memory as well, and ends the process at its limit (`reader.py`).
"""

import ctypes
import os
import resource
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ainode.node.errors import ConfigError
from ainode.node.reading import described, landlock, registry, system_calls
from ainode.node.reading.held_folder import held_folder

if TYPE_CHECKING:  # a reader process starts 0.1 s earlier without the settings
    from ainode.node.settings import ReaderTable

# capset(2): version 3 of the header.
_CAPSET_VERSION: Final = 0x20080522
_FILE_BYTES: Final = 4 << 30
_OPEN_FILES: Final = 1024
# Beside what a model takes: stacks of threads are reserved whole, 8 MiB each, and libraries reserve arenas.
_RESERVED_BYTES: Final = 4 << 30
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "nvidia*", "nvidia-caps/*", "dri/*", "kfd")
_TEMPORARY: Final = "tmp-"
# Of the data folder: neither the catalog, nor a lock, a key or what a node keeps of other patients' answers.
_READ_FOLDERS: Final = ("spool", "priors", "weights", "models")
_LISTED: Final = "; nor "


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds a confined process."""

    memory_bytes: int
    """of the process and what it starts together, as the node measures it"""
    allows_unconfined: bool = False
    """whether a process starts where the system cannot confine it"""


def bounds_of(handler: str, limits: "ReaderTable", models: Path | None) -> Bounds | None:
    """Return what holds the process of a handler; None of a handler that is Python code of the installation.

    A model that `model.toml` describes below `models` is confined, and what `[reader] confined_handlers` names. A
    program is a process of its own, which is confined, and its reader starts that process.
    """
    is_code = "." in handler or handler in registry.names() or described.is_program(handler, models)
    if is_code and handler not in limits.confined_handlers:
        return None
    return Bounds(limits.memory_limit_bytes, limits.allow_unconfined)


def state_of(handlers: Iterable[str], limits: "ReaderTable", models: Path | None) -> tuple[bool, str] | None:
    """Return whether this system confines the handlers that need it, and what of it is to be said; None without any."""
    if not any(bounds_of(handler, limits, models) for handler in handlers):
        return None
    words = missing()
    if not words:
        return True, "models of others have no network, start no process and write to a folder of their own alone"
    consequence = "they run all the same" if limits.allow_unconfined else "they read nothing"
    return False, f"models of others: this system does not confine {_LISTED.join(words)}; {consequence}"


def missing() -> tuple[str, ...]:
    """Return what this system cannot keep from a process, in words; empty where it confines."""
    words = []
    if not system_calls.is_available():
        words.append("its network and new processes (no filter of system calls: seccomp)")
    if not landlock.version():
        words.append("files that it may not change (no Landlock: Linux 5.13 or newer with lsm=landlock)")
    if not landlock.guards_signals():
        words.append("signals to other processes (no Landlock of version 6: Linux 6.12 or newer)")
    return tuple(words)


def refuse_unless_confinable(*, allows_unconfined: bool) -> None:
    """Return if this system confines a process, or the operator runs such models without that.

    Raises: ConfigError that says what is not confined.
    """
    words = missing()
    if words and not allows_unconfined:
        raise ConfigError(
            f"this system does not confine {_LISTED.join(words)}; a model of others runs on such a system only with "
            "[reader] allow_unconfined = true"
        )


def confine(folder: Path, bounds: Bounds, data: Path | None = None) -> Path:
    """Confine this process for good, and return the only folder that it may write to: `folder`, made where absent.

    Of the data folder of a node, it reads images, weights and models: who may read a file may lock it, too.
    Temporary files go to a folder in it, which the next process removes.

    Raises: ConfigError if the system cannot confine, and that is not allowed, or this process has threads already;
    OSError.
    """
    refuse_unless_confinable(allows_unconfined=bounds.allows_unconfined)
    # Landlock and the filter hold the thread that asks for them, and what comes from that thread.
    if len([*Path("/proc/self/task").iterdir()]) > 1:
        raise ConfigError("the reader process has threads before it is confined: a module of the start begins them")
    _take_temporary_folder(folder)
    limit_resources(bounds.memory_bytes)
    drop_capabilities()
    system_calls.gain_no_privileges()
    if landlock.version():
        landlock.restrict((folder, *devices()), None if data is None else [*_readable(data)])
    if system_calls.is_available():
        system_calls.refuse(processes=True)
    return folder


def _readable(data: Path) -> Iterator[Path]:
    """Yield what a confined process reads: all outside of the data folder, and in it what readings need."""
    yield from landlock.outside(data)
    for name in _READ_FOLDERS:
        (data / name).mkdir(mode=0o700, parents=True, exist_ok=True)  # what is made later could not be read
        yield data / name
    # An installation may lie in the data folder, too.
    yield from map(Path, (*filter(None, sys.path), sys.prefix, sys.base_prefix))


def devices() -> Iterator[Path]:
    """Yield the device files that a process may write to."""
    for pattern in _DEVICES:
        yield from Path("/dev").glob(pattern)


def limit_resources(memory_bytes: int, file_bytes: int = _FILE_BYTES) -> None:
    """Limit memory, size of files, open files and core files of this process."""
    limits = {
        resource.RLIMIT_DATA: memory_bytes + _RESERVED_BYTES,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        _, most = resource.getrlimit(kind)
        value = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (value, value))


def _take_temporary_folder(folder: Path) -> None:
    """Make a temporary folder of this process, and remove those of processes that have ended."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary, _ = held_folder(folder, _TEMPORARY)  # until this process ends
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)


def drop_capabilities() -> None:
    """Give up what root may do beyond its files, in this thread; of another user there is nothing to give up."""
    ctypes.CDLL(None).capset(struct.pack("=Ii", _CAPSET_VERSION, 0), bytes(24))
