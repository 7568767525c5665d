"""Helpers of every measurement with real servers: programs and their packages, running servers, printed lines."""

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

DEBIAN_PACKAGES: Final = {"storescu": "dcmtk", "dcmsend": "dcmtk", "storescp": "dcmtk", "Orthanc": "orthanc"}
"""Debian package of each program"""
AE_TITLE: Final = "AINODE"
# Without the virtual environment, where pynetdicom installs commands of the same names.
_PATH: Final = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin"
_START_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A program that receives C-STORE."""

    name: str
    promise: str
    """the program's durable writes before it answers Success, for the table"""
    command: Callable[[Path, int], Sequence[str]]
    """returns the command line for a folder and a port"""
    ready_text: str = ""
    """text in the log of a server that is ready; '' where a server is ready as soon as it listens"""


def print_line(line: str) -> None:
    """Print a line at once, since a measurement takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def program_path(name: str) -> str:
    """Return the path of a program.

    Raises: ConfigError that names the program's Debian package, if the program is not installed.
    """
    path = shutil.which(name, path=_PATH)
    if path is None:
        raise ConfigError(f"{name} is not installed; on Debian: apt-get install {DEBIAN_PACKAGES[name]}")
    return path


def machine_description() -> str:
    """Return processor, system and Python of this machine, to stand with the figures."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def free_port() -> int:
    """Return a port of the loopback interface that is free at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    server: Server, folder: Path, environment: dict[str, str] | None = None
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run the server in a folder; yield its process and port.

    Raises: ConfigError if the server does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    os.sync()
    command = server.command(folder, port)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603
        try:
            _wait_until_ready(port, process, server, folder / "log")
            yield process, port
        finally:
            process.terminate()
            try:
                process.wait(_START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes]", server: Server, log: Path) -> None:
    """Wait until the server listens and its log has the ready text.

    Raises: ConfigError if the server ends or takes too long.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if _listens(port) and server.ready_text in log.read_text(errors="replace"):
            time.sleep(0.5)  # a server that listens may still import modules
            return
        time.sleep(0.05)
    raise ConfigError(f"{server.name} did not start; its command: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def node_command(folder: Path, port: int, *, extra_settings: str = "", routes: str = "") -> Sequence[str]:
    """Write node.toml, in which `extra_settings` follow the keys of [node], and routes.toml; return the node's command.

    No reader prepares itself: what is timed is to have the machine for itself.
    """
    config = folder / "node.toml"
    settings = (
        f'ae_title = "{AE_TITLE}"',
        f"port = {port}",
        f'data = "{folder / "data"}"',
        "min_free_bytes = 1000000000",
    )
    config.write_text("\n".join(("[node]", *settings, extra_settings, "[reader]", "prepare = false", "")))
    (folder / "routes.toml").write_text(routes)
    return [sys.executable, "-m", "ainode.node.commands.cli", "serve", "--config", str(config)]


def orthanc_command(folder: Path, port: int, options: Mapping[str, object] | None = None) -> Sequence[str]:
    """Write the configuration of Debian's Orthanc, with `options` in it, into the folder; return Orthanc's command."""
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
    return [program_path("Orthanc"), str(config)]
