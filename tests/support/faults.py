"""Handlers with a fault, each in a module of its own, as a site would write one."""

import textwrap
from pathlib import Path

PATIENT = "DOE^JANE"
"""what a library might put into the text of an error"""
RAISE = f"raise ValueError({PATIENT[::-1]!r}[::-1])"  # the log shows lines of a program, but no values
HANG = "time.sleep(3600)"
SPIN = "while True: pass"
SYNTAX_ERROR = "def broken(:"
# The socket to the node is the only one of a reader process: write the half of an answer into it, then stop.
HALF_ANSWER = """
for descriptor in map(int, os.listdir('/proc/self/fd')):
    try:
        node = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        continue
    node.sendall(struct.pack('>Q', 1 << 20) + bytes(1 << 19))
    os.kill(os.getpid(), signal.SIGSTOP)
"""
FULL_DISK = "open('/dev/full', 'w', buffering=1).write('no room\\n')"
PARTS = ("body", "build", "weights", "prepare", "select", "read")
_MODULE = """
import ctypes, os, signal, socket, struct, subprocess, sys, time
from pathlib import Path
from ainode.node.domain import Result
from support.handler import Obedient

{body}

class Faulty(Obedient):
    def weights(self):
{weights}
        return super().weights()

    def prepare(self):
{prepare}
        return ()

    def select(self, study):
{select}
        return super().select(study)

    def read(self, selection):
{read}
        return super().read(selection)

def build(environment):
{build}
    return Faulty()
"""


def write_handler(folder: Path, name: str, **statements: str) -> str:
    """Write a module whose parts begin with these statements; return the name of the module."""
    values = {}
    for part in PARTS:
        depth = {"body": 0, "build": 4}.get(part, 8)
        values[part] = textwrap.indent(statements.get(part, "").strip("\n"), depth * " ")
    package = folder / "site_handlers"
    package.mkdir(parents=True, exist_ok=True)
    (package / f"{name}.py").write_text(_MODULE.format_map(values), encoding="utf-8")
    return f"site_handlers.{name}"


def replaced(field: str, value: str) -> str:
    """Return statements that answer with a result whose field has another value."""
    return f"import dataclasses\nr = super().read(selection)\nreturn dataclasses.replace(r, {field}={value})"
