"""Whose a trial is: a person's, and of no later person with the same name."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ainode.node.console.entry.access import Visit
from ainode.node.errors import DatabaseUnavailable
from ainode.node.keeping.people import People

# No token has such a name.
_PERSON: Final = "person "


def owner(visit: Visit) -> str:
    """Return the owner of what a person tries."""
    return f"{_PERSON}{visit.person} {visit.identity}"


def departures(people: People) -> Callable[[str], bool]:
    """Return a function that returns whether an owner is a person who was removed."""

    def is_gone(owner: str) -> bool:
        name, _, identity = owner.removeprefix(_PERSON).rpartition(" ")
        if not owner.startswith(_PERSON) or not identity:
            return False
        with suppress(DatabaseUnavailable):
            person = people.person(name)
            return person is None or person.identity != identity
        return False

    return is_gone
