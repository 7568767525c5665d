"""The parts that every command uses: the refusal of empty arguments, the option `--config`, and tables."""

import itertools
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ainode.node.errors import ConfigError
from ainode.node.logs import printable

if TYPE_CHECKING:
    from ainode.node.settings import Settings

Config = Annotated[Path | None, typer.Option("--config", help="path of node.toml; routes.toml lies in the same folder")]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="take the place of the model of that name; its folder stays beside as NAME.former"),
]


def refuse_empty(arguments: Sequence[str]) -> None:
    """Return if no argument of a command is empty, nor the value of an option.

    Python takes an empty path for the folder in which the command was typed: `ainode read "$UNSET"` would read it.
    Raises: ConfigError.
    """
    for number, argument in enumerate(arguments):
        is_value_missing = argument.startswith("--") and argument.endswith("=")
        if is_value_missing or not argument.strip():
            place = argument if is_value_missing else f"after {arguments[number - 1]}" if number else "the first"
            raise ConfigError(
                f"an argument is empty ({place}); a shell variable may have no value: "
                'give a value, or leave the argument out. This folder is "."'
            )


def refuse_repeated(app: typer.Typer, arguments: Sequence[str]) -> None:
    """Return if no option of a command that counts once is given twice.

    The parser takes the last, without a word of the others: of `ainode init --archive A@… --archive B@…` it would be B.
    What else is wrong with the arguments, the command itself says.
    Raises: ConfigError.
    """
    commands, rest = {"": typer.main.get_command(app)}, ["", *arguments]
    while rest and rest[0] in commands:
        command = commands[rest[0]]
        context = command.context_class(command, resilient_parsing=True)
        _, rest, parameters = command.make_parser(context).parse_args(rest[1:])
        options = [item for item in parameters if item.param_type_name == "option"]
        for option, count in Counter(options).items():
            if count > 1 and not getattr(option, "multiple", False):
                name = max(option.opts, key=len)
                raise ConfigError(f"{name} is given {count} times, and the last alone would count; give it once")
        commands = getattr(command, "commands", {})


def plain_path(path: Path | None) -> Path | None:
    """Return the path of an argument: that of a file or folder, and of no pipe or device, which has no end.

    Raises: typer.BadParameter.
    """
    if path is not None and not (path.is_file() or path.is_dir()):
        raise typer.BadParameter(f"{path} is no plain file")
    return path


def program() -> str:
    """Return how a person typed the name of this program, for commands that are printed to be copied."""
    return shlex.quote(sys.argv[0]) if sys.argv[0].endswith("ainode") else "ainode"


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
