"""Names come out of every character set as a viewer shows them, by one rule in headers and documents."""

from io import BytesIO
from pathlib import Path

import pytest
from conformance.made import CONTEXT, a_result, source, sources_of
from conformance.test_requests import an_item
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from ainode.node import reports
from ainode.node.encoding import headers

NAME = "Müller^Jürg"
LATIN_1, UTF_8 = NAME.encode("latin-1"), NAME.encode()
KINDS = {
    "latin 1": ("ISO_IR 100", LATIN_1, NAME),
    "latin 1, misspelled with a hyphen": ("ISO-IR 100", LATIN_1, NAME),
    "latin 1, misspelled with an underscore": ("ISO_IR_100", LATIN_1, NAME),
    "latin 1 in small letters": ("iso_ir 100", LATIN_1, NAME),
    "latin 1, not stated": (None, LATIN_1, NAME),
    "utf-8": ("ISO_IR 192", UTF_8, NAME),
    "utf-8, not stated": (None, UTF_8, NAME),
    "utf-8 under an unknown term": ("UTF-8", UTF_8, NAME),
    "latin 1 under an unknown term": ("LATIN 1", LATIN_1, NAME),
    "utf-8 with an extension that does not count": ("ISO_IR 192\\ISO 2022 IR 100", UTF_8, NAME),
    "cyrillic, misspelled": ("ISO-IR-144", "Иванов^Иван".encode("iso8859_5"), "Иванов^Иван"),
    "japanese with escapes": (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        "Yamada^Tarou=山田^太郎",
    ),
    "korean with escapes": (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
        "Hong^Gildong=洪^吉洞",
    ),
    "chinese with escapes": (
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
        "Zhang^XiaoDong=张^小东",
    ),
    "chinese under a name of another standard": ("GB2312", "王^小东".encode("gb2312"), "王^小东"),
    "korean under a name of another standard": ("EUC-KR", "홍^길동".encode("euc_kr"), "홍^길동"),
    "korean without escapes": ("ISO_IR 149", "홍^길동".encode("euc_kr"), "홍^길동"),
    "chinese": ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
}


def written(folder: Path, term: str | None, name: bytes) -> Path:
    """Write a radiograph whose bytes of term and name no library would write."""
    name += b" " * (len(name) % 2)
    held_name, held_term = "N" * len(name), "T" * (len(term or "") + len(term or "") % 2)
    with disable_value_validation():
        held = {
            "PatientName": held_name,
            "OtherPatientIDsSequence": [an_item(PatientID=held_name, TypeOfPatientID="TEXT")],
        }
        stated = {"SpecificCharacterSet": held_term} if term else {}
        path = source(folder, **stated, StudyDescription=held_name, **held)
    data = path.read_bytes().replace(held_name.encode(), name)
    path.write_bytes(data.replace(held_term.encode(), (term or "").encode().ljust(len(held_term))) if term else data)
    return path


def report_of(path: Path) -> Dataset:
    return dcmread(BytesIO(reports.documents(a_result(path), sources_of(path), CONTEXT)[-1].content))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("term", "name", "expected"), KINDS.values(), ids=KINDS)
def test_headers_and_documents_read_a_name_alike(term: str | None, name: bytes, expected: str, tmp_path: Path) -> None:
    path = written(tmp_path, term, name)
    report = report_of(path)
    _, header = headers.header(path.read_bytes())
    assert str(report.PatientName) == expected
    assert report.StudyDescription == header["StudyDescription"] == expected
    assert report.OtherPatientIDsSequence[0].PatientID == expected
    assert report.SpecificCharacterSet == "ISO_IR 192"
