"""What decided that a route takes a series, in the words of whoever reads a study; pure.

Modality, body part and view come first, then what else the route asks for. What the node asks of every image, such as
that it has pixels, decides between no two routes and is left out.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.uid import UID

from ainode.node.domain import counted
from ainode.node.routes import ENOUGH_IMAGES, NOT_KEPT, NOT_SHOWN, OF_EVERY_IMAGE, Check

_NAMES: Final = {
    "Modality": "modality",
    "BodyPartExamined": "body part",
    "ViewPosition": "view",
    "SOPClassUID": "kind of image",
}
"""of attributes that have a word of their own in the reading room, first to last"""
# An image that is too small for a model comes nowhere near the question of what it shows.
_SIZES: Final = frozenset({"Rows", "Columns"})
_ANY_NUMBER: Final = ">=1"
_UNSEEN: Final = {
    NOT_KEPT: "its own words are not kept: they may name a person",
    NOT_SHOWN: "its own value is the patient's",
}
# A body part as the catalog keeps it: the part, and which attribute said so in which word.
_BODY_PART: Final = re.compile(r"([A-Z ]+) \(([A-Za-z]+): ([^)]*)\)")


def deciding_words(checks: Iterable[Check]) -> str:
    """Return the conditions that decided, such as `modality CT, body part CHEST, 120 images`; '' if none did."""
    order = tuple(_NAMES)
    telling = sorted(
        filter(_is_telling, checks),
        key=lambda check: order.index(check.attribute) if check.attribute in order else len(order),
    )
    return ", ".join(dict.fromkeys(map(_words, telling)))


def kept_deciding_words(checks: Iterable[Mapping[str, Any]]) -> str:
    """Return the same of checks as the catalog keeps them."""
    return deciding_words(Check(**check) for check in checks)


def _is_telling(check: Check) -> bool:
    """Return whether a condition says which images a route is for, not which strangers it keeps out."""
    if check.attribute == ENOUGH_IMAGES:
        return check.expected != _ANY_NUMBER
    is_guard = check.expected.startswith("!") or check.attribute in _SIZES
    return not is_guard and (check.attribute == "Modality" or check.expected not in OF_EVERY_IMAGE)


def _words(check: Check) -> str:
    """Return a condition that holds, in words; of a value that is not kept or shown, what the route asks for."""
    name = _NAMES.get(check.attribute) or attribute_words(check.attribute)
    if check.attribute == ENOUGH_IMAGES:
        number, comma, rest = check.found.partition(",")
        return f"{counted(int(number), 'image')}{comma}{rest}"
    if reason := _UNSEEN.get(check.found):
        return f'{name} fits "{check.expected}" ({reason})'
    if check.attribute == "SOPClassUID":
        return f"{name} {', '.join(UID(uid).name for uid in check.found.split(', '))}"
    found = check.found
    if part := _BODY_PART.fullmatch(found):
        is_plain = part[1] == part[3] and part[2] == check.attribute
        found = part[1] if is_plain else f"{part[1]} (by {attribute_words(part[2])}: {part[3]})"
    return f"{name} {found}"


def attribute_words(keyword: str) -> str:
    """Return the name of an attribute as DICOM prints it; what is no keyword of DICOM stays as it is."""
    tag = tag_for_keyword(keyword)
    return keyword if tag is None else dictionary_description(tag)
