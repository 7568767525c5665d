"""A site's program without a container, confined: without network, as nobody where the node is root, within limits.

A keeper stands between the reader and the program (`keeper.py`): what the program starts ends with the keeper.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from ainode.node.errors import HandlerError
from ainode.node.reading import keeper
from ainode.node.reading.family import MARK, Family, adopts_orphans, descendants, has_ended
from ainode.node.reading.keeper import Launch
from ainode.node.reading.program_limits import ProgramLimits, refuse_failure, watch
from ainode.node.reading.program_words import MOST_BYTES, Hear
from ainode.node.reading.removed_files import removed_bytes
from ainode.node.reading.workplace import Workplace

_START: Final = "import sys; sys.path[:] = sys.argv[1:]; from {} import keep; keep()"
_DEATH_S: Final = 10.0
_PATIENCE_S: Final = 0.005
# Of an exit code, before the words.
_MOST_DIGITS: Final = 16


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    place: Workplace,
    limits: ProgramLimits,
    hidden: Path,
    hear: Hear | None = None,
) -> None:
    """Run a program to its end; it and whatever it started have ended then.

    `hear` gets the end of what the program printed, however the program ended; without it the words go nowhere.

    Raises: HandlerError if the program ends at a limit, or badly; OSError.
    """
    mark = f"{os.environ.get(MARK, 'ainode.')}.{secrets.token_hex(8)}"
    launch = Launch(
        tuple(command),
        {**environment, "HOME": str(place.temporary), "TMPDIR": str(place.temporary), MARK: mark},
        str(place.folder),
        (str(place.answer), str(place.temporary)),
        (str(hidden), str(place.neighbors)),
        limits.memory_bytes,
        limits.disk_bytes,
        limits.processes,
        limits.cores,
        is_heard=hear is not None,
    )
    end, keeper_end = socket.socketpair()
    # A program must not find an open file of the reader; its own words go nowhere. Everybody reads the arguments of a
    # process, so these name no folder of the program.
    with end, keeper_end:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-c", _START.format(keeper.__name__), *sys.path],
            stdin=keeper_end.fileno(),
            stdout=keeper_end.fileno(),
            stderr=subprocess.DEVNULL,
            env={**os.environ, MARK: mark},
            start_new_session=True,
            close_fds=True,
        )
        keeper_end.close()
        refuse_failure(_watched(process, end, Family(process.pid, mark), launch, (place, limits), hear))


def _watched(
    process: "subprocess.Popen[bytes]",
    end: socket.socket,
    family: Family,
    launch: Launch,
    bounds: tuple[Workplace, ProgramLimits],
    hear: Hear | None,
) -> int:
    """Return the exit code of a program that has ended, once nothing is left of it.

    Raises: HandlerError.
    """
    place, limits = bounds
    try:
        with suppress(BrokenPipeError):
            end.sendall(json.dumps(asdict(launch)).encode() + b"\n")
        watch(
            lambda: has_ended(process.pid),
            place,
            limits,
            lambda: family.memory_bytes(limits.memory_bytes, is_reader_counted=False),
            lambda: removed_bytes(descendants(process.pid), place.folder),
        )
    finally:
        end.shutdown(socket.SHUT_WR)  # at which the keeper ends all
        ended_in_time = _ends(process.pid)
        family.kill()
        code = _collected(process)
        first, _, words = _received(end).partition(b"\n")
        if hear is not None:
            hear(words)
    if not ended_in_time:
        raise HandlerError(f"the program did not end within {_DEATH_S:g} s, and was killed")
    digits, _, fault = first.decode(errors="replace").partition(" ")
    if fault:
        raise HandlerError(
            f"the program could not be started: {fault}; a script names an interpreter of this machine in its first "
            "line, and whom it runs as (nobody, where the node is root) may run it and pass the folder of TMPDIR"
        )
    return int(digits) if digits else code or 1


def _received(end: socket.socket) -> bytes:
    """Return what a keeper that has ended has written."""
    content, most = b"", _MOST_DIGITS + keeper.MOST_WORDS + MOST_BYTES
    while len(content) < most and (block := end.recv(most)):
        content += block
    return content


def _ends(keeper_process: int) -> bool:
    """Return whether a keeper that is to end has ended in time."""
    gives_up_at = time.monotonic() + _DEATH_S
    while not (is_over := has_ended(keeper_process)) and time.monotonic() < gives_up_at:
        time.sleep(_PATIENCE_S)
    return is_over


def _collected(process: "subprocess.Popen[bytes]") -> int:
    """Return the exit code of a keeper that has ended, and forget what a killed one left to this process."""
    code = process.wait(_DEATH_S)
    if adopts_orphans():  # as a reader does, which starts no other process meanwhile
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    return code
