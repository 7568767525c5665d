"""Which elements of a header are no patient attribute, for a person who may not see who the patient is.

What is not listed here is hidden: the standard grows, and devices write what they like. PS3.15 table E.1-1 lists no
element that passes but UIDs and the study date, by which the pages name studies and images anyway.
"""

import re
from typing import Final

from pydicom import DataElement
from pydicom.datadict import dictionary_has_tag, dictionary_is_retired, dictionary_VR
from pydicom.tag import BaseTag

_NUMBERS: Final = frozenset({"AT", "DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
# Acquisition, relation of the images, their pixels, nuclear medicine, functional groups: numbers and coded strings.
_GROUPS: Final = frozenset({0x0018, 0x0020, 0x0028, 0x0054, 0x5200})
_GROUPS_OF_UIDS: Final = frozenset({0x0002, 0x0008, 0x0020})
# Members of these groups that PS3.15 table E.1-1 lists all the same.
_LISTED: Final = frozenset({"FunctionalSyncPulse", "TransducerIdentificationSequence", "UDISequence"})
_KEYWORDS: Final = frozenset(
    {
        "ConversionType",
        "ConvolutionKernel",
        "FilterType",
        "ImageType",
        "ImplementationVersionName",
        "Manufacturer",
        "ManufacturerModelName",
        "Modality",
        "PresentationIntentType",
        "SequenceName",
        "SoftwareVersions",
        "SpecificCharacterSet",
    }
)
# Their items hold codes: of a place in the body, a view, an agent.
_CODED_SEQUENCES: Final = frozenset(
    {
        "AnatomicRegionModifierSequence",
        "AnatomicRegionSequence",
        "ContrastBolusAgentSequence",
        "PatientGantryRelationshipCodeSequence",
        "PatientOrientationCodeSequence",
        "PatientOrientationModifierCodeSequence",
        "PrimaryAnatomicStructureSequence",
        "RadionuclideCodeSequence",
        "RadiopharmaceuticalCodeSequence",
        "ViewCodeSequence",
        "ViewModifierCodeSequence",
    }
)
_REFERENCES: Final = frozenset({"DerivationImageSequence", "ReferencedImageSequence", "SourceImageSequence"})
_CODE_KEYWORDS: Final = frozenset({"CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning"})
# PS3.5 6.2, as `deciding/explanations.py` keeps values; what is written in another way may be a person's words.
_CODED_STRING: Final = re.compile(r"[A-Z0-9_ ]{0,16}")

_DATE: Final = re.compile(r"[0-9]{8}", re.ASCII)


def is_impersonal(element: DataElement, sequence: str) -> bool:
    """Return whether the value of an element is no patient attribute; `sequence` is the keyword of what holds it.

    The dictionary says what an element is: a file may give its own VR to a name.
    """
    tag = element.tag
    if tag.is_private or not dictionary_has_tag(tag) or dictionary_is_retired(tag):
        return False
    if element.VR not in dictionary_VR(tag).split(" or "):
        return False
    if element.keyword == "StudyDate":
        return not sequence and _DATE.fullmatch(str(element.value)) is not None
    if element.keyword in _CODE_KEYWORDS:
        return sequence in _CODED_SEQUENCES
    return element.keyword in _KEYWORDS or _is_coded(element, tag)


def _is_coded(element: DataElement, tag: BaseTag) -> bool:
    if element.VR == "UI":
        return tag.group in _GROUPS_OF_UIDS
    if element.VR == "SQ" and element.keyword in _CODED_SEQUENCES | _REFERENCES:
        return True
    if tag.group not in _GROUPS or element.keyword in _LISTED:
        return False
    return element.VR in _NUMBERS | {"SQ"} or (
        element.VR == "CS" and all(map(_CODED_STRING.fullmatch, _strings(element)))
    )


def _strings(element: DataElement) -> list[str]:
    return [str(value) for value in (element.value if element.VM > 1 else [element.value or ""])]
