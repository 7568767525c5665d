"""A workitem of a worklist (PS3.3 C.30, PS3.4 CC): what the node reads of one, and what the node writes into one. Pure.

The Patient ID of a workitem never appears in a `repr`, a log line or an error.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from ainode.node.archive.dicom_json import JsonDataset, items, text, texts
from ainode.node.domain import NO_UID, UID, Code, InstanceRef, Patient

SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED = "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"
"""Procedure Step State (0074,1000)"""
READY: Final = "READY"
"""Input Readiness State (0040,4041)"""
FINAL_STATES: Final = frozenset({COMPLETED, CANCELED})
# PS3.3 table C.30.1-1 has HIGH; some worklists say STAT, as Requested Procedure Priority does.
_URGENT: Final = frozenset({"HIGH", "STAT"})
# PS3.16 CID 9231: what the node does where a workitem does not say what is to be done.
_DETECTION: Final = Code("110004", "DCM", "Computer Aided Detection")
_MAX_SHORT_TEXT, _MAX_LONG_TEXT = 1024, 10_240
"""PS3.5 6.2: characters of ST and LT"""


@dataclass(frozen=True, slots=True)
class InputItem:
    """An item of Input Information Sequence (0040,4021): instances of a series, and where they are."""

    study_instance_uid: UID
    ae_titles: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    """of WADO-RS"""


@dataclass(frozen=True, slots=True)
class Workitem:
    """What the node reads of a workitem; an absent attribute is '' or ()."""

    uid: UID
    state: str = ""
    readiness: str = ""
    label: str = ""
    priority: str = ""
    start: str = ""
    """Scheduled Procedure Step Start DateTime (0040,4005)"""
    study_instance_uid: UID = NO_UID
    """the study that the output belongs to"""
    inputs: tuple[InputItem, ...] = ()
    workitem_codes: tuple[Code, ...] = ()
    station_codes: tuple[Code, ...] = ()
    patient: Patient = field(default=Patient(), repr=False)

    @property
    def is_urgent(self) -> bool:
        """Return whether the item is to be done before others."""
        return self.priority in _URGENT


def workitem_of(dataset: JsonDataset) -> Workitem:
    """Return the workitem of a data set."""
    return Workitem(
        uid=UID(text(dataset, "SOPInstanceUID")),
        state=text(dataset, "ProcedureStepState"),
        readiness=text(dataset, "InputReadinessState"),
        label=text(dataset, "WorklistLabel"),
        priority=text(dataset, "ScheduledProcedureStepPriority"),
        start=text(dataset, "ScheduledProcedureStepStartDateTime"),
        study_instance_uid=UID(text(dataset, "StudyInstanceUID")),
        inputs=tuple(map(_input_of, items(dataset, "InputInformationSequence"))),
        workitem_codes=tuple(map(_code_of, items(dataset, "ScheduledWorkitemCodeSequence"))),
        station_codes=tuple(map(_code_of, items(dataset, "ScheduledStationNameCodeSequence"))),
        patient=_patient_of(dataset),
    )


def _patient_of(dataset: JsonDataset) -> Patient:
    qualifiers = items(dataset, "IssuerOfPatientIDQualifiersSequence")
    universal_issuer = next((text(item, "UniversalEntityID") for item in qualifiers), "")
    issuer = text(dataset, "IssuerOfPatientID")
    return Patient(text(dataset, "PatientID"), issuer, universal_issuer=universal_issuer)


def _input_of(item: JsonDataset) -> InputItem:
    titles = (title for place in items(item, "DICOMRetrievalSequence") for title in texts(place, "RetrieveAETitle"))
    urls = (url for place in items(item, "WADORSRetrievalSequence") for url in texts(place, "RetrieveURL"))
    return InputItem(UID(text(item, "StudyInstanceUID")), tuple(filter(None, titles)), tuple(filter(None, urls)))


def _code_of(item: JsonDataset) -> Code:
    return Code(*(text(item, keyword) for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")))


@dataclass(frozen=True, slots=True)
class Performance:
    """Who performs a workitem, and since when."""

    station: Code
    begun_at: datetime
    workitem: Code = _DETECTION


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Why a workitem is canceled."""

    reason: str
    code: Code
    at: datetime


@dataclass(frozen=True, slots=True)
class Output:
    """Documents that a workitem made, and the archive that has them."""

    refs: tuple[InstanceRef, ...]
    ae_title: str = ""
    address: str = ""
    """of the archive's DICOMweb service"""


def performed_workitem(workitem: Workitem) -> Code:
    """Return the code of what was done: that of what is to be done."""
    return next((code for code in workitem.workitem_codes if code.value and code.scheme), _DETECTION)


def progress(percent: int, description: str, performance: Performance) -> dict[str, Any]:
    """Return the update that reports progress of a claimed workitem."""
    return {
        "00741002": _sequence({**_percent(percent), **_value("00741006", "ST", description[:_MAX_SHORT_TEXT])}),
        "00741216": _sequence(_performed(performance)),
    }


def completion(outputs: Sequence[Output], performance: Performance, ended_at: datetime) -> dict[str, Any]:
    """Return the update that a workitem needs before its state becomes COMPLETED (PS3.4 table CC.2.5-3)."""
    performed = {**_performed(performance), **_ended(outputs, ended_at)}
    return {"00741002": _sequence(_percent(100)), "00741216": _sequence(performed)}


def cancellation(
    canceled: Cancellation, percent: int, outputs: Sequence[Output], performance: Performance
) -> dict[str, Any]:
    """Return the update that a workitem needs before its state becomes CANCELED (PS3.4 table CC.2.5-3)."""
    stopped = {
        **_percent(percent),
        **_value("00404052", "DT", _time(canceled.at)),
        **_value("00741238", "LT", canceled.reason[:_MAX_LONG_TEXT]),
        "0074100E": _sequence(_code(canceled.code)),
    }
    performed = {**_performed(performance), **_ended(outputs, canceled.at)}
    return {"00741002": _sequence(stopped), "00741216": _sequence(performed)}


def _performed(performance: Performance) -> dict[str, Any]:
    return {
        "00404028": _sequence(_code(performance.station)),
        "00404019": _sequence(_code(performance.workitem)),
        **_value("00404050", "DT", _time(performance.begun_at)),
    }


def _ended(outputs: Sequence[Output], ended_at: datetime) -> dict[str, Any]:
    return {
        **_value("00404051", "DT", _time(ended_at)),
        "00404033": _sequence(*(item for output in outputs for item in _output_items(output))),
    }


def _output_items(output: Output) -> Iterable[dict[str, Any]]:
    """Yield an item for each series (PS3.3 table 10-3b, Referenced Instances and Access Macro)."""

    def series_of(ref: InstanceRef) -> tuple[UID, UID]:
        return ref.study_instance_uid, ref.series_instance_uid

    for (study, series), refs in groupby(sorted(output.refs, key=series_of), series_of):
        item = {
            **_value("0040E020", "CS", "DICOM"),
            **_value("0020000D", "UI", study),
            **_value("0020000E", "UI", series),
            "00081199": _sequence(
                *({**_value("00081150", "UI", ref.sop_class_uid), **_value("00081155", "UI", ref.sop_instance_uid)}
                  for ref in refs)
            ),
        }  # fmt: skip
        if output.ae_title:
            item["0040E021"] = _sequence(_value("00080054", "AE", output.ae_title))
        if output.address:
            url = f"{output.address.rstrip('/')}/studies/{study}/series/{series}"
            item["0040E025"] = _sequence(_value("00081190", "UR", url))
        yield item


def _percent(percent: int) -> dict[str, Any]:
    return _value("00741004", "DS", str(percent))


def _time(time: datetime) -> str:
    """Return a DT with its offset from UTC, which the two sides need not share."""
    return time.strftime("%Y%m%d%H%M%S%z")


def _code(code: Code) -> dict[str, Any]:
    values = (("00080100", "SH", code.value), ("00080102", "SH", code.scheme), ("00080104", "LO", code.meaning))
    return {tag: element for triple in values for tag, element in _value(*triple).items()}


def _value(tag: str, vr: str, value: str) -> dict[str, Any]:
    return {tag: {"vr": vr, "Value": [value]} if value else {"vr": vr}}


def _sequence(*sequence_items: dict[str, Any]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(sequence_items)} if sequence_items else {"vr": "SQ"}
