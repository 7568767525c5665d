"""Whether a site's script can be started by whoever runs it: its first line names an interpreter, as execve(2) has it.

Only a process of that user knows what the user may do: beside permissions there are access control lists.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ainode.node.errors import ConfigError
from ainode.node.reading.workplace import NOBODY

# Linux reads 256 bytes of a script's first line (BINPRM_BUF_SIZE).
_MOST_BYTES: Final = 256
_SCRIPT: Final = b"#!"
_REMEDY: Final = "name one that everybody may run, such as /usr/bin/python3, or run the node as a user of its own"


def refuse_unusable(program: Path, search_path: str) -> None:
    """Return unless the interpreter of a script is absent, or who runs the script may not run the interpreter.

    `search_path` is the PATH of the program, by which `env` finds an interpreter.
    Raises: ConfigError.
    """
    words = _first_line(program)
    if not words:
        return
    interpreter = _interpreter(words, search_path)
    first_line = f"the first line of {program} names {' '.join(words)}"
    if interpreter is None or not interpreter.exists():
        raise ConfigError(f"{first_line}, which is not there; name an interpreter of this machine")
    if not _may_run(interpreter):
        user = "nobody" if os.geteuid() == 0 else "the user of the node"
        fault = next((f"pass {folder}" for folder in _folders(interpreter) if not _may_run(folder)), "run that file")
        raise ConfigError(f"{first_line}, and the program runs as {user}, who cannot {fault}; {_REMEDY}")


def _first_line(program: Path) -> list[str]:
    """Return interpreter and argument of a script; nothing of what is no script, or is not there."""
    try:
        with program.open("rb") as file:
            begin = file.read(_MOST_BYTES)
    except OSError:
        return []  # the comparison with the description says so
    line = begin.partition(b"\n")[0]
    return os.fsdecode(line.removeprefix(_SCRIPT)).split(None, 1) if line.startswith(_SCRIPT) else []


def _interpreter(words: list[str], search_path: str) -> Path | None:
    """Return the file that runs a script; None where `env` does not find it."""
    interpreter, *arguments = (word.strip() for word in words)
    name = arguments[0] if arguments else ""
    if Path(interpreter).name != "env" or not name or name.startswith("-") or "=" in name:
        return Path(interpreter)
    place = shutil.which(name, path=search_path)
    return Path(place) if place else None


def _folders(path: Path) -> Iterator[Path]:
    """Yield the folders above a file, and those above what it links to, from the root on."""
    for file in (path, path.resolve()):
        yield from reversed(file.parents)


def _may_run(path: Path) -> bool:
    """Return whether the user of programs may run a file, or pass a folder; nobody where this process is root."""
    test = shutil.which("test", path=os.defpath)
    if test is None:
        return True
    is_root = os.geteuid() == 0
    done = subprocess.run(  # noqa: S603 - of coreutils
        [test, "-x", path],
        check=False,
        user=NOBODY if is_root else None,
        group=NOBODY if is_root else None,
        extra_groups=[] if is_root else None,
    )
    return done.returncode == 0
