"""What people call the series and images of a study: number, modality, how many images."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ainode.node.console.identifiers import found_uids
from ainode.node.domain import UID, Instance, counted
from ainode.node.encoding import headers
from ainode.node.errors import NodeError
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.study_records import KeptSeries

_MOST: Final = 8
"""of the UIDs in the sentences of one page: each costs a look at a header"""
_WORDS: Final = "SeriesDescription"
_KEYWORDS: Final = frozenset({"SeriesNumber", "InstanceNumber", "Modality", _WORDS})
# PS3.5 6.2, IS and CS: what is no number or code may be a person's words.
_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,12}")
_CODE: Final = re.compile(r"[A-Z0-9_ ]{1,16}")


def names_of(
    texts: Iterable[str], study: UID, series: Sequence[KeptSeries], catalog: Catalog, *, has_words: bool
) -> Mapping[str, str]:
    """Return what people call each series and image of a study whose UID stands in sentences.

    Such as `3 (CT, 120 images)` of a series, and `number 12 in series 3 (CT, 120 images)` of an image; where no header
    tells, the place of the series among those of the study. `has_words`: with the Series Description, a person's words.
    """
    uids = found_uids(texts)
    if not uids:
        return {}
    stored = {uid: item for (holder, uid), item in catalog.versions(sorted(uids)[:_MOST]).items() if holder == study}
    wanted = {uid for uid in uids if uid not in stored} | {item.ref.series_instance_uid for item in stored.values()}
    names = _names_of_series(wanted, study, series, catalog, has_words=has_words)
    for uid, item in stored.items():
        number = _number(_header(item), "InstanceNumber")
        name = names.get(item.ref.series_instance_uid)
        if number and name:
            names[uid] = f"number {number} in series {name}"
    return {uid: name for uid, name in names.items() if uid in uids}


def _names_of_series(
    wanted: Iterable[str], study: UID, series: Sequence[KeptSeries], catalog: Catalog, *, has_words: bool
) -> dict[str, str]:
    all_uids = list(dict.fromkeys(item.series_instance_uid for item in series))
    named = {item.series_instance_uid: item for item in reversed(series) if item.series_instance_uid in set(wanted)}
    middles = catalog.versions([item.middle for item in named.values()][:_MOST])
    names: dict[str, str] = {}
    for uid, item in named.items():
        header = _header(middles.get((study, item.middle)))
        number = _number(header, "SeriesNumber") or f"{all_uids.index(uid) + 1} of {len(all_uids)}"
        modality = header.text("Modality").strip() if header else ""
        words = header.text(_WORDS).strip() if header and has_words else ""
        noun = "image" if item.has_images else "object"
        kind = modality if _CODE.fullmatch(modality) else item.kind
        names[uid] = f"{number} ({', '.join(filter(None, (kind, words, counted(item.instance_count, noun))))})"
    return names


def _header(stored: StoredInstance | None) -> Instance | None:
    """Return what a file says of itself, None where it is gone or cannot be read."""
    if stored is None:
        return None
    try:
        return headers.instance(stored.path, sha256=stored.sha256, keywords=_KEYWORDS)
    except (NodeError, OSError):
        return None


def _number(header: Instance | None, keyword: str) -> str:
    text = header.text(keyword).strip() if header else ""
    return text if _NUMBER.fullmatch(text) else ""
