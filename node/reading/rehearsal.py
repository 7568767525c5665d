"""A question that a reader process answers with a whole reading of nobody: what fails on the way fails before a study.

The reading holds every noun that an answer can hold; no handler is loaded for it.
"""

from dataclasses import dataclass
from typing import Final

from ainode.node.domain import (
    UID,
    Algorithm,
    Attachment,
    Capture,
    Code,
    Document,
    DocumentKind,
    Finding,
    InstanceRef,
    LabelMap,
    Measurement,
    Outline,
    Reading,
    Region,
    Result,
    Saliency,
    Segment,
    Segmented,
    TimePoint,
    Verdict,
    WeightsStatus,
    Window,
)
from ainode.node.domain.verdict import Band

_STUDY: Final = UID("2.25.1")
_SERIES: Final = UID("2.25.2")
_IMAGE: Final = InstanceRef(_STUDY, _SERIES, UID("1.2.840.10008.5.1.4.1.1.2"), UID("2.25.3"))
_CODE: Final = Code("rehearsal", "99AINODE", "Rehearsal")
_PLANES_MM: Final = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class RehearsalQuestion:
    """Asks a reader process for the reading of nobody."""


def rehearsed_reading() -> Reading:
    """Return the reading of nobody; it is the same in every process."""
    contours = tuple(((0.0, 0.0, z), (1.0, 0.0, z), (0.0, 1.0, z), (0.0, 0.0, z)) for z in _PLANES_MM)
    finding = Finding(
        "rehearsal",
        _CODE,
        _CODE,
        (Measurement(_CODE, 50.0, _CODE, (_IMAGE,)),),
        (_IMAGE,),
        region=Region.box(_IMAGE, left=0, top=0, right=1, bottom=1),
        verdict=Verdict.of(0.5, 0.5, band=Band(0.4, 0.6), about=_CODE),
        outline=Outline(UID("2.25.4"), _SERIES, contours),
    )
    result = Result(
        study_instance_uid=_STUDY,
        algorithm=Algorithm("rehearsal", "1", "0" * 64, WeightsStatus.DEMONSTRATION),
        title="Rehearsal",
        procedure=_CODE,
        findings=(finding,),
        captures=(Capture(_IMAGE, "Rehearsal", (), Saliency(1, 2, b"\0\xff"), window=Window(0.0, 2.0)),),
        evidence=(_IMAGE,),
        key_images=(_IMAGE,),
        scores={"probability": 0.5},
        course=(TimePoint("rehearsal", _STUDY, None, {"diameter in mm": 1.0}),),
        segmented=Segmented("REHEARSAL", (Segment("rehearsal", _CODE, _CODE),), (LabelMap(_IMAGE, 1, 2, b"\0\1"),)),
        attachments=(Attachment(b"rehearsal", ("SR",)),),
    )
    document = Document(DocumentKind.STRUCTURED_REPORT, _IMAGE, b"rehearsal")
    return Reading(result, (document,), "{}", 0.0)
