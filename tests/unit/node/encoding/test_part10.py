"""The file around a data set: what the node writes, pydicom reads, and what others write, the node reads."""

import struct
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from ainode.node.domain import UID
from ainode.node.encoding.part10 import IMPLEMENTATION_CLASS_UID, Origin, head, parse
from ainode.node.errors import CannotUnderstand

ORIGIN = Origin(UID("1.2.840.10008.5.1.4.1.1.2"), UID("1.2.3.45"), UID(ExplicitVRLittleEndian), "CT_SCANNER")
DATA_SET = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
uids = st.from_regex(r"[1-9][0-9]{0,20}(\.[1-9][0-9]{0,20}){0,2}", fullmatch=True).map(UID)


def others_file(**meta: object) -> bytes:
    """Return a file as pydicom writes it."""
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.file_meta = FileMetaDataset()
    values = {"TransferSyntaxUID": ExplicitVRLittleEndian, "MediaStorageSOPInstanceUID": "1.2.3.45"} | meta
    for keyword, value in values.items():
        setattr(dataset.file_meta, keyword, value)
    dataset.preamble = bytes(128)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.builds(Origin, uids, uids, st.just(ORIGIN.transfer_syntax_uid), st.text("ABC_", max_size=16)))
def test_what_is_written_is_read_again_by_the_node_and_by_pydicom(origin: Origin) -> None:
    content = head(origin) + DATA_SET
    assert parse(content) == (origin, len(content) - len(DATA_SET))
    dataset = dcmread(BytesIO(content))
    meta = dataset.file_meta
    assert str(meta.MediaStorageSOPClassUID) == origin.sop_class_uid
    assert str(meta.MediaStorageSOPInstanceUID) == origin.sop_instance_uid
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.SourceApplicationEntityTitle == origin.calling_ae_title
    assert meta.FileMetaInformationGroupLength == len(content) - len(DATA_SET) - 144
    assert dataset.Modality == "CT"


def test_the_files_of_others_are_read_with_what_they_lack_left_empty() -> None:
    origin, start = parse(others_file(PrivateInformationCreatorUID="1.2", PrivateInformation=bytes(5000)))
    assert origin == Origin(UID(""), UID("1.2.3.45"), ORIGIN.transfer_syntax_uid, "")
    assert start > 5000


def test_a_wrong_group_length_moves_nothing() -> None:
    content = bytearray(head(ORIGIN) + DATA_SET)
    content[140:144] = struct.pack("<I", 7)
    assert parse(bytes(content)) == (ORIGIN, len(content) - len(DATA_SET))


def test_the_beginning_of_a_file_is_enough() -> None:
    large = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 1 << 20)
    assert parse(head(ORIGIN) + large) == (ORIGIN, len(head(ORIGIN)))


def test_a_meta_group_that_is_cut_off_gives_what_stands_before_the_cut() -> None:
    whole = head(ORIGIN)
    for length in range(132, len(whole)):
        origin, start = parse(whole[:length])
        assert start <= length
        assert origin.sop_class_uid in ("", ORIGIN.sop_class_uid)
        assert not origin.calling_ae_title


@pytest.mark.parametrize("content", [b"", bytes(200), b"DICM", bytes(128) + b"DIC"])
def test_what_has_no_preamble_is_refused(content: bytes) -> None:
    with pytest.raises(CannotUnderstand, match="not DICOM Part 10"):
        parse(content)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_no_bytes_behind_the_preamble_make_it_fail(noise: bytes) -> None:
    _, start = parse(bytes(128) + b"DICM" + noise)
    assert 132 <= start <= 132 + len(noise)
