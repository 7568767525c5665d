"""Landlock, Linux's own limit of a process to folders, by its system calls (landlock(7)); no other user is needed."""

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

# asm-generic/unistd.h; the same on x86-64 and arm64.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1
# linux/landlock.h: rights on files and folders.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << number for number in range(4))
_OF_REMOVAL_AND_MAKING: Final = sum(1 << number for number in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_READING: Final = _EXECUTE | _READ_FILE | _READ_DIR
_OF_A_FILE: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
# The version of Landlock that brought a right.
_REFER_SINCE, _TRUNCATE_SINCE, _SCOPES_SINCE = 2, 3, 6
# Signals and abstract sockets of processes outside.
_SCOPES: Final = 3


def version() -> int:
    """Return the version of Landlock in this kernel, 0 without Landlock."""
    answer = int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION))
    return max(answer, 0)


def guards_signals() -> bool:
    """Return whether Landlock of this kernel keeps signals from processes outside."""
    return version() >= _SCOPES_SINCE


def restrict(writable: Iterable[Path], readable: Iterable[Path] | None = None) -> None:
    """Let this thread, and what it starts, write below some paths alone; with `readable`, read below these and those.

    A path that is absent is left out.

    Raises: OSError if Landlock refuses.
    """
    writing = _writing()
    handled = writing | (0 if readable is None else _READING)
    scopes = _SCOPES if guards_signals() else 0
    attributes = struct.pack("=QQQ", handled, 0, scopes)[: 24 if scopes else 8]
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for path in writable:
            _allow(ruleset, path, handled)
        for path in readable or ():
            _allow(ruleset, path, _READING)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def outside(*hidden: Path) -> Iterator[Path]:
    """Yield what together holds every file of the machine, but for those in some folders."""
    folders = [folder.resolve() for folder in hidden]
    for ancestor in dict.fromkeys(parent for folder in folders for parent in folder.parents):
        for entry in () if _lies_in(ancestor, folders) else _entries(ancestor):
            real = entry.resolve()
            if not _lies_in(real, folders) and not any(folder.is_relative_to(real) for folder in folders):
                yield entry


def _lies_in(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _entries(folder: Path) -> Iterable[Path]:
    try:
        return [*folder.iterdir()]
    except OSError:
        return ()


def _writing() -> int:
    """Return the rights of writing that this kernel's Landlock knows."""
    rights = _WRITE_FILE | _OF_REMOVAL_AND_MAKING
    rights |= _REFER if version() >= _REFER_SINCE else 0
    return rights | (_TRUNCATE if version() >= _TRUNCATE_SINCE else 0)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    """Allow rights below a path; of these a file takes what a file can have."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            granted = rights if path.is_dir() else rights & _OF_A_FILE
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", granted, place), 0)
        except OSError as error:
            if error.errno != errno.EBADFD:
                raise
            # A link to an open pipe, as /dev/stdout may be: Landlock restricts no pipe, and takes no rule for one.
        finally:
            os.close(place)


def _call(number: int, *arguments: object) -> int:
    """Return the answer of a system call.

    Raises: OSError.
    """
    library = ctypes.CDLL(None, use_errno=True)
    answer = library.syscall(number, *arguments)
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(answer)
