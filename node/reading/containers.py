"""A site's program in a container of podman or docker: no network, a read-only root, no capability, within limits.

An image is run by its identifier, which is the digest of its configuration: what a name stands for may change.
"""

import hashlib
import json
import os
import re
import resource
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ainode.node.errors import ConfigError, HandlerError
from ainode.node.reading.program_limits import ProgramLimits, refuse_failure, watch
from ainode.node.reading.program_words import MOST_BYTES, Hear
from ainode.node.reading.workplace import NOBODY, Workplace

ENGINES: Final = ("podman", "docker")
LABEL: Final = "ainode.program"
# Of an engine's own command; a large image takes long to load.
_COMMAND_S, _LOADING_S = 60.0, 1800.0
_MOST_WORDS: Final = 300
_MOST_MANIFEST_BYTES: Final = 4 << 20
_TEMPORARY_BYTES: Final = 1 << 30
_OPEN_FILES, _THREADS = 1024, 4096
_KILLED: Final = 137
_IMAGE: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Container:
    """A program in a container, and where it finds its folders there."""

    image: str
    """identifier: 64 hexadecimal digits"""
    command: tuple[str, ...]
    """() for that of the image"""
    inputs: str
    answer: str
    is_input_writable: bool
    """whether the program may change its copy of the images"""
    environment: Mapping[str, str]


def engine_named(name: str) -> str:
    """Return the path of an engine; of the first that is there, if no name is given.

    Raises: ConfigError.
    """
    for candidate in (name,) if name else ENGINES:
        if path := shutil.which(candidate):
            return path
    raise ConfigError(f"{name or ' or '.join(ENGINES)} is missing, which runs the program's container; install it")


def image_of_archive(archive: Path) -> str:
    """Return the identifier of the image in an archive as `podman save` and `docker save` write it.

    Raises: ConfigError if the file is no archive of one image.
    """
    try:
        with tarfile.open(archive) as tar:
            (entry,) = json.loads(_member(tar, "manifest.json"))
            return hashlib.sha256(_member(tar, entry["Config"])).hexdigest()
    except (tarfile.TarError, OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        reason = f"is no archive of one image ({type(error).__name__})"
        raise ConfigError(f"{archive}: {reason}; `podman save --output FILE IMAGE` makes one") from error


def image_named_in(file: Path) -> str:
    """Return the identifier of an image that stands in a text file, as `podman image inspect` prints it.

    Raises: ConfigError.
    """
    try:
        text = file.read_text(encoding="ascii").strip().removeprefix("sha256:")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as text ({type(error).__name__})") from error
    if not _IMAGE.fullmatch(text):
        command = "`podman image inspect --format {{.Id}} NAME` prints it"
        raise ConfigError(f"{file}: holds no identifier of an image, 64 hexadecimal digits; {command}")
    return text


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """Return the content of a small file in an archive.

    Raises: KeyError, ValueError, TarError.
    """
    member = tar.getmember(name)
    file = tar.extractfile(member) if member.isfile() and member.size <= _MOST_MANIFEST_BYTES else None
    if file is None:
        raise ValueError(name)
    return file.read()


def make_ready(engine: str, image: str, archive: Path | None) -> None:
    """Return once an image is there; load it from its archive where it is absent.

    Raises: HandlerError.
    """
    if _has(engine, image):
        return
    if archive is None:
        raise HandlerError(f"the image sha256:{image[:12]}… is not in {Path(engine).name}; load it there")
    _command(engine, "load", "--input", str(archive), time_s=_LOADING_S)
    if not _has(engine, image):
        raise HandlerError(f"{archive.name}: {Path(engine).name} loaded another image than the archive states")


def _has(engine: str, image: str) -> bool:
    """Return whether an engine has an image of that identifier; a name of the same letters is none."""
    return image in _command(engine, "image", "inspect", "--format", "{{.Id}}", image, is_refusal_ignored=True)


def run(engine: str, container: Container, place: Workplace, limits: ProgramLimits, hear: Hear | None = None) -> None:
    """Run a program in a container to its end; nothing is left of the container then.

    `hear` gets the end of what the program printed, however the program ended; without it the words go nowhere.

    Raises: HandlerError if the program ends at a limit, or badly, or the engine refuses.
    """
    name = f"ainode-{os.getpid()}-{secrets.token_hex(4)}"
    remove_left(engine)
    arguments = ["create", "--name", name, *_arguments(container, place, limits)]
    if Path(engine).name == "podman":
        arguments += ["--timeout", str(int(limits.time_s) + 60)]  # also where the reader is killed
    _command(engine, *arguments, container.image, *container.command)
    try:
        code = _attached(engine, name, place, limits, hear) if hear else _waited(engine, name, place, limits)
        if code == _KILLED:
            raise HandlerError(
                f"the program was killed in its container, as at its limit of {limits.memory_bytes} bytes "
                "([program] memory_bytes)"
            )
        refuse_failure(code)
    finally:
        _remove(engine, name)


def _waited(engine: str, name: str, place: Workplace, limits: ProgramLimits) -> int:
    """Start a container, and return its exit code.

    Raises: HandlerError.
    """
    _command(engine, "start", name, folder=place.folder)
    waiting = subprocess.Popen(  # noqa: S603
        [engine, "wait", name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        watch(lambda: waiting.poll() is not None, place, limits, lambda: 0)
        return _code(waiting)
    finally:
        waiting.kill()
        waiting.communicate()


def _attached(engine: str, name: str, place: Workplace, limits: ProgramLimits, hear: Hear) -> int:
    """Start a container, and return its exit code; `hear` gets the end of what it printed.

    Raises: HandlerError.
    """
    attached = subprocess.Popen(  # noqa: S603
        [engine, "start", "--attach", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=place.folder,
    )
    with ThreadPoolExecutor(1) as pool:
        words = pool.submit(_end_of, attached.stdout)
        try:
            watch(lambda: attached.poll() is not None, place, limits, lambda: 0)
            return attached.wait(_COMMAND_S)
        finally:
            _command(engine, "kill", name, is_refusal_ignored=True)  # else who prints on could keep the words open
            attached.kill()
            attached.wait(_COMMAND_S)
            hear(words.result(_COMMAND_S))


def _end_of(source: IO[bytes] | None) -> bytes:
    """Return the end of what comes, once nothing comes any more."""
    end = b""
    while source and (block := os.read(source.fileno(), 1 << 16)):
        end = (end + block)[-MOST_BYTES:]
    return end


def _code(waiting: "subprocess.Popen[bytes]") -> int:
    """Return the exit code that `wait` printed.

    Raises: HandlerError.
    """
    words, _ = waiting.communicate(timeout=_COMMAND_S)
    try:
        return int(words)
    except ValueError as error:
        raise HandlerError("the engine did not say how the program's container ended") from error


def _arguments(container: Container, place: Workplace, limits: ProgramLimits) -> list[str]:
    """Return the arguments that confine a container, and give it its folders."""
    mode = "rw" if container.is_input_writable else "ro"
    temporary_bytes = min(limits.disk_bytes, _TEMPORARY_BYTES)
    arguments = ["--label", f"{LABEL}={_process_numbers()}", "--pull", "never", "--log-driver", "none"]
    arguments += ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    arguments += ["--user", f"{NOBODY}:{NOBODY}", "--ipc", "private", "--pids-limit", str(limits.processes)]
    arguments += ["--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes)]
    arguments += ["--cpus", str(limits.cores)] if limits.cores else []
    for kind, most in (("nofile", _OPEN_FILES), ("nproc", _nproc()), ("core", 0), ("fsize", limits.disk_bytes)):
        arguments += ["--ulimit", f"{kind}={most}:{most}"]
    arguments += ["--tmpfs", f"/tmp:rw,size={temporary_bytes},mode=1777"]  # noqa: S108 - of the container
    arguments += ["--volume", f"{place.inputs}:{container.inputs}:{mode}"]
    arguments += ["--volume", f"{place.answer}:{container.answer}:rw"]
    for key, value in {"HOME": "/tmp", **container.environment}.items():  # noqa: S108
        arguments += ["--env", f"{key}={value}"]
    return arguments


def _nproc() -> int:
    """Return the limit of processes of the container's user: an engine's own may be above what this process may set."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    return _THREADS if hard == resource.RLIM_INFINITY else min(hard, _THREADS)


def remove_left(engine: str) -> None:
    """Remove the containers of readers that were killed."""
    label = f"label={LABEL}={_process_numbers()}"
    listing = _command(engine, "ps", "--all", "--filter", label, "--format", "{{.Names}}")
    for name in listing.split():
        process = name.split("-")[1] if name.count("-") else ""
        if process.isdigit() and not Path("/proc", process).exists():
            _remove(engine, name)


def _process_numbers() -> int:
    """Return the namespace in which numbers of processes stand for those that this process sees in /proc.

    A node in a container of its own may share the engine.
    """
    return Path("/proc/self/ns/pid").stat().st_ino


def _remove(engine: str, name: str) -> None:
    """Remove a container; one that runs is killed first, for `rm` alone would ask and wait.

    Of a container whose monitor was killed with the reader, podman's first `rm` notes that it has stopped, and fails.
    """
    _command(engine, "kill", name, is_refusal_ignored=True)
    for _ in range(2):
        if _command(engine, "rm", "--force", name, is_refusal_ignored=True):  # the name of what is removed
            return


def _command(
    engine: str,
    *arguments: str,
    time_s: float = _COMMAND_S,
    is_refusal_ignored: bool = False,
    folder: Path | None = None,
) -> str:
    """Return what a command of an engine prints; the program itself does not print there.

    Podman's monitor writes into the `folder` of its start what it saw of the memory.

    Raises: HandlerError with the engine's own words.
    """
    try:
        answer = subprocess.run(  # noqa: S603 - an engine that the operator installed
            [engine, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=time_s,
            cwd=folder,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HandlerError(f"{Path(engine).name} {arguments[0]}: {type(error).__name__}") from error
    if answer.returncode and not is_refusal_ignored:
        words = " ".join(answer.stderr.decode(errors="replace").split())[-_MOST_WORDS:]
        raise HandlerError(f"{Path(engine).name} {arguments[0]} failed: {words}")
    return answer.stdout.decode(errors="replace")
