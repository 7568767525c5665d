"""What the node writes into a workitem, and reads of one, as pydicom knows it."""

from datetime import UTC, datetime, timedelta, timezone

from pydicom import Dataset
from pydicom.datadict import dictionary_VR

from ainode.node.archive.workitem import (
    Cancellation,
    Output,
    Performance,
    cancellation,
    completion,
    progress,
    workitem_of,
)
from ainode.node.domain import UID, Code, InstanceRef

CODE = Code("110513", "DCM", "Discontinued for unspecified reason")
PERFORMANCE = Performance(
    Code("AINODE", "99AINODE", "ainode"), datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
)
REFS = tuple(
    InstanceRef(UID("1"), UID(series), UID("1.2"), UID(f"{series}.{n}")) for series in ("2", "3") for n in (1, 2)
)


def read(values: dict[str, object]) -> Dataset:
    dataset = Dataset.from_json(values)
    assert all(dictionary_VR(element.tag) == element.VR for element in dataset.iterall())
    return dataset


def test_a_completion_names_each_series_of_its_output_and_where_it_is() -> None:
    outputs = [Output(REFS, "PACS", "https://pacs/rs/"), Output(REFS[:1], "", "")]
    dataset = read(completion(outputs, PERFORMANCE, datetime(2026, 1, 2, 4, tzinfo=UTC)))
    performed = dataset.UnifiedProcedureStepPerformedProcedureSequence[0]
    assert performed.PerformedProcedureStepStartDateTime == "20260102030405+0200"
    assert performed.PerformedProcedureStepEndDateTime == "20260102040000+0000"
    first, second, third = performed.OutputInformationSequence
    assert [len(item.ReferencedSOPSequence) for item in (first, second, third)] == [2, 2, 1]
    assert first.WADORSRetrievalSequence[0].RetrieveURL == "https://pacs/rs/studies/1/series/2"
    assert second.DICOMRetrievalSequence[0].RetrieveAETitle == "PACS"
    assert "WADORSRetrievalSequence" not in third
    assert "DICOMRetrievalSequence" not in third


def test_words_that_are_too_long_are_shortened_to_what_the_value_representations_take() -> None:
    told = read(progress(40, "x" * 5000, PERFORMANCE)).ProcedureStepProgressInformationSequence[0]
    assert len(told.ProcedureStepProgressDescription) == 1024
    canceled = Cancellation("y" * 50_000, CODE, datetime(2026, 1, 2, tzinfo=UTC))
    stopped = read(cancellation(canceled, 40, (), PERFORMANCE)).ProcedureStepProgressInformationSequence[0]
    assert len(stopped.ReasonForCancellation) == 10_240
    assert stopped.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"


def test_a_malformed_item_is_an_item_without_what_is_malformed() -> None:
    item = workitem_of(
        {
            "00080018": {"vr": "UI", "Value": ["1.2"]},
            "00404021": {"vr": "SQ", "Value": ["x", {"0040E025": {"vr": "SQ", "Value": [{"00081190": 5}]}}]},
            "00404018": {"vr": "SQ"},
            "00741000": [],
            "00100020": {"vr": "LO", "Value": ["SECRET"]},
        }
    )
    assert (item.uid, item.state, item.workitem_codes) == ("1.2", "", ())
    assert [entry.addresses for entry in item.inputs] == [()]
    assert "SECRET" not in repr(item)
