"""The parts that every command uses: the option `--config`, and tables."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ainode.node.logs import printable

if TYPE_CHECKING:
    from ainode.node.settings import Settings

Config = Annotated[Path | None, typer.Option("--config", help="path of node.toml; routes.toml lies in the same folder")]


def settings_of(config: Path | None) -> "Settings":
    """Return the settings of a node.toml, or of the default files if `config` is None."""
    from ainode.node import settings  # noqa: PLC0415 - a command imports only what it needs

    return settings.load(config)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as aligned columns; a cell of several lines takes several lines."""
    lines = [tuple(head)]
    for row in rows:
        cells = (map(printable, str(cell).splitlines()) for cell in row)
        lines += itertools.zip_longest(*cells, fillvalue="")
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
