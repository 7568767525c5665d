"""A job whose images a rejection note named before it had a result, as the pages show it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import pytest
from integration.console.conftest import Browser, is_open, visit_of
from integration.console.test_judgements import a_read_study
from support import a_file, instance_ref
from support.web_bench import Bench

from ainode.node.console.entry.access import Role
from ainode.node.domain import UID
from ainode.node.jobs.corrections import REJECTED
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.keeping.records import Job

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REASON = f"{REJECTED}113001 DCM Rejected for Quality Reasons, note 1.2.9"


@pytest.fixture
def rejected_bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "node")
    bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
    ref = instance_ref(a_file())
    image = StoredInstance(ref, UID("1.2.840.10008.1.2.1"), "ff", 1, Path("x"), "PACS", NOW)
    bench.catalog.index([image])
    content = {ref.sop_instance_uid: "ff"}
    assert bench.ledger.open(
        Job("a" * 32, ref.study_instance_uid, "chest", "spine_radiograph", content, NOW, NOW, ("pacs",))
    )
    assert bench.ledger.reject("a" * 32, f"withdrawn: {REASON}", NOW)
    yield bench
    bench.web.stop()
    bench.parts.stop()
    bench.engine.dispose()


def test_a_job_that_is_rejected_unread_is_withdrawn_on_every_page_and_failed_on_none(rejected_bench: Bench) -> None:
    operator = Browser(rejected_bench, Role.OPERATOR)
    (row,) = re.findall(r'<tr role="row".*?</tr>', operator.get("/console/").text, re.DOTALL)[-1:]
    study = unescape(operator.get("/console/studies/1.2.3").text)
    unread = unescape(operator.get("/console/unread").text)
    for page in (unescape(row), study, unread):
        assert REASON in page
    assert re.findall(r'<span class="badge \w+">(\w+)</span>', row) == ["withdrawn"]
    assert "Read again" not in row
    heading = re.findall(r'<h2 id="title-a+">.*?</h2>', study, re.DOTALL)
    assert ['<span class="badge bad">withdrawn</span>' in words for words in heading] == [True]
    timeline = study[study.index('id="timeline"') :]
    assert "Withdrawn" in timeline
    for words in ("Reading failed", "Cancelled"):
        assert words not in study
    assert "<s></s>" not in row + study


def test_who_has_a_rejected_study_read_again_has_it_held_against_the_routes(rejected_bench: Bench) -> None:
    operator = Browser(rejected_bench, Role.OPERATOR)
    operator.post("/console/worklist/read-again", {"row": f"job:{'a' * 32}"})
    job = rejected_bench.ledger.job("a" * 32)
    assert (job.state.value, bool(job.withdrawn_at)) == ("cancelled", True)
    announcement = rejected_bench.announcements.of(UID("1.2.3"))
    assert announcement
    assert announcement.read_now


def test_the_pages_say_of_a_withdrawn_answer_what_is_to_be_deleted_in_which_archive(
    rejected_bench: Bench, tmp_path: Path
) -> None:
    bench, name = rejected_bench, "b" * 32
    (folder := tmp_path / "read").mkdir()
    study = a_read_study(bench, folder, name)
    operator = Browser(bench, Role.OPERATOR)
    deliveries = bench.ledger.outbox.claim(name, "archive", NOW)
    bench.ledger.outbox.sent(*deliveries, status=0, comment="", at=NOW)
    sent = operator.get(study.page).text
    assert "to be deleted" not in sent + operator.get("/console/").text
    assert bench.ledger.withdraw(name, [], f"withdrawn: {REASON}", NOW, wishes={})
    series = dict.fromkeys(each.document.ref.series_instance_uid for each in deliveries)
    words = f"archive may still have {len(deliveries)} documents of it, to be deleted there: series {', '.join(series)}"
    page = unescape(operator.get(study.page).text)
    assert words in page
    assert "still there, to be deleted" in page
    for filters, is_there in (("", True), ("?state=withdrawn", True), ("?state=reported", False)):
        rows = operator.get(f"/console/{filters}").text
        assert ("still in archive, to be deleted" in rows) is is_there
