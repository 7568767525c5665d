"""What every measurement with real servers needs: programs found or named, servers started and stopped, a line said."""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ainode.node.errors import ConfigError

TOOLS: Final = {"storescu": "dcmtk", "dcmsend": "dcmtk", "storescp": "dcmtk", "Orthanc": "orthanc"}
"""each program and its Debian package"""
AE_TITLE: Final = "AINODE"
# Not the virtual environment's: pynetdicom installs commands of the same names.
_PATH: Final = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin"
_START_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A program that takes C-STORE: its command line, made for a folder and a port."""

    name: str
    promise: str
    command: Callable[[Path, int], Sequence[str]]
    says: str = ""
    """what its log holds once it is ready, where listening is not all"""


def say(line: str) -> None:
    """Print a line now: a measurement takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def tool(name: str) -> str:
    """Return the path of a program.

    Raises: ConfigError naming its Debian package.
    """
    path = shutil.which(name, path=_PATH)
    if path is None:
        raise ConfigError(f"{name} is not installed; on Debian: apt-get install {TOOLS[name]}")
    return path


def machine() -> str:
    """Return the processor, system and Python that figures are of."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def free_port() -> int:
    """Return a port of loopback that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


@contextmanager
def running(
    server: Server, folder: Path, environment: dict[str, str] | None = None
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Start the server in a folder of its own; stop it afterwards.

    Raises: ConfigError if it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    os.sync()
    command = server.command(folder, port)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603
        try:
            _await(port, process, server, folder / "log")
            yield process, port
        finally:
            process.terminate()
            try:
                process.wait(_START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await(port: int, process: "subprocess.Popen[bytes]", server: Server, log: Path) -> None:
    until = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        if _listens(port) and server.says in log.read_text(errors="replace"):
            time.sleep(0.5)  # the rest of the start: no server is measured while it still imports
            return
        time.sleep(0.05)
    raise ConfigError(f"{server.name} did not start; its command: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def node(folder: Path, port: int, *, more: str = "", routes: str = "") -> Sequence[str]:
    """Configure a node in the folder, `more` of it in node.toml, and return its command."""
    config = folder / "node.toml"
    said = (f'ae_title = "{AE_TITLE}"', f"port = {port}", f'data = "{folder / "data"}"', "min_free_bytes = 1000000000")
    config.write_text("\n".join(("[node]", *said, more)))
    (folder / "routes.toml").write_text(routes)
    return [sys.executable, "-m", "ainode.node.commands.cli", "serve", "--config", str(config)]


def orthanc(folder: Path, port: int, options: Mapping[str, object] | None = None) -> Sequence[str]:
    """Configure Debian's Orthanc in the folder, with `options` of its own, and return its command."""
    config = folder / "orthanc.json"
    storage = str(folder / "orthanc")
    settings = {
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "HttpPort": free_port(),
        "StorageDirectory": storage,
        "IndexDirectory": storage,
        "Plugins": [],
    }
    config.write_text(json.dumps({**settings, **(options or {})}))
    return [tool("Orthanc"), str(config)]
