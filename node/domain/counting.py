"""A count with its noun, and the unit of a number, as every page and command writes them."""

from typing import Final

# Codes of UCUM that nobody writes so.
_UNIT_WORDS: Final = {"1": "", "[hnsf'U]": "HU"}


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count and its noun: `1 reading`, `2 readings`; `plural` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def unit_text(code: str) -> str:
    """Return a unit of UCUM as people write it: `HU`, `mm3`; '' of a number without one."""
    return _UNIT_WORDS.get(code, code)
