"""What a route takes and the model that a site describes never reads: each such study is out of scope."""

from collections.abc import Collection
from pathlib import Path

from ainode.node.errors import ConfigError
from ainode.node.imaging.anatomy import PARENTS
from ainode.node.reading import described
from ainode.node.routes import Route


def unread_words(route: Route, models: Path | None) -> str:
    """Return which modalities and body parts of a route its described model never reads; '' where there is none."""
    if not described.is_described(route.handler, models):
        return ""
    try:
        takes = described.described(route.handler, models).table.table("takes")
        modalities, parts = takes.texts("modality", ()), takes.texts("body_part", ())
    except ConfigError:  # the line of the route says what is wrong
        return ""
    unread = [modality for modality in route.modality if modalities and modality not in modalities]
    unread += [part for part in route.body_part if parts and not _is_read(part.upper(), parts)]
    if not unread:
        return ""
    scope = " and ".join(", ".join(values) for values in (modalities, parts) if values)
    return f"it takes {', '.join(unread)}, which its model refuses: [takes] of {route.handler} has {scope}"


def _is_read(part: str, parts: Collection[str]) -> bool:
    """Return whether an image of a part may be of one of several parts: the same, a larger one, or a piece of it."""
    return not {part, *PARENTS.get(part, ())}.isdisjoint(parts) or any(part in PARENTS.get(own, ()) for own in parts)
