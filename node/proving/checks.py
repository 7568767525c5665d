"""What a check of the kit says: a name, an outcome and words, which are a line for a person and an entry of a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "FAILED"
    NOT_APPLICABLE = "not applicable"
    """the check asks for what the study or the machine does not have"""
    NOT_CHECKED = "not checked"
    """a program that judges is not installed"""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a model, and how it ended."""

    name: str
    """group and check, such as `compressed, RLE`"""
    outcome: Outcome
    words: str = ""
    """what was seen; of a check that did not pass, why"""

    @property
    def line(self) -> str:
        """Return the check as a line."""
        return f"{self.name}: {self.outcome}{': ' if self.words else ''}{self.words}"

    @property
    def values(self) -> Mapping[str, str]:
        """Return the check as an entry of a JSON file."""
        return {"check": self.name, "outcome": self.outcome.value, "words": self.words}


def passed(name: str, words: str = "") -> Check:
    """Return a check that the model passed."""
    return Check(name, Outcome.PASSED, words)


def failed(name: str, words: str) -> Check:
    """Return a check that the model failed, and what was seen."""
    return Check(name, Outcome.FAILED, words)


def not_applicable(name: str, words: str) -> Check:
    """Return a check that cannot be made with this study, and why."""
    return Check(name, Outcome.NOT_APPLICABLE, words)


def not_checked(name: str, words: str) -> Check:
    """Return a check whose judge is not installed, and what to install."""
    return Check(name, Outcome.NOT_CHECKED, words)


def judged(name: str, differences: tuple[str, ...], words: str = "") -> Check:
    """Return a check that fails with the first of its differences, and passes without any."""
    if not differences:
        return passed(name, words)
    more = f"; and {len(differences) - 1} more" if len(differences) > 1 else ""
    return failed(name, f"{differences[0]}{more}")
