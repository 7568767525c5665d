import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID as TransferSyntax,  # noqa: N811 - ours is another UID
)
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ainode.node.encoding import headers
from ainode.node.errors import CannotUnderstand

SHARED = Path(os.environ.get("AINODE_SHARED", Path(__file__).resolve().parents[5] / "shared"))
PLAIN_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def a_dataset(number: int = 1, series: str = "1.2.3", **values: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.4.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2", series
    dataset.Modality, dataset.InstanceNumber = "CT", number or ""
    dataset.PatientName = "Nobody^Synthetic"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def part10(dataset: Dataset, syntax: TransferSyntax = ExplicitVRLittleEndian) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def raw(*elements: bytes, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    padded = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(padded)) + padded
    return bytes(128) + b"DICM" + meta + b"".join(elements)


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "one.dcm"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("syntax", PLAIN_SYNTAXES)
def test_every_plain_transfer_syntax_gives_the_same_header(syntax: TransferSyntax) -> None:
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "122495006", "SCT", "Thoracic spine"
    dataset = a_dataset(
        7, Rows=512, PixelSpacing=[0.5, "0.25"], ImageType=["DERIVED", "PRIMARY", ""], SeriesDescription=""
    )
    dataset.AnatomicRegionSequence = Sequence([region])
    dataset["AnatomicRegionSequence"].is_undefined_length = True
    syntax_uid, header = headers.header(part10(dataset, syntax))
    assert syntax_uid == str(syntax)
    assert header["Rows"] == 512
    assert header["InstanceNumber"] == 7
    assert header["PixelSpacing"] == (0.5, 0.25)
    assert header["ImageType"] == ("DERIVED", "PRIMARY", "")
    assert header["SeriesDescription"] == ""
    assert header["AnatomicRegionSequence"] == (
        {"CodeValue": "122495006", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Thoracic spine"},
    )


def test_no_patient_attribute_is_read_unless_a_route_names_it() -> None:
    content = part10(a_dataset(PatientID="X", PatientAge="034Y"))
    assert not [keyword for keyword in headers.header(content)[1] if keyword.startswith("Patient")]
    assert headers.header(content, frozenset({"PatientAge"}))[1] == {"PatientAge": "034Y"}


def test_an_instance_knows_its_references_size_and_syntax(tmp_path: Path) -> None:
    content = part10(a_dataset())
    one = headers.instance(saved(tmp_path, content), sha256="ab", size=len(content), keywords=frozenset({"PatientAge"}))
    assert one.ref.sop_instance_uid == "1.2.3.4.1"
    assert (one.size_bytes, one.sha256, one.transfer_syntax_uid) == (len(content), "ab", str(ExplicitVRLittleEndian))
    assert one.text("Modality") == "CT"


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, b"", b"../../etc/passwd"])
def test_an_instance_without_a_valid_uid_is_refused_by_the_name_of_the_attribute(
    tmp_path: Path, keyword: str, value: bytes | None
) -> None:
    tags = {"SOPClassUID": (8, 0x16), "SOPInstanceUID": (8, 0x18)}
    tags |= {"StudyInstanceUID": (0x20, 0xD), "SeriesInstanceUID": (0x20, 0xE)}
    values = {**dict.fromkeys(tags, b"1.2"), keyword: value}
    elements = [element(*tags[name], b"UI", uid) for name, uid in values.items() if uid is not None]
    with pytest.raises(CannotUnderstand, match=f"no valid {keyword}") as refusal:
        headers.instance(saved(tmp_path, raw(*elements)), sha256="")
    assert "etc" not in str(refusal.value)


def test_a_data_set_with_an_element_twice_is_refused_and_none_of_its_values_taken() -> None:
    with pytest.raises(CannotUnderstand, match=r"\(0008,0060\) stands twice"):
        headers.header(raw(element(8, 0x60, b"CS", b"CT"), element(8, 0x60, b"CS", b"DX")))


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"no DICOM", raw(syntax="")])
def test_what_is_no_part_10_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CannotUnderstand):
        headers.instance(saved(tmp_path, content), sha256="")


def test_a_nested_sequence_bomb_costs_no_recursion_and_gives_what_stands_before_it() -> None:
    opened = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closed = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    bomb = opened * 50_000 + closed * 50_000
    content = raw(element(8, 0x60, b"CS", b"CT"), bomb, element(0x28, 0x10, b"US", b"\x10\x00"))
    assert headers.header(content)[1] == {"Modality": "CT"}
    shallow = raw(element(8, 0x60, b"CS", b"CT"), opened * 9 + closed * 9, element(0x28, 0x10, b"US", b"\x10\x00"))
    assert headers.header(shallow)[1] == {"Modality": "CT", "Rows": 16}


def test_a_sequence_that_was_asked_for_is_followed_only_a_few_levels() -> None:
    inner = Dataset()
    for _ in range(20):
        outer = Dataset()
        outer.AnatomicRegionSequence = Sequence([inner])
        inner = outer
    header = headers.header(part10(a_dataset(AnatomicRegionSequence=Sequence([inner]))))[1]
    assert str(header).count("AnatomicRegionSequence") == 4


def test_an_item_whose_length_looks_like_a_vr_is_still_an_item() -> None:
    length = int.from_bytes(b"DA", "little")
    meaning = element(8, 0x104, b"LO", b"Lumbar spine")
    filler = length - len(meaning) - 12
    content = meaning + struct.pack("<HH2sHI", 9, 0x10, b"OB", 0, filler) + bytes(filler)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, length) + content
    sequence = struct.pack("<HH2sHI", 8, 0x2218, b"SQ", 0, len(item)) + item
    assert headers.header(raw(sequence))[1] == {"AnatomicRegionSequence": ({"CodeMeaning": "Lumbar spine"},)}


def test_a_deflated_data_set_that_inflates_without_end_is_read_only_as_far_as_its_bound() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bulk = struct.pack("<HH2sHI", 0x0042, 0x0011, b"OB", 0, 200 * 1024**2)
    deflated = (
        stream.compress(element(8, 0x60, b"CS", b"DX") + bulk) + stream.compress(bytes(200 * 1024**2)) + stream.flush()
    )
    assert headers.header(raw(deflated, syntax=str(DeflatedExplicitVRLittleEndian)))[1] == {"Modality": "DX"}
    with pytest.raises(CannotUnderstand, match="inflated"):
        headers.header(raw(b"\xff\xff\xff", syntax=str(DeflatedExplicitVRLittleEndian)))


@pytest.mark.parametrize(
    ("charset", "encoded", "text"),
    [
        (b"", "Wirbelsäule".encode("latin-1"), "Wirbelsäule"),
        (b"", "Wirbelsäule".encode(), "Wirbelsäule"),
        (b"ISO_IR 192", "Wirbelsäule".encode(), "Wirbelsäule"),
        (b"ISO_IR 144", "позвоночник".encode("iso8859-5"), "позвоночник"),
        (b"\\ISO 2022 IR 87", "脊椎".encode("iso2022_jp"), "脊椎"),
        (b"NONSENSE", b"\xff\xfe", "ÿþ"),
    ],
)
def test_descriptions_are_read_in_their_character_set_and_nonsense_never_fails(
    charset: bytes, encoded: bytes, text: str
) -> None:
    content = raw(element(8, 5, b"CS", charset), element(8, 0x103E, b"LO", encoded))
    assert headers.header(content)[1]["SeriesDescription"] == text


@pytest.mark.parametrize(
    ("vr", "value", "number"),
    [
        (b"IS", b"-0600", -600),
        (b"IS", b"1.5", 1.5),
        (b"IS", b"many", "many"),
        (b"IS", b"1_0 ", "1_0"),
        (b"IS", b"nan", "nan"),
        (b"IS", b"1e999", "1e999"),
        (b"IS", b"-700\\50", (-700, 50)),
        (b"XX", b"7 ", 7),
    ],
)
def test_odd_numbers_are_numbers_where_they_can_be_and_text_where_not(vr: bytes, value: bytes, number: object) -> None:
    assert (
        headers.header(raw(element(8, 0x60, b"CS", b"CT"), element(0x20, 0x13, vr, value)))[1].get("InstanceNumber", "")
        == number
    )


def test_a_truncated_file_gives_what_stands_before_the_cut() -> None:
    content = part10(a_dataset(Rows=512, Columns=512))
    full = headers.header(content)[1]
    for cut in range(400, len(content)):
        assert headers.header(content[:cut])[1].items() <= full.items()


@settings(max_examples=300)
@given(st.binary(max_size=400), st.sampled_from([str(syntax) for syntax in PLAIN_SYNTAXES]))
def test_no_bytes_make_the_reader_fail_other_than_politely(noise: bytes, syntax: str) -> None:
    with contextlib.suppress(CannotUnderstand):
        headers.header(raw(element(8, 0x60, b"CS", b"CT"), noise, syntax=syntax))


def test_a_study_is_ordered_by_series_number_and_instance_number_and_what_has_none_comes_last(tmp_path: Path) -> None:
    described = [(2, "1.9", 1), (10, "1.9", 1), (0, "1.9", 1), (1, "1.5", 3), (3, "1.7", None)]
    instances = [
        headers.instance(saved(tmp_path, part10(a_dataset(number, series, SeriesNumber=order))), sha256="")
        for number, series, order in reversed(described)
    ]
    study = headers.study(instances, ("MODALITY",))
    assert [series.series_instance_uid for series in study.series] == ["1.9", "1.5", "1.7"]
    assert [one.header["InstanceNumber"] for one in study.series[0].instances] == [2, 10, ""]
    assert study.sources == ("MODALITY",)


def test_instances_of_two_studies_are_no_study(tmp_path: Path) -> None:
    one = headers.instance(saved(tmp_path, part10(a_dataset())), sha256="")
    other = headers.instance(saved(tmp_path, part10(a_dataset(StudyInstanceUID="9.9", series="9"))), sha256="")
    for instances in ([one, other], []):
        with pytest.raises(ValueError, match="not of one"):
            headers.study(instances)


def test_an_instance_that_lies_in_two_files_counts_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    copies = [headers.instance(saved(tmp_path / name, part10(a_dataset())), sha256="") for name in ("b", "a")]
    assert headers.study(copies).instances == (copies[1],)


def test_two_patients_in_files_of_one_instance_both_stay(tmp_path: Path) -> None:
    copies = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        copies.append(headers.instance(saved(tmp_path / name, part10(a_dataset(PatientID=name))), sha256=""))
    assert len(headers.study(copies).instances) == 2


@pytest.mark.skipif(not (SHARED / "data/dicom").is_dir(), reason="the real DICOM of shared/data/dicom is absent")
def test_real_files_are_read_and_the_broken_ones_are_refused_by_name() -> None:
    refused = set()
    for path in (SHARED / "data/dicom").rglob("*"):
        if path.is_file() and path.suffix not in {".md", ".csv", ".json", ".xml", ".txt", ".jpg"}:
            try:
                assert headers.instance(path, sha256="").header["SOPClassUID"]
            except CannotUnderstand:
                refused.add(path.name)
    assert {"no_meta.dcm", "meta_missing_tsyntax.dcm", "Issue111.dcm", "nested_priv_SQ.dcm"} <= refused
    assert len(refused) == 15
