"""A structured report as a tree of names and values in words; it runs in the process that decodes files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread

from ainode.node.domain import counted
from ainode.node.errors import CannotRender

# A report of the node has some hundred items.
_MOST_ITEMS: Final = 20_000
_DEEPEST: Final = 30
# PS3.16 CID 240, and the general absence of SNOMED CT.
_SIGNS: Final = {"272519000": "negative", "2667000": "negative", "52101004": "positive"}
_NO_UNITS: Final = frozenset({"1", "{no units}"})
_DIMENSIONS: Final = 3
_TRACKING_IDENTIFIER: Final = "112039"


def report_tree(path: Path) -> dict[str, Any]:
    """Return the root of a report: `name`, `code`, `value`, `value_code`, `sign` and `children` of each content item.

    `sign` is `negative` where something is said to be absent, `positive` where it is said to be present, else ''.

    Raises: CannotRender if the file is no structured report.
    """
    data_set = dcmread(path, stop_before_pixels=True)
    if "ContentSequence" not in data_set:
        raise CannotRender("the document is no structured report")
    return _node(data_set, [0], 0)


def _node(item: Dataset, count: list[int], depth: int) -> dict[str, Any]:
    count[0] += 1
    if count[0] > _MOST_ITEMS or depth > _DEEPEST:
        raise CannotRender("the report has more content than a page can show; download the report")
    name, code = _concept(item, "ConceptNameCodeSequence")
    value, value_code = _value(item)
    children = [_node(child, count, depth + 1) for child in item.get("ContentSequence", ())]
    sign = _SIGNS.get(_first(item, "ConceptCodeSequence").get("CodeValue", ""), "")
    return {
        "name": name or _title(str(item.get("ValueType", "item"))),
        "code": code,
        "value": value or _identifier(item),
        "value_code": value_code,
        "sign": sign,
        "children": children,
    }


def _title(value_type: str) -> str:
    return value_type.capitalize()


def _identifier(item: Dataset) -> str:
    """Return the tracking identifier of a measurement group, '' where a container has none."""
    for child in item.get("ContentSequence", ()):
        if _first(child, "ConceptNameCodeSequence").get("CodeValue") == _TRACKING_IDENTIFIER:
            return str(child.get("TextValue", ""))
    return ""


def _first(item: Dataset, keyword: str) -> Dataset:
    sequence = item.get(keyword)
    return sequence[0] if sequence else Dataset()


def _concept(item: Dataset, keyword: str) -> tuple[str, str]:
    """Return the meaning of a coded concept, and its value with its scheme; '' where there is none."""
    concept = _first(item, keyword)
    if not concept:
        return "", ""
    value = concept.get("CodeValue") or concept.get("LongCodeValue") or concept.get("URNCodeValue") or ""
    return str(concept.get("CodeMeaning", "")), f"{value}, {concept.get('CodingSchemeDesignator', '')}"


def _value(item: Dataset) -> tuple[str, str]:
    """Return the value of a content item in words, and the code behind the words."""
    value_type = str(item.get("ValueType", ""))
    if value_type == "CODE":
        return _concept(item, "ConceptCodeSequence")
    if value_type == "NUM":
        return _number(item)
    words = _WORDS.get(value_type)
    return (words(item) if words else ""), ""


def _number(item: Dataset) -> tuple[str, str]:
    measured = _first(item, "MeasuredValueSequence")
    if not measured:
        reason, code = _concept(item, "NumericValueQualifierCodeSequence")
        return f"no value: {reason}" if reason else "no value", code
    unit = _first(measured, "MeasurementUnitsCodeSequence")
    meaning, code = _concept(measured, "MeasurementUnitsCodeSequence")
    is_bare = str(unit.get("CodeValue", "")) in _NO_UNITS
    return f"{float(measured.NumericValue):g}" + ("" if is_bare else f" {meaning}"), code


def _reference(item: Dataset) -> str:
    referenced = _first(item, "ReferencedSOPSequence")
    frames = referenced.get("ReferencedFrameNumber")
    return f"instance {referenced.get('ReferencedSOPInstanceUID', '')}" + (f", frame {frames}" if frames else "")


def _region(item: Dataset) -> str:
    points = [float(number) for number in item.get("GraphicData", ())]
    shape = str(item.get("GraphicType", "")).lower()
    columns, rows = points[::2], points[1::2]
    if not rows:
        return shape
    place = f"columns {min(columns):.1f} to {max(columns):.1f}, rows {min(rows):.1f} to {max(rows):.1f}"
    return f"{shape} of {counted(len(rows), 'point')}, {place} (pixels)"


def _place(item: Dataset) -> str:
    count = len(item.get("GraphicData", ())) // _DIMENSIONS
    return f"{str(item.get('GraphicType', '')).lower()} of {counted(count, 'point')} in the patient"


def _text(keyword: str) -> Callable[[Dataset], str]:
    return lambda item: str(item.get(keyword, ""))


_WORDS: Final[Mapping[str, Callable[[Dataset], str]]] = {
    "TEXT": _text("TextValue"),
    "UIDREF": _text("UID"),
    "PNAME": _text("PersonName"),
    "DATE": _text("Date"),
    "TIME": _text("Time"),
    "DATETIME": _text("DateTime"),
    "IMAGE": _reference,
    "COMPOSITE": _reference,
    "WAVEFORM": _reference,
    "SCOORD": _region,
    "SCOORD3D": _place,
}
