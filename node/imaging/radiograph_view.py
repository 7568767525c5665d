"""From where a radiograph was taken and how it lies, as far as its header says it."""

from collections.abc import Mapping
from typing import Final

from ainode.node.domain import Header
from ainode.node.imaging.free_text import as_code, unaccented

# PS3.16 CID 4010: antero-posterior, postero-anterior, frontal.
_FROM_THE_FRONT: Final = frozenset({"399348003", "272479007", "399033003"})
_CONTRADICTORY_POLARITIES: Final = frozenset({("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")})
# Words of the other views of CID 4010, for codes of other schemes and of makers.
_OTHER_VIEWS: Final = ("lateral", "oblique", "sagittal", "axial", "tangential")


def not_from_the_front(header: Header, positions: tuple[str, ...]) -> str | None:
    """Return what says that the image was not taken from the front or the back; None where nothing says so.

    `positions` are the terms of View Position (PS3.3 C.8.11.5.1.1) that are from the front or the back.
    """
    position = str(header.get("ViewPosition", "")).upper()
    if position and position not in positions:
        return f"View Position is {as_code(position)}"
    for item in _items(header, "ViewCodeSequence"):
        value, scheme, meaning = (
            str(item.get(key, "")) for key in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        )
        if scheme == "SCT" and value not in _FROM_THE_FRONT:
            return f"View Code is {as_code(value)} of SCT"
        if named := next((word for word in _OTHER_VIEWS if word in unaccented(meaning)), None):
            return f"View Code is named {named}"
    along_row, _ = _orientation(header)
    return f"Patient Orientation is {_orientation_text(header)}" if along_row[:1] in {"A", "P"} else None


def not_upright(header: Header) -> str | None:
    """Return what says that the image does not show the head above; None where nothing says so.

    Patient Orientation names where the rows and the columns run to (PS3.3 C.7.6.1.1.1).
    """
    along_row, along_column = _orientation(header)
    if not along_row or (along_row[:1] not in {"H", "F"} and along_column[:1] == "F"):
        return None
    return f"Patient Orientation is {_orientation_text(header)}: the image does not have the head above"


def polarity_fault(header: Header) -> str | None:
    """Return why nobody knows whether large values are bright; None where the header says it, or says nothing.

    Some viewers invert by the one element, some by the other.
    Source: PS3.3 C.8.11.3.1.2 (MONOCHROME1 with INVERSE, MONOCHROME2 with IDENTITY).
    """
    photometric, shape = (
        str(header.get(keyword, "")).strip().upper()
        for keyword in ("PhotometricInterpretation", "PresentationLUTShape")
    )
    if (photometric, shape) not in _CONTRADICTORY_POLARITIES:
        return None
    return f"Photometric Interpretation is {photometric}, but Presentation LUT Shape is {shape}: one of them inverts it"


def _orientation(header: Header) -> tuple[str, str]:
    """Return where rows and columns run to, '' for both where the header does not say both."""
    values = header.get("PatientOrientation")
    if not isinstance(values, tuple) or len(values) != 2:  # noqa: PLR2004 - of rows and of columns
        return "", ""
    along_row, along_column = (str(value).strip().upper() for value in values)
    return (along_row, along_column) if along_row and along_column else ("", "")


def _orientation_text(header: Header) -> str:
    return "\\".join(as_code(value) for value in _orientation(header))


def _items(header: Header, keyword: str) -> tuple[Header, ...]:
    values = header.get(keyword)
    return tuple(item for item in values if isinstance(item, Mapping)) if isinstance(values, tuple) else ()
