"""The saliency of a reading, kept beside the documents of its job for people who look at the images: never delivered.

A ZIP file has `index.json`, and for each map a file of its bytes, 0 to 255, row by row.
"""

import json
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from ainode.node.domain import Capture

FILE_NAME: Final = ".saliency.zip"
_INDEX: Final = "index.json"


def saliency_file(captures: Iterable[Capture]) -> bytes:
    """Return the file of the captures that have a saliency, b'' if none has."""
    entries: list[dict[str, Any]] = []
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for capture in captures:
            if saliency := capture.saliency:
                archive.writestr(str(len(entries)), saliency.values)
                entry = {"image": capture.image.sop_instance_uid, "title": capture.title}
                entries.append({**entry, "rows": saliency.rows, "columns": saliency.columns})
        archive.writestr(_INDEX, json.dumps(entries))
    return content.getvalue() if entries else b""


def saliency_entries(path: Path) -> list[dict[str, Any]]:
    """Return `image` (SOP Instance UID), `title`, `rows` and `columns` of each map; none if nothing was kept.

    Raises: OSError; zipfile.BadZipFile if the file is damaged.
    """
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as archive:
        entries: list[dict[str, Any]] = json.loads(archive.read(_INDEX))
        return entries


def saliency_values(path: Path, number: int) -> bytes:
    """Return the bytes of a map.

    Raises: LookupError if there is no such map; OSError; zipfile.BadZipFile if the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(str(number))
    except FileNotFoundError as error:
        raise LookupError(f"{path.parent.name}: no saliency was kept") from error
