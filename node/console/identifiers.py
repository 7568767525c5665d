"""UIDs in sentences: a person knows a series by its number and its images, and a long number by its end at best."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from ainode.node.imaging.naming import UID_IN_SENTENCE

_LONG: Final = 24
_END: Final = 8
NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


def named(text: str, names: Mapping[str, str] = NO_NAMES) -> str:
    """Return a sentence with what people know in the place of UIDs; of a long UID without a name stays the end.

    `names` are what follows the word `series` or `instance`, such as `3 (CT, 120 images)`.
    """
    return UID_IN_SENTENCE.sub(lambda match: names.get(match[0]) or _short(match[0]), text)


def uids_of(text: str, names: Mapping[str, str] = NO_NAMES) -> tuple[str, ...]:
    """Return the UIDs that `named` leaves out of a sentence."""
    return tuple(dict.fromkeys(uid for uid in UID_IN_SENTENCE.findall(text) if uid in names or len(uid) > _LONG))


def found_uids(texts: Iterable[str]) -> frozenset[str]:
    """Return whatever may be a UID in sentences."""
    return frozenset(uid for text in texts for uid in UID_IN_SENTENCE.findall(text))


def _short(uid: str) -> str:
    return f"…{uid[-_END:]}" if len(uid) > _LONG else uid
