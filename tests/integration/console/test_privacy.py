"""What pages show of a patient: nothing of it by default, initials, or all; seen on every address that pages name."""

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from integration.console.conftest import Browser, is_open, visit_of
from support.web_bench import Bench
from support.whole_console import READ, whole_console

from ainode.node.console.entry.access import Role
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex
from ainode.node.keeping.records import Job
from ainode.node.settings import ConsoleTable

# Files that a clinician takes away name the patient, and need a role for that.
CLINICAL = (".dcm", ".pdf", ".zip")
LINK = re.compile(r'(?:href|src|hx-get|data-viewer|sse-connect)="(/console/[^"#]*)')
MARK = re.compile("zq[-a-z]*|19010203", re.IGNORECASE)


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


@pytest.mark.parametrize(("patient", "marks"), [("hidden", set()), ("initials", {"ZQ-ACCESSION"})])
def test_no_address_of_the_console_shows_more_of_a_patient_than_it_may(
    tmp_path: Path, patient: Literal["hidden", "initials"], marks: set[str]
) -> None:
    with whole_console(tmp_path, ConsoleTable(patient=patient)) as bench:
        bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
        seen = dict(contents(Browser(bench, Role.ADMINISTRATOR)))
    assert len(seen) > 40
    assert f"/console/studies/{READ}" in seen
    leaks = {address: found for address, text in seen.items() if (found := words(text) - marks)}
    assert not leaks
    assert ("Z. Z." in seen["/console/"]) == (patient == "initials")


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
    assert f'<div class="faint">{facts}</div>' in row or not facts
    assert "synthetic, no patient" in row
    assert "No patient is in it" in page


def words(text: str) -> set[str]:
    """Return what a text has of the patient."""
    return {*MARK.findall(text)}
