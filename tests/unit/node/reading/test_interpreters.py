import os
import shutil
import tempfile
from pathlib import Path

import pytest

from ainode.node.errors import ConfigError
from ainode.node.reading.interpreters import refuse_unusable

PATH = "/usr/bin:/bin"


def script(folder: Path, first_line: str) -> Path:
    path = folder / "program"
    path.write_bytes(first_line.encode() + b"\necho\n")
    return path


def let_pass(folder: Path) -> None:
    """Let everybody pass a folder and those of pytest above it, of which a run with several workers has one more."""
    shared = Path(tempfile.gettempdir())
    for each in (folder, *folder.parents):
        if shared in each.parents:
            each.chmod(0o755)


@pytest.mark.parametrize("first_line", ["#!/bin/sh", "#! /bin/sh -e", "#!/usr/bin/env sh", "\x7fELF", "no script"])
def test_what_starts_for_anybody_is_not_refused(tmp_path: Path, first_line: str) -> None:
    refuse_unusable(script(tmp_path, first_line), PATH)
    refuse_unusable(tmp_path / "absent", PATH)


@pytest.mark.parametrize("first_line", ["#!/usr/bin/absent", "#!/usr/bin/env absent_python"])
def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path, first_line: str) -> None:
    with pytest.raises(ConfigError, match=rf"names {first_line[2:]}, which is not there"):
        refuse_unusable(script(tmp_path, first_line), PATH)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone runs programs as nobody")
@pytest.mark.parametrize("is_linked", [False, True])
def test_an_interpreter_below_a_folder_of_root_is_refused_with_the_folder(tmp_path: Path, is_linked: bool) -> None:  # noqa: FBT001
    let_pass(tmp_path)
    private = tmp_path / "private"
    private.mkdir()
    private.chmod(0o755)
    interpreter = private / "sh"
    shutil.copy("/bin/sh", interpreter)
    if is_linked:
        (tmp_path / "linked").symlink_to(interpreter)
        interpreter = tmp_path / "linked"
    refuse_unusable(script(tmp_path, f"#!{interpreter}"), PATH)
    private.chmod(0o700)
    with pytest.raises(ConfigError, match=rf"runs as nobody, who cannot pass {private}; name one that everybody"):
        refuse_unusable(script(tmp_path, f"#!{interpreter}"), PATH)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone runs programs as nobody")
def test_an_interpreter_of_root_alone_is_refused(tmp_path: Path) -> None:
    interpreter = tmp_path / "sh"
    shutil.copy("/bin/sh", interpreter)
    let_pass(tmp_path)
    interpreter.chmod(0o700)
    with pytest.raises(ConfigError, match="runs as nobody, who cannot run that file"):
        refuse_unusable(script(tmp_path, f"#!{interpreter}"), PATH)
