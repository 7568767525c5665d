"""What people call the series and images of a study, in the place of their UIDs in a sentence; pure."""

import re
from collections.abc import Iterator
from typing import Final

from ainode.node.domain import Instance, Study, counted

UID_IN_SENTENCE: Final = re.compile(r"(?<![\w./-])[0-2](?:\.[0-9]+){2,}(?![\w/-])")
"""a UID; not a part of a path, which is to be found as it stands"""
# PS3.5 6.2, IS and CS: what is no number or code may be a person's words.
_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,12}")
_CODE: Final = re.compile(r"[A-Z0-9_ ]{1,16}")


def with_names(text: str, study: Study) -> str:
    """Return a sentence with `3 (CT, 120 images)` in the place of the UID of a series of the study, and so of an image.

    No word of a header is in it but numbers and codes. A UID that is not of the study stays.
    """
    if not UID_IN_SENTENCE.search(text):
        return text
    names: dict[str, str] = dict(_names(study))
    return UID_IN_SENTENCE.sub(lambda match: names.get(match[0], match[0]), text)


def series_name(number: str, modality: str, count: int, *, description: str = "", noun: str = "image") -> str:
    """Return what people call a series, such as `3 (CT, thin, 120 images)`."""
    return f"{number} ({', '.join(filter(None, (modality, description, counted(count, noun))))})"


def plain_number(instance: Instance | None, keyword: str) -> str:
    """Return a number of a header, '' where it is none."""
    text = instance.text(keyword).strip() if instance else ""
    return text if _NUMBER.fullmatch(text) else ""


def plain_code(instance: Instance | None, keyword: str) -> str:
    """Return a code of a header, '' where it is none."""
    text = instance.text(keyword).strip() if instance else ""
    return text if _CODE.fullmatch(text) else ""


def _names(study: Study) -> Iterator[tuple[str, str]]:
    for place, series in enumerate(study.series, start=1):
        first = series.instances[0] if series.instances else None
        number = plain_number(first, "SeriesNumber") or f"{place} of {len(study.series)}"
        name = series_name(number, plain_code(first, "Modality"), len(series.instances))
        yield series.series_instance_uid, name
        for instance in series.instances:
            if image := plain_number(instance, "InstanceNumber"):
                yield instance.ref.sop_instance_uid, f"number {image} in series {name}"
