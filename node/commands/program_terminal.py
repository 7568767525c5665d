"""Readings by hand, in which a person sees what a site's program printed last: on this terminal, and nowhere else."""

from dataclasses import replace

import typer

from ainode.node.domain import Reading, Study
from ainode.node.errors import HandlerError
from ainode.node.offline import readings as offline
from ainode.node.reading.program_words import ProgramWords, kept_words, marked_lines
from ainode.node.reading.weights import environment
from ainode.node.routes import Route
from ainode.node.settings import Settings


class Terminal:
    """Shows the words of programs on standard error, the same words once."""

    def __init__(self, name: str, words: ProgramWords) -> None:
        self._name, self._words = name, words
        self._shown: set[tuple[str, ...]] = set()

    def show(self) -> None:
        """Show what the program printed in its last run."""
        lines = self._words.take_lines()
        if lines and lines not in self._shown:
            self._shown.add(lines)
            typer.echo(marked_lines(self._name, lines), err=True)


def read(study: Study, route: Route, settings: Settings, notes: tuple[str, ...]) -> Reading:
    """Return the reading of a study; of a site's program that fails, show what it printed last.

    Raises: as `offline.read`.
    """
    with kept_words() as words:
        models = replace(environment(settings), words=words.path)
        try:
            return offline.read(study, route, settings, models, notes)
        except HandlerError:
            Terminal(route.handler, words).show()
            raise
