from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit
from support import a_file

from ainode.node.domain import UID
from ainode.node.encoding.part10 import Origin, head
from ainode.node.encoding.same_content import same_data_set


def spooled(dataset: Dataset, path: Path, syntax: str) -> Path:
    encoded, bare = BytesIO(), Dataset()
    bare.update(dataset)  # without preamble and meta group
    dcmwrite(encoded, bare, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    origin = Origin(UID(dataset.SOPClassUID), UID(dataset.SOPInstanceUID), UID(syntax), "PACS")
    path.write_bytes(head(origin) + encoded.getvalue())
    return path


def a_dataset() -> Dataset:
    dataset = Dataset()
    dataset.update(dcmread(BytesIO(a_file())))
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    dataset.ReferencedStudySequence = [inner, Dataset()]
    return dataset


def other_lengths(dataset: Dataset) -> Dataset:
    """Encode anew as an archive does: no group lengths, sequences with the other kind of length."""
    if 0x00080000 in dataset:
        del dataset[0x00080000]
    sequence = dataset["ReferencedStudySequence"]
    sequence.is_undefined_length = not sequence.is_undefined_length
    for item in sequence.value:
        item.is_undefined_length_sequence_item = True
    return dataset


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_another_encoding_of_a_data_set_is_the_same_content(syntax: str, tmp_path: Path) -> None:
    one = a_dataset()
    again = other_lengths(dcmread(spooled(one, tmp_path / "copy", ExplicitVRLittleEndian)))
    first = spooled(one, tmp_path / "one", ExplicitVRLittleEndian)
    second = spooled(again, tmp_path / "again", syntax)
    assert first.read_bytes() != second.read_bytes()
    assert same_data_set(first, second)


@pytest.mark.parametrize(
    ("keyword", "value"), [("PixelData", b"\1" * 512), ("Rows", 8), ("StudyDescription", "corrected"), ("Rows", None)]
)
def test_another_value_is_other_content(keyword: str, value: object, tmp_path: Path) -> None:
    one, other = a_dataset(), a_dataset()
    other.SOPInstanceUID = one.SOPInstanceUID
    setattr(other, keyword, value)
    paths = [spooled(each, tmp_path / str(n), ExplicitVRLittleEndian) for n, each in enumerate((one, other))]
    assert not same_data_set(*paths)


def test_an_element_in_an_item_and_the_same_behind_it_are_other_content(tmp_path: Path) -> None:
    one, other = a_dataset(), a_dataset()
    other.SOPInstanceUID = one.SOPInstanceUID
    one.ReferencedStudySequence = [Dataset(), Dataset()]
    one.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3"
    other.ReferencedStudySequence = [Dataset(), Dataset()]
    other.ReferencedStudySequence[1].ReferencedSOPInstanceUID = "1.2.3"
    paths = [spooled(each, tmp_path / str(n), ExplicitVRLittleEndian) for n, each in enumerate((one, other))]
    assert not same_data_set(*paths)


def test_compressed_pixels_are_compared_fragment_by_fragment(tmp_path: Path) -> None:
    one, other = a_dataset(), a_dataset()
    other.SOPInstanceUID = one.SOPInstanceUID
    paths = []
    for number, (dataset, frame) in enumerate(
        ((one, b"\xff\xd8\1\1"), (one, b"\xff\xd8\1\1"), (other, b"\xff\xd8\1\2"))
    ):
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        paths.append(spooled(dataset, tmp_path / str(number), JPEGBaseline8Bit))
    assert same_data_set(paths[0], paths[1])
    assert not same_data_set(paths[0], paths[2])


def test_what_cannot_be_compared_counts_as_different(tmp_path: Path) -> None:
    path = tmp_path / "deflated"
    origin = Origin(UID("1.2"), UID("1.2.3"), UID(DeflatedExplicitVRLittleEndian), "PACS")
    path.write_bytes(head(origin) + b"anything")
    assert not same_data_set(path, path)
    path.write_bytes(path.read_bytes().replace(b".1.99", b".1\0\0\0") + b"cut off")
    assert not same_data_set(path, path)


@pytest.mark.parametrize("content", [b"", bytes(200)])
def test_a_file_that_was_damaged_on_disk_is_other_content(content: bytes, tmp_path: Path) -> None:
    whole = spooled(a_dataset(), tmp_path / "whole", ExplicitVRLittleEndian)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    assert not same_data_set(whole, damaged)
    assert not same_data_set(damaged, whole)
