"""What a DICOM object of a program states of a patient, a study, an order and persons, held against the images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue

from ainode.node.domain import Instance

# Groups of the patient, of a clinical trial, of a visit.
_GROUPS: Final = frozenset((0x0010, 0x0012, 0x0038))
# What the objects of one study may not state differently (PS3.3 C.7.2.1, C.7.2.2).
_OF_THE_STUDY: Final = frozenset(
    (
        "StudyDate",
        "StudyTime",
        "StudyID",
        "StudyDescription",
        "AccessionNumber",
        "ReferringPhysicianName",
        "ConsultingPhysicianName",
        "PhysiciansOfRecord",
        "NameOfPhysiciansReadingStudy",
        "AdmissionID",
    )
)
_OF_THE_ORDER: Final = (
    "Requested",
    "Requesting",
    "Placer",
    "Filler",
    "Scheduled",
    "ImagingServiceRequest",
)
_REASONS: Final = frozenset(("ReasonForTheRequestedProcedure", "ReasonForTheImagingServiceRequest", "ReasonForVisit"))
_CREATOR: Final = "ContentCreatorName"
"""who made a segmentation or a presentation state: a program may have a name of its own"""
_PERSON, _STUDY = "PersonName", "StudyInstanceUID"
STUDY_SEQUENCES: Final = frozenset(("ReferencedStudySequence", "RTReferencedStudySequence"))
"""of their items, the Referenced SOP Instance UID is a Study Instance UID (PS3.3 C.7.2.1, C.8.8.5)"""
# PS3.16 TID 1005 to 1010, and for studies annex D: what a content item states, and where its value stands.
_CONTENT_ITEMS: Final[Mapping[str, tuple[str, str]]] = {
    "110180": (_STUDY, "UID"),
    "121018": (_STUDY, "UID"),
    "121020": ("PlacerOrderNumberImagingServiceRequest", "TextValue"),
    "121021": ("FillerOrderNumberImagingServiceRequest", "TextValue"),
    "121022": ("AccessionNumber", "TextValue"),
    "121029": ("PatientName", "PersonName"),
    "121030": ("PatientID", "TextValue"),
    "121031": ("PatientBirthDate", "Date"),
    "121032": ("PatientSex", "CodeValue"),
    "121033": ("PatientAge", "NumericValue"),
    "121034": ("PatientSpecies", "CodeValue"),
}
_HUMAN: Final = ("337915000", "L-85B00")  # of SNOMED CT and SRT
_OF_A_PERSON: Final[Mapping[str, str]] = {"VerificationFlag": "VERIFIED", "ApprovalStatus": "APPROVED"}
# Values in which nobody looks for a name: where DICOM has text, or nothing, they may hold one.
_OF_BYTES: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_OVERLAYS: Final = range(0x6000, 0x6100)
# Encrypted attributes, and what a signature is made of (PS3.15 C): (0400,0561), attributes as they were, can be read.
_ENCRYPTED: Final = 0x04000500
_SIGNATURES: Final = frozenset((0xFFFAFFFA, 0x4FFE0001))

# What is stated of what, to the keyword that states it.
_Statements = dict[tuple[str, str], str]


def false_statement(dataset: Dataset, sources: Sequence[Instance]) -> str:
    """Return the keyword of what a data set states, at any depth, and none of the images does; '' without any."""
    unknown = _statements(dataset)
    for source in sources if unknown else ():
        of_image = _image_statements(dcmread(source.path, stop_before_pixels=True))
        unknown = {statement: keyword for statement, keyword in unknown.items() if statement not in of_image}
        if not unknown:
            break
    return min(unknown.values(), default="")


def unheld(dataset: Dataset, *, may_overlay: bool) -> str:
    """Return what of a data set no program may say, or nobody can hold against the images; '' without any."""
    words = (_unheld(element, may_overlay=may_overlay) for element in dataset.iterall())
    return next(filter(None, words), "")


def _unheld(element: DataElement, *, may_overlay: bool) -> str:
    is_said = element.keyword in _OF_A_PERSON and plain(element.value).upper() == _OF_A_PERSON[element.keyword]
    if is_said or (element.keyword == "VerifyingObserverSequence" and element.value):
        return "it says that a person verified or approved it"
    if element.tag == _ENCRYPTED:
        return "it has encrypted attributes, into which nobody can look"
    if element.tag in _SIGNATURES:
        return "it has a digital signature, which does not hold once the node has marked the object"
    if element.tag.group in _OVERLAYS and not may_overlay:
        return "it has an overlay beside its pixels; burn it in, or write a presentation state"
    if element.VR in _OF_BYTES and not element.tag.is_private and _OF_BYTES.isdisjoint(_standard_vrs(element)):
        return f"its {element.keyword or element.tag} has bytes where DICOM has none, into which nobody can look"
    return ""


def _standard_vrs(element: DataElement) -> Sequence[str]:
    """Return the value representations that an element of the standard may have; none of an unknown element."""
    try:
        return dictionary_VR(element.tag).split(" or ")
    except KeyError:
        return ()


def _statements(dataset: Dataset) -> _Statements:
    """Return what a data set states, without empty values."""
    stated: _Statements = {}
    for element in dataset.iterall():
        if element.VR != "SQ" and is_statement(element):
            stated[(element.keyword or str(element.tag), plain(element.value))] = element.keyword or str(element.tag)
        elif element.keyword == _STUDY or (element.VR == "PN" and element.keyword != _CREATOR):
            about = _STUDY if element.keyword == _STUDY else _PERSON
            stated |= {(about, text): element.keyword for text in texts(element)}
        elif element.keyword in STUDY_SEQUENCES:
            stated |= {(_STUDY, _text(item, "ReferencedSOPInstanceUID")): element.keyword for item in element.value}
    for item in _items(dataset):
        about, place = _CONTENT_ITEMS.get(concept_of_item(item), ("", ""))
        if about:
            stated[(about, _value(item, place))] = about
    return {statement: keyword for statement, keyword in stated.items() if statement[1]}


def _image_statements(dataset: Dataset) -> set[tuple[str, str]]:
    """Return what an image states, in all forms in which an object may repeat it."""
    statements = {*_statements(dataset), *(("PatientSpecies", code) for code in _HUMAN)}
    for element in dataset.iterall():
        if element.VR in {"PN", "UI"}:
            about = _PERSON if element.VR == "PN" else _STUDY
            statements |= {(about, text) for text in texts(element)}
        elif element.keyword == "PatientAge":
            statements |= {("PatientAge", plain(element.value).rstrip("DWMY").lstrip("0"))}
        elif element.keyword.startswith(("Placer", "Filler")):
            statements |= {(f"{element.keyword[:6]}OrderNumberImagingServiceRequest", plain(element.value))}
    return statements


def is_statement(element: DataElement) -> bool:
    """Return whether an element is a place for what is stated of patient, trial, visit, order or study."""
    is_of_the_order = element.keyword.startswith(_OF_THE_ORDER) or element.keyword in _REASONS
    return element.tag.group in _GROUPS or element.keyword in _OF_THE_STUDY or is_of_the_order


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Yield a data set and every item in it."""
    yield dataset
    for element in dataset:
        for item in element.value if element.VR == "SQ" else ():
            yield from _items(item)


def concept_of_item(item: Dataset) -> str:
    """Return the code of a content item's concept where it is one of DICOM's own, else ''."""
    names: Iterable[Dataset] = item.get("ConceptNameCodeSequence") or ()
    return next((_text(name, "CodeValue") for name in names if _text(name, "CodingSchemeDesignator") == "DCM"), "")


def statement_of_item(item: Dataset) -> str:
    """Return the keyword under which a content item states something of patient, order or study; '' if it does not."""
    return _CONTENT_ITEMS.get(concept_of_item(item), ("", ""))[1]


def _value(item: Dataset, place: str) -> str:
    """Return the value of a content item."""
    if place == "CodeValue":
        return next((_text(code, place) for code in item.get("ConceptCodeSequence") or ()), "")
    if place == "NumericValue":
        return next((_text(value, place) for value in item.get("MeasuredValueSequence") or ()), "")
    return _text(item, place)


def _text(item: Dataset, keyword: str) -> str:
    return plain(item.get(keyword))


def texts(element: DataElement) -> Iterator[str]:
    """Yield each value of an element as `plain` text."""
    values = element.value if isinstance(element.value, MultiValue) else (element.value,)
    yield from map(plain, values)


def plain(value: object) -> str:
    """Return a value as text without padding, as two objects may write it; names without empty components."""
    return str("" if value is None else value).rstrip(" ^=").strip()
