"""What the next program of this process needs to go on with receivers that run: a reload replaces the program.

A receiver is a child of the process, and stays one. The next program finds its descriptors and the open associations
in the environment, under a name that is no key of the configuration.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, Final

from ainode.node.receiving.events import AssociationOpened
from ainode.node.receiving.losses import Loss

_VARIABLE: Final = "NODE_RECEIVER"
_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class RunningReceiver:
    """A receiver that runs."""

    number: int
    """which of the receivers it is, from 0"""
    pid: int
    connection: int
    """descriptor of the pipe of its events"""
    pulse: int
    opened: Sequence[AssociationOpened] = field(default_factory=tuple)
    """its associations that are open, and have stored something"""


@dataclass(frozen=True, slots=True)
class Handover:
    """The receivers that run, and the socket that they share."""

    listener: int
    receivers: tuple[RunningReceiver, ...]
    losses: tuple[Loss, ...] = ()
    """the last loss of each receiver that ended by itself"""

    @property
    def _descriptors(self) -> tuple[int, ...]:
        of_receivers = ((receiver.connection, receiver.pulse) for receiver in self.receivers)
        return (self.listener, *chain.from_iterable(of_receivers))

    def offer(self) -> None:
        """Put the receivers into the environment of the next program, which inherits their descriptors."""
        self.let_inherit(is_inherited=True)
        os.environ[_VARIABLE] = json.dumps(asdict(self), default=datetime.isoformat)

    def let_inherit(self, *, is_inherited: bool) -> None:
        """Let the next program of this process have the descriptors, or no child from now on."""
        for descriptor in self._descriptors:
            os.set_inheritable(descriptor, is_inherited)


def taken() -> Handover | None:
    """Return the receivers that the program before offered, once; None for a process that begins."""
    text = os.environ.pop(_VARIABLE, "")
    if not text:
        return None
    values: dict[str, Any] = json.loads(text)
    losses = tuple(Loss(**loss) for loss in values.get("losses", ()))  # an older program has none
    handover = Handover(values["listener"], tuple(map(_receiver, values["receivers"])), losses)
    handover.let_inherit(is_inherited=False)
    return handover


def _receiver(values: dict[str, Any]) -> RunningReceiver:
    opened = values.pop("opened")
    events = (AssociationOpened(**{**event, "time": datetime.fromisoformat(event["time"])}) for event in opened)
    return RunningReceiver(**values, opened=tuple(events))


class AdoptedProcess:
    """A child of this process that an earlier program started; as much of `subprocess.Popen` as the node needs.

    Several threads may call.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit status, None while the process runs."""
        with self._lock:
            return self._status()

    def _status(self) -> int | None:
        """Ask the system, which tells the exit status once."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once the process has ended.

        Raises: TimeoutError.
        """
        end_s = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end_s is not None and time.monotonic() > end_s:
                raise TimeoutError
            time.sleep(_LOOK_S)
        return status

    def kill(self) -> None:
        """Kill the process, unless it has ended: the system may have given its number to another."""
        with self._lock:
            if self._status() is None:
                os.kill(self.pid, signal.SIGKILL)
