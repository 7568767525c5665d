"""Texts, codes, issuers and references as documents repeat them: each is whole, or left out.

Archives and modalities leave items empty, identifiers without their type, codes without a value and texts that are too
long. A document must not repeat that: an archive that validates refuses the document (PS3.3 8, 10).
"""

import unicodedata
from collections.abc import Callable, Iterable

from pydicom import Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from ainode.node.domain import is_uid

Mender = Callable[[Dataset], Dataset]

_UNIVERSAL_TYPES = ("DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500")
_CODE_TEXTS = ("CodeValue", "LongCodeValue", "URNCodeValue")
_CONTEXT = ("ContextIdentifier", "MappingResource", "ContextGroupVersion")
_MAX_CODE_LENGTH = 16  # characters of an SH
# The control characters of texts of several lines (PS3.5 6.1.3); other texts have none.
_LINE_CONTROLS = frozenset("\t\n\f\r")
_SEVERAL_LINES = frozenset({"LT", "ST", "UT"})


def copied(holder: Dataset, keywords: Iterable[str]) -> Dataset:
    """Return the elements of these keywords, without elements that are empty or break the rules of their VR."""
    elements = Dataset()
    for keyword in keywords:
        if valid_text(holder, keyword):
            elements.add(holder[keyword])
    return elements


def valid_text(holder: Dataset, keyword: str) -> str:
    """Return the text of an element; '' where the element is absent, or a value breaks the rules of the VR.

    Several values where the standard has one break them too.
    """
    value = holder.get(keyword)
    parts = value if isinstance(value, MultiValue) else [value]
    vr = dictionary_VR(keyword)
    is_one = len(parts) == 1 or dictionary_VM(keyword) != "1"
    if value is None or not (is_one and all(_is_valid(part, vr) for part in parts)):
        return ""
    return "\\".join(map(str, parts)).strip()


def _is_valid(value: object, vr: str) -> bool:
    text = str(value)
    try:
        validate_value(vr, value if isinstance(value, int) else text, RAISE)
    except ValueError:
        return False
    controls = {character for character in text if unicodedata.category(character) == "Cc"}
    # pydicom takes a range for a date or a time, which it is in a query alone.
    is_range = vr in {"DA", "TM"} and "-" in text
    return not is_range and controls <= (_LINE_CONTROLS if vr in _SEVERAL_LINES else frozenset())


def mended_items(holder: Dataset, keyword: str, mender: Mender, most: int | None = None) -> list[Dataset]:
    """Return the mended items of a sequence; none if there are more than `most`, or an item has nothing to mend.

    A sequence with fewer items than that of the source would contradict the source.
    """
    items = [mender(item) for item in holder.get(keyword) or ()]
    return items if all(items) and len(items) <= (most or len(items)) else []


def whole_code(item: Dataset) -> Dataset:
    """Return a code with value, scheme and meaning, and with its context group where that is whole (PS3.3 8)."""
    # A value that is too long for an SH is written where long values belong.
    value = next((text for text in (str(item.get(keyword) or "").strip() for keyword in _CODE_TEXTS) if text), "")
    is_urn = value == valid_text(item, "URNCodeValue")
    code = copied(item, ("CodingSchemeDesignator", "CodeMeaning", "CodingSchemeVersion"))
    if not (value and "CodeMeaning" in code and ("CodingSchemeDesignator" in code or is_urn)):
        return Dataset()
    keyword = "URNCodeValue" if is_urn else "CodeValue" if len(value) <= _MAX_CODE_LENGTH else "LongCodeValue"
    setattr(code, keyword, value)
    context = copied(item, _CONTEXT)
    if len(context) == len(_CONTEXT):
        code.update(context)
        code.update(copied(item, ("ContextUID", "MappingResourceUID", "MappingResourceName")))
    return code


def whole_issuer(item: Dataset) -> Dataset:
    """Return an issuer with its local name, its universal identifier, or both (PS3.3 10.14)."""
    issuer = copied(item, ("LocalNamespaceEntityID",))
    issuer.update(universal_identifier(item))
    return issuer


def universal_identifier(item: Dataset) -> Dataset:
    """Return the universal identifier of an issuer with its type."""
    identifier = copied(item, ("UniversalEntityID", "UniversalEntityIDType"))
    is_whole = "UniversalEntityID" in identifier and identifier.get("UniversalEntityIDType") in _UNIVERSAL_TYPES
    return identifier if is_whole else Dataset()


def whole_reference(item: Dataset) -> Dataset:
    """Return a reference with both of its UIDs (PS3.3 10.8)."""
    reference = copied(item, ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"))
    is_whole = len(reference) == 2 and all(is_uid(str(element.value)) for element in reference)  # noqa: PLR2004 - two UIDs
    return reference if is_whole else Dataset()
