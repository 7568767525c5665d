"""What pydicom encodes in any syntax is decoded as pydicom means it."""

import zlib
from io import BytesIO

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ainode.node.archive.commitment import Commitment
from ainode.node.domain import UID
from ainode.node.errors import CannotUnderstand
from ainode.node.receiving.commitment_data_sets import report_of, request_of
from ainode.node.receiving.commitment_files import CommitmentReport, CommitmentRequest

CT = "1.2.840.10008.5.1.4.1.1.2"
SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def message(*, count: int, reasons: tuple[int, ...] = (), undefined_length: bool = False) -> Dataset:
    dataset = Dataset()
    dataset.TransactionUID = "1.7"
    dataset.RetrieveAETitle = "ARCHIVE"
    for keyword, numbers in (("ReferencedSOPSequence", range(count)), ("FailedSOPSequence", range(len(reasons)))):
        items = []
        for number in numbers:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, f"1.3.{number}"
            if keyword == "FailedSOPSequence":
                item.FailureReason = reasons[number]
            item.is_undefined_length_sequence_item = undefined_length
            items.append(item)
        setattr(dataset, keyword, items)
        dataset[keyword].is_undefined_length = undefined_length
    return dataset


def encoded(dataset: Dataset, syntax: str) -> bytes:
    stream = BytesIO()
    is_big = syntax == ExplicitVRBigEndian
    dcmwrite(stream, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=not is_big)
    if syntax != DeflatedExplicitVRLittleEndian:
        return stream.getvalue()
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(stream.getvalue()) + deflate.flush()


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined_length", [False, True])
def test_a_message_means_the_same_in_every_encoding(syntax: str, undefined_length: bool) -> None:  # noqa: FBT001
    request = encoded(message(count=3, undefined_length=undefined_length), syntax)
    references = tuple((UID(CT), UID(f"1.3.{number}")) for number in range(3))
    assert request_of(request, syntax, "CALLER") == CommitmentRequest("CALLER", UID("1.7"), references)
    report = encoded(message(count=1, reasons=(0x0112, 0x0213), undefined_length=undefined_length), syntax)
    failed = ((UID("1.3.0"), 0x0112), (UID("1.3.1"), 0x0213))
    assert report_of(report, syntax) == CommitmentReport(UID("1.7"), (UID("1.3.0"),), failed)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_message_that_is_cut_off_anywhere_is_refused_and_never_half_read(syntax: str) -> None:
    whole = encoded(message(count=2), syntax)
    for length in range(len(whole)):
        with pytest.raises(CannotUnderstand):
            request_of(whole[:length], syntax, "CALLER")


def test_a_request_that_names_no_instance_is_refused() -> None:
    with pytest.raises(CannotUnderstand, match="ReferencedSOPSequence"):
        request_of(encoded(message(count=0), ImplicitVRLittleEndian), ImplicitVRLittleEndian, "CALLER")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_empty_failure_reason_is_a_processing_failure_and_spares_what_was_committed(syntax: str) -> None:
    dataset = message(count=2, reasons=(0x0112,))
    dataset.FailedSOPSequence[0].add_new(0x00081197, "US", None)
    report = report_of(encoded(dataset, syntax), syntax)
    assert len(report.committed) == 2
    assert [reason for _, reason in report.failed] == [0x0110]
    assert [reason for _, reason in Commitment.of_event(dataset).failed] == [0x0110]


@pytest.mark.parametrize("reason", [b"\x12", b"\x12\x01\x00\x00"])
def test_a_failure_reason_of_another_length_is_refused(reason: bytes) -> None:
    dataset = message(count=0, reasons=(0x0112,))
    content = encoded(dataset, ImplicitVRLittleEndian)
    whole = b"\x08\x00\x97\x11\x02\x00\x00\x00\x12\x01"
    assert whole in content
    item = dataset.FailedSOPSequence[0]
    del item.FailureReason
    bare = encoded(message(count=0), ImplicitVRLittleEndian)
    broken = b"\x08\x00\x97\x11" + len(reason).to_bytes(4, "little") + reason
    start = encoded(item, ImplicitVRLittleEndian) + broken
    sequence = b"\xfe\xff\x00\xe0" + len(start).to_bytes(4, "little") + start
    failed = b"\x08\x00\x98\x11" + len(sequence).to_bytes(4, "little") + sequence
    transaction = bare[bare.index(b"\x08\x00\x95\x11") : bare.index(b"\x08\x00\x98\x11")]
    with pytest.raises(CannotUnderstand, match="FailureReason"):
        report_of(transaction + failed, ImplicitVRLittleEndian)
