"""A handler that tries what a Series Description says: socket, fork, write, mode, signal, allocate, and others."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from ainode.node.domain import OutOfScope, Result, Selection
from ainode.node.reading.weights import ModelEnvironment
from support.handler import Obedient, healthy


class Intruder(Obedient):
    """Answers as a healthy handler does once its attempt has succeeded."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment

    def read(self, selection: Selection) -> Result | OutOfScope:
        attempt = selection.instances[0].text("SeriesDescription")
        outside = self._environment.weights.site
        attempts: dict[str, Callable[[], object]] = {
            "socket": lambda: socket.create_connection(("127.0.0.1", 9)),
            "spawn": lambda: subprocess.run(["/bin/true"], check=True),
            "fork": _fork_for_ever,
            "write": lambda: (outside / "written").write_text("x", encoding="ascii"),
            "append": lambda: (outside / "of_the_site").open("a", encoding="ascii"),
            "link": lambda: (outside / "of_the_site").rename(outside / "renamed"),
            "mode": lambda: (outside / "of_the_site").chmod(0o777),
            "signal": lambda: os.kill(os.getppid(), signal.SIGTERM),
            "peek": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
            "allocate": _allocate_for_ever,
            "ask too much": lambda: bytearray(1 << 40),
            "catalog": (outside.parent / "catalog.sqlite").read_bytes,
            "lock": lambda: os.close(os.open(outside.parent, os.O_RDONLY)),
            "own": _use_what_is_its_own,
        }
        attempts[attempt]()
        return healthy(selection)


def _fork_for_ever() -> None:
    while True:
        os.fork()


def _allocate_for_ever() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1) * (1 << 24)))


def _use_what_is_its_own() -> None:
    """Do what libraries do: threads, temporary files, copies, sockets without a network."""
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
    for end in socket.socketpair():
        end.close()
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - as libraries do
        nothing.write(b"x")


def build(environment: ModelEnvironment) -> Intruder:
    return Intruder(environment)
