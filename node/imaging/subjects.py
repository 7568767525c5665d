"""Whether an image is of a human patient: not of a phantom for quality control, and not of an animal."""

import re
from collections.abc import Mapping
from typing import Final

from ainode.node.domain import Instance
from ainode.node.imaging.free_text import unaccented

NO_PATIENT: Final = "no-human-patient"
"""the code of the refusals"""
# PS3.3 C.7.6.1 (0028,0300): BOTH is an image of a patient with a phantom.
_QUALITY_CONTROL: Final = frozenset({"YES", "BOTH"})
# Homo sapiens of SNOMED CT and SRT (PS3.16 CID 7454), and of the taxonomy of NCBI.
_HUMAN_CODES: Final = frozenset({"337915000", "L-85B00", "9606"})
_HUMAN_WORDS: Final = frozenset({"homo", "human", "mensch", "humain", "humano", "humana", "umano", "unknown"})


def subject_reason(instance: Instance) -> str:
    """Return what says that the image is of no human patient, in words; '' if nothing says so.

    The description of a species is not quoted: it is free text.
    Source: PS3.3 C.7.6.1 (Quality Control Image), C.7.1.1 (Patient Species).
    """
    quality = instance.text("QualityControlImage").strip().upper()
    if quality in _QUALITY_CONTROL:
        return f"Quality Control Image (0028,0300) is {quality}; images of patients are read"
    items = instance.header.get("PatientSpeciesCodeSequence", ())
    codes = {
        str(item.get("CodeValue", "")).strip().upper()
        for item in (items if isinstance(items, tuple) else ())
        if isinstance(item, Mapping)
    } - {""}
    if codes and not codes & _HUMAN_CODES:
        return "Patient Species Code Sequence (0010,2202) names no human; humans are read"
    words = frozenset(re.findall(r"[a-z]+", unaccented(instance.text("PatientSpeciesDescription"))))
    if words and not codes and not words & _HUMAN_WORDS:
        return "Patient Species Description (0010,2201) names no human; humans are read"
    return ""
