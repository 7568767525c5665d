"""What people call the series and images of a study: number, modality, how many images."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ainode.node.console.identifiers import found_uids
from ainode.node.domain import UID, Instance
from ainode.node.encoding import headers
from ainode.node.errors import NodeError
from ainode.node.imaging.naming import plain_code, plain_number, series_name
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.study_records import KeptSeries

_MOST: Final = 8
"""of the UIDs in the sentences of one page: each costs a look at a header"""
_WORDS: Final = "SeriesDescription"
_KEYWORDS: Final = frozenset({"SeriesNumber", "InstanceNumber", "Modality", _WORDS})


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
        number = plain_number(_header(item), "InstanceNumber")
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
        number = plain_number(header, "SeriesNumber") or f"{all_uids.index(uid) + 1} of {len(all_uids)}"
        modality = plain_code(header, "Modality") or item.kind
        words = header.text(_WORDS).strip() if header and has_words else ""
        noun = "image" if item.has_images else "object"
        names[uid] = series_name(number, modality, item.instance_count, description=words, noun=noun)
    return names


def _header(stored: StoredInstance | None) -> Instance | None:
    """Return what a file says of itself, None where it is gone or cannot be read."""
    if stored is None:
        return None
    try:
        return headers.instance(stored.path, sha256=stored.sha256, keywords=_KEYWORDS)
    except (NodeError, OSError):
        return None
