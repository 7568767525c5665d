"""What `--help` of each command says."""

from collections.abc import Iterator

import typer
from typer.core import TyperCommand, TyperGroup

from ainode.node.commands.cli import app


def texts(command: TyperCommand | TyperGroup) -> Iterator[str]:
    """Yield the help of a command, of its parameters and of the commands in it."""
    yield command.help or ""
    for parameter in command.params:
        yield getattr(parameter, "help", "") or ""
    if isinstance(command, TyperGroup):
        for inner in command.commands.values():
            yield from texts(inner)


def test_no_help_has_a_word_in_brackets_which_the_terminal_would_swallow_as_markup() -> None:
    shown = list(texts(typer.main.get_command(app)))
    assert len(shown) > 100
    assert [text for text in shown if "[" in text] == []
