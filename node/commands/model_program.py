"""The command `ainode model program`: the folder of a site's program, and the draft of its description."""

import re
import shutil
import tarfile
from pathlib import Path
from typing import Annotated, Final

import typer

from ainode.node.terminal import Config, Replace, plain_path, settings_of

_IMAGE: Final = re.compile(rb"\s*(sha256:)?[0-9a-f]{64}\s*")
_LONGEST_IDENTIFIER: Final = 100
_EXECUTABLE: Final = (b"#!", b"\x7fELF")
_MANIFEST: Final = "manifest.json"
_DRAFT: Final = """\
handler = "program"
title = "TODO: what the report is called"
version = "TODO: the version of the program"
licence = "TODO: the license of the program"
trained_on = "TODO: what its model has seen"
not_for = []

[file]
path = "{path}"
sha256 = "{sha256}"
format = "program"

[takes]
modality = ["TODO: such as CT"]
body_part = ["TODO: such as CHEST; [] for any"]

[program]
form = "{form}"
layout = "{layout}"
input = "dicom"                   # or "nifti": one volume
objects = ["SR", "SC", "SEG", "GSPS", "PDF"]  # and UIDs of further SOP classes that it writes, such as a derived series
time_limit_s = 300
memory_bytes = 4294967296
disk_bytes = 2147483648
processes = 64

[output]
site = "TODO: where in the body its findings are, a code such as ['39607008', 'SCT', 'Lung']"

[program.settings]                # handed on in task.json

# What its numbers mean: [[output.classes]], [[output.measurements]], [[output.segments]], as handlers/README.md says.
"""


def program(
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the model: small letters, digits, underscores")],
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            exists=True,
            dir_okay=False,
            readable=True,
            callback=plain_path,
            help="an executable, an archive of `podman save`, or a text with an image's identifier",
        ),
    ],
    *,
    mercure: Annotated[bool, typer.Option("--mercure", help="a module written for mercure")] = False,
    replace: Replace = False,
    config: Config = None,
) -> None:
    """Make the folder of a program: a copy of the file, and a model.toml with what is asked. Nothing is started.

    Exit 2 if there is such a model, or the file is nothing that can be started.
    """
    from ainode.node.commands.recording import record_change  # noqa: PLC0415
    from ainode.node.commands.site_models import new_folder, next_lines, refuse_taken  # noqa: PLC0415
    from ainode.node.disk import sha256_of  # noqa: PLC0415
    from ainode.node.errors import ConfigError  # noqa: PLC0415
    from ainode.node.reading import described  # noqa: PLC0415

    settings = settings_of(config)
    refuse_taken(settings, name, replaces=replace)
    form = _form(source)
    if not form:
        raise ConfigError(
            f"{source}: begins neither as a script (#!) nor as a program (ELF), and is no archive of an image; "
            "`podman save --output FILE IMAGE` makes one"
        )
    layout = "mercure" if mercure else "ainode"
    values = {"path": "program", "sha256": sha256_of(source), "form": form, "layout": layout}
    with new_folder(settings, name) as folder:
        shutil.copyfile(source, folder / "program")
        (folder / described.DESCRIPTION).write_text(_DRAFT.format(**values), encoding="utf-8")
    record_change(settings, f"model:{name}", "described")
    for line in next_lines(settings, name, (line for line in _DRAFT.splitlines() if "TODO" in line), config):
        print(line)  # noqa: T201 - a command's answer


def _form(source: Path) -> str:
    """Return how a file is started; '' if nothing tells."""
    with source.open("rb") as file:
        begin = file.read(_LONGEST_IDENTIFIER)
    if begin.startswith(_EXECUTABLE):
        return "executable"
    if _IMAGE.fullmatch(begin):
        return "image"
    try:
        with tarfile.open(source) as tar:
            return "archive" if _MANIFEST in tar.getnames() else ""
    except (tarfile.TarError, OSError):
        return ""
