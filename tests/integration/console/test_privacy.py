"""What all pages together show: of a patient no more than they may, and no word that only the program knows."""

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from integration.console.conftest import Browser, is_open, visit_of
from pydicom import DataElement, Dataset
from pydicom.config import IGNORE
from support.web_bench import Bench
from support.whole_console import READ, whole_console

from ainode.node.console.entry.access import Role
from ainode.node.console.rendering.impersonal import is_impersonal
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex
from ainode.node.keeping.records import Job
from ainode.node.settings import ConsoleTable

# Files that a clinician takes away name the patient, and need a role for that.
CLINICAL = (".dcm", ".pdf", ".zip")
LINK = re.compile(r'(?:href|src|hx-get|data-viewer|sse-connect)="(/console/[^"#]*)')
MARK = re.compile("zq[-a-z]*|19010203", re.IGNORECASE)
JARGON = re.compile(
    r"superseded|awaited|set aside|\bhops?\b|withheld|held against|\bdoctor\b|out.of.scope", re.IGNORECASE
)


def contents(browser: Browser) -> Iterator[tuple[str, str]]:
    """Yield each address that pages name, and what stands there with its header."""
    pending, known = ["/console/"], {"/console/"}
    while pending:
        address = pending.pop()
        answer = browser.get(address)
        assert answer.status_code in {200, 404}, address  # an earlier study may be gone
        is_page = "html" in answer.headers["Content-Type"]
        yield address, f"{answer.headers}{answer.text if is_page or answer.encoding else ''}"
        for link in map(html.unescape, LINK.findall(answer.text) if is_page else ()):
            kind = re.sub(r"=[^&]*", "=", link)
            if kind not in known and not link.endswith(CLINICAL) and not re.search("/static/|/events|/ready", link):
                known.add(kind)
                pending.append(link)


def seen(folder: Path, patient: Literal["hidden", "initials"]) -> dict[str, str]:
    """Return what stands at each address."""
    with whole_console(folder, ConsoleTable(patient=patient)) as bench:
        bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
        texts = dict(contents(Browser(bench, Role.ADMINISTRATOR)))
    assert len(texts) > 40
    assert f"/console/studies/{READ}" in texts
    return texts


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return seen(tmp_path_factory.mktemp("hidden"), "hidden")


def test_no_address_shows_anything_of_a_patient_where_names_are_hidden(hidden: dict[str, str]) -> None:
    assert not {address: marks for address, text in hidden.items() if (marks := {*MARK.findall(text)})}


def test_where_names_are_hidden_the_study_date_is_shown_in_the_worklist_and_in_the_header_alike() -> None:
    image = Dataset()
    image.StudyDate, image.PatientBirthDate, image.SeriesDate = "20260203", "19010203", "20260203"
    assert {element.keyword for element in image if is_impersonal(element, "")} == {"StudyDate"}
    words = DataElement("StudyDate", "DA", "zq", validation_mode=IGNORE)
    assert not is_impersonal(words, "")
    assert not is_impersonal(image["StudyDate"], "ReferencedStudySequence")


def test_no_address_shows_more_than_initials_and_the_accession_number_where_these_are_shown(tmp_path: Path) -> None:
    texts = seen(tmp_path, "initials")
    assert "Z. Z." in texts["/console/"]
    assert {mark for text in texts.values() for mark in MARK.findall(text)} == {"ZQ-ACCESSION"}


def test_no_page_has_a_word_of_the_program_that_the_page_of_words_does_not_explain(hidden: dict[str, str]) -> None:
    pages = {address: sentences(text) for address, text in hidden.items() if "<html" in text}
    assert not {address: found for address, text in pages.items() if (found := JARGON.findall(text))}
    assert "tries no more by itself" in pages["/console/system/failures"]
    assert "documents of a shadow route stay in the node" in pages["/console/routes"].replace("those", "documents")
    assert "“Declined” means" in pages["/console/unread"]
    for word in ("Dead letter", "Declined", "Shadow", "Replaced", "Reader", "Files unusable", "Not complete yet"):
        assert word in pages["/console/words"]


def test_a_series_whose_header_is_not_read_yet_says_so_and_what_the_node_knows(hidden: dict[str, str]) -> None:
    page = hidden[f"/console/studies/{READ}"]
    assert "headers not read yet" in page
    assert "Digital X-Ray Image - For Presentation" in page
    assert "headers not read yet" not in hidden[f"/console/studies/{READ}?described=1"]


def sentences(page: str) -> str:
    """Return what a person reads of a page, without keys, commands and lines of the log."""
    text = re.sub(r"<(code|textarea|head|option)\b.*?</\1>", " ", page.partition("<html")[2], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]*>", "", text)).split())


@pytest.mark.parametrize(
    ("patient", "name", "facts"),
    [
        ("hidden", "2026-02-03 DX …", ""),
        ("initials", "S. N.", "DX · 2026-02-03"),
        ("full", "Synthetic, Nobody", "Abdomen, venous · DX · 2026-02-03 · ID SYNTHETIC"),
    ],
)
def test_a_row_tells_what_a_study_is_and_that_it_is_synthetic_as_far_as_the_setting_allows(
    tmp_path: Path, patient: Literal["hidden", "initials", "full"], name: str, facts: str
) -> None:
    bench = Bench(tmp_path / "node", console=ConsoleTable(patient=patient))
    bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
    at, viewer = datetime(2026, 3, 1, 12, tzinfo=UTC), Browser(bench, Role.VIEWER)
    labels = Labels("Synthetic^Nobody", "SYNTHETIC", "", "Abdomen, venous", "20260203", "DX", is_synthetic=True)
    PatientIndex(bench.engine, Naming(patient)).write(READ, labels)
    assert bench.ledger.open(Job("a" * 32, READ, "spine", "spine_radiograph", {}, at, at, ()))
    row = html.unescape("".join(re.findall("<tbody.*</tbody>", viewer.get("/console/").text, re.DOTALL)))
    page = viewer.get(f"/console/studies/{READ}").text
    bench.web.stop()
    bench.engine.dispose()
    assert re.search(f'<a id="study-[^>]*>{name}({READ[-8:]})?</a>', row)
    assert f'<div class="faint">{facts}</div>' in re.sub("</?span[^>]*>", "", row) or not facts
    assert "synthetic, no patient" in row
    assert "No patient is in it" in page
