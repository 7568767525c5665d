"""What a site's program printed last, for the person who runs a command by hand: on that terminal, and nowhere else.

It may hold an attribute of the patient, so no log, error, document or file of the node gets a word of it. Under
`ainode serve` nobody hears a program.
"""

import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

MOST_BYTES: Final = 8192
"""of the end of what a program printed"""
_MOST_LINES: Final = 20
_MOST_LETTERS: Final = 200
_OF_CONTROL: Final = ("Cc", "Cf", "Cs", "Co", "Cn")
"""categories of Unicode whose letters could move the cursor, or hide what stands there"""

Hear = Callable[[bytes], object]
"""takes the end of what a program printed, once the program has ended"""


@dataclass(frozen=True, slots=True)
class ProgramWords:
    """The words of the program that ran last, in a file that lives as long as the command."""

    path: Path

    def take_lines(self) -> tuple[str, ...]:
        """Return the last lines for a terminal, and forget them."""
        content = self.path.read_bytes()
        self.path.write_bytes(b"")
        return terminal_lines(content)


@contextmanager
def kept_words() -> Iterator[ProgramWords]:
    """Yield a place for the words of programs, which nobody else reads; it is gone afterwards."""
    with TemporaryDirectory(prefix="ainode-words.") as folder:
        words = ProgramWords(Path(folder) / "words")
        words.path.touch(mode=0o600)
        yield words


def terminal_lines(content: bytes) -> tuple[str, ...]:
    """Return the last lines of what a program printed, shortened, without what could control a terminal.

    Of words that are cut off at their begin the first line may be a part of one.
    """
    lines = content.decode("utf-8", "replace").splitlines()
    shown = ("".join(map(_shown, line)).rstrip()[:_MOST_LETTERS] for line in lines)
    return tuple([line for line in shown if line][-_MOST_LINES:])


def _shown(letter: str) -> str:
    if letter == "\t":
        return "    "
    return "" if unicodedata.category(letter) in _OF_CONTROL else letter


def marked_lines(name: str, lines: tuple[str, ...]) -> str:
    """Return the lines of a program, marked as its own."""
    heading = f"the last words of the program {name} (its own; they may name a patient, and are kept nowhere):"
    return "\n".join([heading, *(f"  | {line}" for line in lines)])
