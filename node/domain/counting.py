"""A count with its noun, as every page and command writes it."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count and its noun: `1 reading`, `2 readings`; `plural` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
