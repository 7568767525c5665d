"""What the commands have in common that make a model of the site's own: its folder, whole or not at all."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ainode.node.disk import part_folder, place_durably
from ainode.node.errors import ConfigError
from ainode.node.reading import described, registry
from ainode.node.settings import Settings
from ainode.node.terminal import program

_FORMER: Final = ".former"
"""no model has such a name"""


def refuse_taken(settings: Settings, name: str, *, replaces: bool) -> None:
    """Return if a model of the site may have a name, and has it only if it `replaces` another of that name.

    Raises: ConfigError.
    """
    described.refuse_name(name, registry.names())
    folder = settings.models / name
    if folder.exists() and not replaces:
        raise ConfigError(f"there is a model {name} in {folder}; give another name, or take its place by --replace")
    if replaces and not folder.exists():
        raise ConfigError(f"no model is named {name} in {settings.models}; leave --replace out")


@contextmanager
def new_folder(settings: Settings, name: str) -> Iterator[Path]:
    """Yield an empty folder, which becomes that of the model at the end of the block; a former one stays beside it.

    Raises: ConfigError if it cannot be written.
    """
    folder = settings.models / name
    try:
        with part_folder(settings.models) as part:
            yield part
            if folder.exists():
                former = folder.with_name(f"{name}{_FORMER}")
                shutil.rmtree(former, ignore_errors=True)
                folder.rename(former)
            place_durably(part, folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error


def next_lines(
    settings: Settings, name: str, questions: Iterable[str], config: Path | None, notes: Iterable[str] = ()
) -> Iterator[str]:
    """Yield the path of the description, notes, what a person has to answer in it, if anything, and what to type."""
    yield str(settings.models / name / described.DESCRIPTION)
    yield from (f"  {note}" for note in notes)
    lines = [f"  {question}" for question in questions]
    yield from lines
    place = f" --config {config}" if config else ""
    first = "answer these lines" if lines else "nothing is asked; check its lines"
    yield f"{first}, then: {program()} model test {name}{place}"
