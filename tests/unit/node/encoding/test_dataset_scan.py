"""Identity of encoded data sets: agreement with pydicom on good ones, a fast refusal of all others."""

import os
import struct
import time
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ainode.node.domain import UID, InstanceRef
from ainode.node.encoding.dataset_scan import identity
from ainode.node.encoding.elements import MAX_ELEMENTS
from ainode.node.errors import CannotUnderstand

SHARED = Path(os.environ.get("AINODE_SHARED", Path(__file__).resolve().parents[5] / "shared")) / "data" / "dicom"
SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
)
REF = InstanceRef(UID("1.2.3"), UID("1.2.3.4"), UID("1.2.840.10008.5.1.4.1.1.7"), UID("1.2.3.4.5"))


def encoded(syntax: str) -> bytes:
    """Return a data set with a nested sequence and pixels, as it travels."""
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "9.9.9"
    inner.StudyInstanceUID = "9.9"
    outer = Dataset()
    outer.ReferencedSeriesSequence = Sequence([inner, inner])
    outer.ReferencedSeriesSequence.is_undefined_length = True
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = REF.sop_class_uid, REF.sop_instance_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = REF.study_instance_uid, REF.series_instance_uid
    dataset.ReferencedStudySequence = Sequence([outer])
    dataset.ReferencedStudySequence.is_undefined_length = True
    dataset.PixelData = encapsulate([bytes(100), bytes(50)]) if syntax == RLELossless else bytes(300)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = syntax == RLELossless
    return written(dataset, syntax)


def written(dataset: Dataset, syntax: str) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("1.2.3")
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return split(file.getvalue())[1]


def split(content: bytes) -> tuple[str, bytes]:
    """Return transfer syntax and data set of a Part 10 file."""
    file = BytesIO(content[132:])
    meta = pydicom.filereader._read_file_meta_info(file)
    return str(meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)), content[132 + file.tell() :]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_four_uids_of_the_top_level_are_found_in_every_encoding(syntax: str) -> None:
    assert identity(encoded(syntax), syntax) == REF


def test_a_data_set_is_found_behind_its_meta_group() -> None:
    content = b"something before" + encoded(ExplicitVRLittleEndian)
    assert identity(content, ExplicitVRLittleEndian, start=16) == REF


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_data_set_that_ends_within_its_pixel_data_is_refused(syntax: str) -> None:
    whole = encoded(syntax)
    for length in range(
        max(len(whole) - 180, 0), len(whole) - 1
    ):  # the very last byte of a deflated one may be padding
        with pytest.raises(CannotUnderstand):
            identity(whole[:length], syntax)


@pytest.mark.parametrize("missing", [0x0016, 0x0018, 0x000D, 0x000E])
@pytest.mark.parametrize("value", [b"", b"a.b!", b"1" * 66, b"../../etc/passwd"])
def test_a_missing_or_impossible_uid_is_refused_and_not_repeated(missing: int, value: bytes) -> None:
    elements = {0x0016: b"1.2.", 0x0018: b"1.3.", 0x000D: b"1.4.", 0x000E: b"1.5."} | {missing: value}
    content = b"".join(
        struct.pack("<HHI", 0x0008 if element > 0x000F else 0x0020, element, len(one)) + one
        for element, one in elements.items()
    )
    with pytest.raises(CannotUnderstand) as refused:
        identity(content, ImplicitVRLittleEndian)
    assert not value or value.decode() not in str(refused.value)


@pytest.mark.parametrize("syntax", SYNTAXES[:4])
@pytest.mark.parametrize("repeated", ["StudyInstanceUID", "SOPInstanceUID"])
def test_a_second_uid_behind_the_pixel_data_is_refused(syntax: str, repeated: str) -> None:
    second = Dataset()
    setattr(second, repeated, "6.6.6")
    whole, behind = (
        zlib.decompress(content, -15) if syntax == DeflatedExplicitVRLittleEndian else content
        for content in (encoded(syntax), written(second, syntax))
    )
    content = whole + behind
    if syntax == DeflatedExplicitVRLittleEndian:
        deflate = zlib.compressobj(wbits=-15)
        content = deflate.compress(content) + deflate.flush()
    with pytest.raises(CannotUnderstand, match="comes after"):
        identity(content, syntax)


def test_a_bomb_of_nested_sequences_is_refused_at_once() -> None:
    bomb = (
        struct.pack("<HH2sHI", 0x0008, 0x1110, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ) * 200_000
    assert refused_within(0.01, bomb, ExplicitVRLittleEndian)


def test_a_bomb_of_tiny_elements_ends_at_the_bound() -> None:
    assert refused_within(
        5.0, struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0) * (MAX_ELEMENTS + 1), ExplicitVRLittleEndian
    )


def test_a_bomb_of_zeros_that_was_deflated_takes_neither_memory_nor_minutes() -> None:
    deflate = zlib.compressobj(9, wbits=-15)
    block = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 0xFFFFFFF0)
    bomb = deflate.compress(block) + b"".join(deflate.compress(bytes(1 << 20)) for _ in range(300)) + deflate.flush()
    assert len(bomb) < 2 << 20
    assert refused_within(20.0, bomb, DeflatedExplicitVRLittleEndian)


def test_a_length_of_four_gigabytes_in_a_short_data_set_allocates_nothing() -> None:
    header = struct.pack("<HHI", 0x0008, 0x0016, 0xFFFFFFFE)
    assert refused_within(0.01, header + b"1.2", ImplicitVRLittleEndian)


def refused_within(limit_s: float, content: bytes, syntax: str) -> bool:
    """Return whether a data set is refused after so much time of the processor, which other processes do not take."""
    return any(refusal_s(content, syntax) < limit_s for _ in range(3))  # Python collects garbage in one of them


def refusal_s(content: bytes, syntax: str) -> float:
    began_s = time.thread_time()
    with pytest.raises(CannotUnderstand):
        identity(content, syntax)
    return time.thread_time() - began_s


@settings(max_examples=300, deadline=None)
@given(data=st.data(), syntax=st.sampled_from(SYNTAXES))
def test_mutations_end_in_a_reference_or_a_refusal(data: st.DataObject, syntax: str) -> None:
    content = bytearray(encoded(syntax))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    try:
        identity(bytes(content[:cut]), syntax)
    except CannotUnderstand:
        return


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=400), syntax=st.sampled_from(SYNTAXES))
def test_noise_is_refused(content: bytes, syntax: str) -> None:
    with pytest.raises(CannotUnderstand):
        identity(content, syntax)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
def test_every_real_file_agrees_with_pydicom() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no real DICOM at {SHARED}")
    compared = 0
    for path in sorted(SHARED.rglob("*.dcm")):
        content = path.read_bytes()
        if content[128:132] != b"DICM" or "corrupt_odd" in path.parts:
            continue
        syntax, dataset = split(content)
        try:
            ref = identity(dataset, syntax)
        except CannotUnderstand:
            assert not complete(path), path
            continue
        assert ref == InstanceRef(*uids(path))
        compared += 1
    assert compared > 200


def complete(path: Path) -> bool:
    """Whether pydicom finds all four UIDs in the file, read to its end."""
    return all(uids(path))


def uids(path: Path) -> tuple[UID, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UIDs with leading zeros
        dataset = pydicom.dcmread(path)
        keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
        return tuple(UID(str(dataset.get(keyword, ""))) for keyword in keywords)
