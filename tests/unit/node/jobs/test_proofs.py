"""What archives really answer: with words, with a change, late, or with nothing behind it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from support import a_file, free_port, instance_ref
from support.archives import SmallArchive, serving
from support.databases import migrated
from support.rows import put_delivery, put_job, read
from support.web_archives import http, said
from typer.testing import CliRunner

from ainode.node.commands.cli import app
from ainode.node.disk import sha256_of
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.retries import deliver, deliver_study, retry
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job, KeptDocument, Outcome
from ainode.node.keeping.tasks import TaskKind
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import DeliveryTable, Peer, Settings
from ainode.node.web.state import study_status

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NEXT_DAY = NOW + timedelta(days=1)
QUOTATION = "for SMITH^JOHN only"


class Bench:
    """A ledger with one reported job of two documents, and a courier to one archive."""

    def __init__(self, folder: Path) -> None:
        engine = migrated(f"sqlite:///{folder / 'catalog.sqlite'}")
        self.ledger = Ledger(engine)
        paths = [folder / f"{number}.dcm" for number in range(2)]
        for path in paths:
            path.write_bytes(a_file())
        job = Job("job", UID("1.2"), "spine", "spine", {UID("1.2.3"): "00"}, NOW, NOW, ("archive",))
        self.ledger.open(job)
        documents = [
            KeptDocument("job", instance_ref(path.read_bytes()), DocumentKind.STRUCTURED_REPORT, path, sha256_of(path))
            for path in paths
        ]
        read(self.ledger, job, documents, Outcome(JobState.REPORTED, "{}", "", 1.0))

    def to(self, port: int, **peer: object) -> Courier:
        values = {"name": "archive", "ae_title": "A", "host": "127.0.0.1", "port": port, **peer}
        self.settings = Settings(peers=(Peer(**values),), delivery=DeliveryTable(commitment_wait_s=30))  # type: ignore[arg-type]
        return Courier(self.settings, self.ledger, report_wait_s=0.05)  # SmallArchive reports nothing

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        return self.ledger.deliveries("job")

    def states(self) -> list[str]:
        return [delivery.state for delivery in self.deliveries]

    def kinds(self) -> list[TaskKind]:
        return [waiting.task.kind for waiting in self.ledger.tasks.waiting(self.settings.unconfirmed)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# What a person asks for again


def finished(bench: Bench, state: JobState, reason: str = "") -> str:
    """Keep a finished job without a destination; return its id."""
    job = Job("kept", UID("1.3"), "spine", "spine", {UID("1.2.4"): "00"}, NOW, NOW, (), mode=RouteMode.SHADOW)
    bench.ledger.open(job)
    read(bench.ledger, job, [], Outcome(state, "{}", reason, 1.0))
    return job.id


def test_who_tries_a_job_of_a_shadow_again_is_told_that_its_documents_stay_and_of_no_command(bench: Bench) -> None:
    route = Route("spine", "spine", destinations=("archive",), mode=RouteMode.SHADOW)
    settings = Settings(routes=(route,), peers=())
    job = finished(bench, JobState.REPORTED)
    for function in (retry, deliver):
        with pytest.raises(LookupError, match=r"nothing of it leaves the node; its route is a shadow$") as error:
            function(settings, bench.ledger, job, Instruction(NOW))
        assert "ainode" not in str(error.value)


def test_who_tries_a_job_of_a_shadow_again_that_is_live_by_now_is_told_the_command_that_sends_it(
    bench: Bench,
) -> None:
    bench.to(free_port())
    live = Route("spine", "spine", destinations=("archive",))
    settings = bench.settings.model_copy(update={"routes": (live,)})
    job = finished(bench, JobState.REPORTED)
    folder = settings.data / "documents" / job
    words = f"its route was a shadow when the study was routed; sent by `ainode send {folder} archive`"
    for function in (retry, deliver):
        with pytest.raises(LookupError, match=re.escape(f"nothing of it leaves the node; {words}")):
            function(settings, bench.ledger, job, Instruction(NOW))


def test_who_tries_a_refused_study_again_is_told_why_it_was_refused(bench: Bench) -> None:
    job = finished(bench, JobState.OUT_OF_SCOPE, "the image shows no spine")
    with pytest.raises(LookupError, match="nothing of it leaves the node; the image shows no spine") as error:
        retry(Settings(), bench.ledger, job, Instruction(NOW))
    assert "ainode" not in str(error.value)


def test_the_command_that_a_retry_names_is_one_that_works(bench: Bench) -> None:
    bench.to(free_port())
    with pytest.raises(LookupError, match="`ainode deliver job` sends what the archive does not have"):
        retry(bench.settings, bench.ledger, "job", Instruction(NOW))
    assert deliver(bench.settings, bench.ledger, "job", Instruction(NOW)) == ("archive",)
    listener = Peer(name="archive", deliver="hl7", host="127.0.0.1", port=free_port(), hl7={})  # type: ignore[arg-type]
    settings = Settings(peers=(listener,))
    with pytest.raises(LookupError, match="`ainode deliver job NAME` sends its message again to archive"):
        retry(settings, bench.ledger, "job", Instruction(NOW))


def test_a_job_that_waits_is_read_without_a_retry(bench: Bench) -> None:
    bench.ledger.open(Job("waits", UID("1.4"), "spine", "spine", {UID("1.2.5"): "00"}, NOW, NOW, ()))
    with pytest.raises(LookupError, match="it is waiting: its documents leave when it is read"):
        retry(Settings(), bench.ledger, "waits", Instruction(NOW))


# Words


@pytest.mark.parametrize("status", [0xA700, 0xA777, 0xC000, 0xB006])
def test_the_words_of_an_archive_are_kept_with_the_delivery_and_not_in_the_log(
    bench: Bench, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="ainode")
    with serving(SmallArchive(status, QUOTATION)) as port:
        bench.to(port).send("job", "archive", NOW)
    for delivery in bench.deliveries:
        assert (delivery.archive_status, delivery.archive_comment) == (status, QUOTATION)
        assert f'the archive says: "{QUOTATION}"' in delivery.explanation
        assert "SMITH" not in delivery.error
    assert "SMITH" not in caplog.text


def test_words_about_a_proof_go_when_the_proof_comes_and_words_about_the_document_stay(bench: Bench) -> None:
    with serving(SmallArchive(0x0000, "stored on tape")) as port:
        bench.to(port).send("job", "archive", NOW)
    with http(lambda request: said(request, 403, QUOTATION)) as peer:
        by_web = {"dicomweb": peer.dicomweb, "deliver": "dicomweb", "retrieve": "dicomweb"}
        assert not bench.to(port, **by_web).confirm("job", "archive", NOW)
    assert all(QUOTATION in delivery.explanation for delivery in bench.deliveries)
    for delivery in bench.deliveries:
        bench.ledger.outbox.confirmed(delivery, proof="query", at=NOW)
    assert {delivery.explanation for delivery in bench.deliveries} == {'the archive says: "stored on tape"'}


def test_a_document_that_the_archive_still_has_keeps_the_time_of_its_first_proof(bench: Bench) -> None:
    with serving(SmallArchive(0x0000, "")) as port:
        bench.to(port).send("job", "archive", NOW)
    for asked_at, checked_at in ((NOW, None), (NEXT_DAY, NEXT_DAY)):
        for delivery in bench.deliveries:
            bench.ledger.outbox.confirmed(delivery, proof="query", at=asked_at)
        assert {one.state for one in bench.deliveries} == {DeliveryState.CONFIRMED}
        assert {(one.confirmed_at, one.checked_at) for one in bench.deliveries} == {(NOW, checked_at)}
        bench.ledger.outbox.recheck("job")
    for delivery in bench.deliveries:
        bench.ledger.outbox.missing(delivery, error="deleted there")
    assert {(one.confirmed_at, one.checked_at) for one in bench.deliveries} == {(None, None)}


def test_a_document_that_was_sent_again_is_proved_anew(bench: Bench) -> None:
    outbox = bench.ledger.outbox
    with serving(SmallArchive(0x0000, "")) as port:
        bench.to(port).send("job", "archive", NOW)
    for delivery in bench.deliveries:
        outbox.confirmed(delivery, proof="query", at=NOW)
    outbox.recheck("job")
    outbox.give_up("job", "archive", DeliveryState.CHECKING, at=LATER, error="no answer")
    bench.ledger.revive("job", Instruction(LATER, "ada"))
    for delivery in bench.deliveries:
        outbox.sent(delivery, status=0, comment="", at=NEXT_DAY)
    assert {(one.proof, one.confirmed_at, one.checked_at) for one in bench.deliveries} == {("", None, None)}
    for delivery in bench.deliveries:
        outbox.confirmed(delivery, proof="query", at=NEXT_DAY)
    assert {(one.confirmed_at, one.checked_at) for one in bench.deliveries} == {(NEXT_DAY, None)}


def test_nobody_asks_for_the_documents_of_a_job_that_is_gone(bench: Bench) -> None:
    bench.ledger.outbox.recheck("gone", instruction=Instruction(NOW, "ada"))


def test_the_words_are_shown_by_jobs_and_by_the_http_interface(bench: Bench, tmp_path: Path) -> None:
    with serving(SmallArchive(0xC123, QUOTATION)) as port:
        bench.to(port).send("job", "archive", NOW)
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    shown = CliRunner().invoke(app, ["jobs", "--config", str(config)]).output
    assert f'the archive says: "{QUOTATION}"' in shown
    engine = bench.ledger._engine
    status = study_status(UID("1.2"), Catalog(engine), bench.ledger, Announcements(engine))
    assert status
    (first, _) = status.jobs[0].documents
    assert [(one.archive_status, one.archive_comment) for one in first.deliveries] == [(0xC123, QUOTATION)]


# A change of the document


def moved(dataset: Dataset) -> None:
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.999", "2.25.998"


def renamed(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:-2]}.1"


@pytest.mark.parametrize("status", [0x0000, 0xB000])
def test_a_document_under_another_study_is_confirmed_and_sent_once(bench: Bench, status: int) -> None:
    archive = SmallArchive(status, change=moved)
    with serving(archive) as port:
        courier = bench.to(port)
        assert courier.send("job", "archive", NOW)
        assert courier.confirm("job", "archive", LATER)
    assert bench.states() == ["confirmed", "confirmed"]
    assert len(archive.stored) == 2
    assert all(("0xB000" in delivery.explanation) is bool(status) for delivery in bench.deliveries)


def test_a_document_that_an_archive_changed_beyond_finding_stays_sent_and_is_never_sent_again(bench: Bench) -> None:
    archive = SmallArchive(0xB000, "coerced", change=renamed)
    with serving(archive) as port:
        courier = bench.to(port)
        courier.send("job", "archive", NOW)
        assert not courier.confirm("job", "archive", NOW)
        assert bench.kinds() == [TaskKind.CONFIRM]
        assert courier.confirm("job", "archive", LATER)
    assert bench.states() == ["sent", "sent"]
    assert bench.kinds() == []
    assert len(archive.stored) == 2
    for delivery in bench.deliveries:
        assert "coercion of data elements" in delivery.explanation
        assert "it is not sent again" in delivery.explanation


def test_a_changed_document_is_no_dead_letter_where_the_attempts_end_first(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(SmallArchive(0xB007, change=renamed)) as port:
        courier = bench.to(port)
        courier.send("job", "archive", NOW)
        courier.confirm("job", "archive", NOW)
        courier.give_up("job", "archive", DeliveryState.SENT, NOW)
    assert bench.states() == ["sent", "sent"]
    assert "given up" not in caplog.text


def test_a_document_that_the_archive_took_without_a_warning_and_lost_is_sent_again(bench: Bench) -> None:
    archive = SmallArchive(change=renamed)
    with serving(archive) as port:
        courier = bench.to(port)
        courier.send("job", "archive", NOW)
        courier.confirm("job", "archive", LATER)
    assert bench.states() == ["waiting", "waiting"]


def test_a_changed_document_that_is_not_committed_is_not_sent_again(bench: Bench) -> None:
    archive = SmallArchive(0xB000)
    with serving(archive) as port:
        courier = bench.to(port, confirm="commitment")
        courier.send("job", "archive", NOW)
        courier.confirm("job", "archive", NOW)
    failed = {delivery.document.ref.sop_instance_uid: "0x0112" for delivery in bench.deliveries}
    bench.ledger.outbox.settle(archive.requests[0].TransactionUID, [], failed, LATER)
    assert bench.states() == ["sent", "sent"]
    assert bench.kinds() == []
    assert {delivery.error for delivery in bench.deliveries} == {"not committed: 0x0112"}


# A late commitment


def test_a_commitment_after_the_last_question_settles_and_nothing_was_given_up_before(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    archive = SmallArchive()
    with serving(archive) as port:
        courier = bench.to(port, confirm="commitment")
        courier.send("job", "archive", NOW)
        for hours in range(3):
            assert not courier.confirm("job", "archive", NOW + timedelta(hours=hours))
        courier.give_up("job", "archive", DeliveryState.SENT, NOW)
    assert len(archive.requests) == 3
    assert bench.states() == ["sent", "sent"]
    assert bench.kinds() == []
    assert all("has not reported" in delivery.error for delivery in bench.deliveries)
    assert "given up" not in caplog.text
    first, second = (delivery.document.ref.sop_instance_uid for delivery in bench.deliveries)
    bench.ledger.outbox.settle(archive.requests[0].TransactionUID, [first], {}, LATER)
    bench.ledger.outbox.settle(archive.requests[2].TransactionUID, [second], {}, LATER)
    assert bench.states() == ["confirmed", "confirmed"]
    assert {(delivery.proof, delivery.explanation) for delivery in bench.deliveries} == {("storage commitment", "")}


@pytest.mark.parametrize("transaction", ["", " ", "%", "2.25.1", "_"])
def test_a_report_of_no_transaction_of_ours_settles_nothing(bench: Bench, transaction: str) -> None:
    archive = SmallArchive()
    with serving(archive) as port:
        courier = bench.to(port, confirm="commitment")
        courier.send("job", "archive", NOW)
        courier.confirm("job", "archive", NOW)
    uids = [delivery.document.ref.sop_instance_uid for delivery in bench.deliveries]
    bench.ledger.outbox.settle(transaction, uids, {}, LATER)
    bench.ledger.outbox.settle(transaction, [], dict.fromkeys(uids, "0x0110"), LATER)
    bench.ledger.outbox.settle(str(archive.requests[0].TransactionUID)[:-1], uids, {}, LATER)
    assert bench.states() == ["sent", "sent"]


def test_a_failure_of_an_older_request_is_not_the_answer_to_the_newer(bench: Bench) -> None:
    archive = SmallArchive()
    with serving(archive) as port:
        courier = bench.to(port, confirm="commitment")
        courier.send("job", "archive", NOW)
        courier.confirm("job", "archive", NOW)
        courier.confirm("job", "archive", LATER)
    failed = {delivery.document.ref.sop_instance_uid: "0x0112" for delivery in bench.deliveries}
    bench.ledger.outbox.settle(archive.requests[0].TransactionUID, [], failed, LATER)
    assert bench.states() == ["sent", "sent"]
    bench.ledger.outbox.settle(archive.requests[1].TransactionUID, [], failed, LATER)
    assert bench.states() == ["waiting", "waiting"]


def test_an_archive_that_refuses_to_commit_makes_dead_letters_with_its_words(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(SmallArchive(comment=QUOTATION, commitment_status=0x0110)) as port:
        courier = bench.to(port, confirm="commitment")
        courier.send("job", "archive", NOW)
        for hours in range(3):
            assert not courier.confirm("job", "archive", NOW + timedelta(hours=hours))
        courier.give_up("job", "archive", DeliveryState.SENT, NOW)
    assert bench.states() == ["failed", "failed"]
    assert all(delivery.proof_comment == QUOTATION for delivery in bench.deliveries)
    assert "SMITH" not in caplog.text


def test_a_request_that_fails_later_leaves_the_request_that_the_archive_took(bench: Bench) -> None:
    archive = SmallArchive()
    with serving(archive) as port:
        courier = bench.to(port, confirm="commitment")
        courier.send("job", "archive", NOW)
        courier.confirm("job", "archive", NOW)
    assert not courier.confirm("job", "archive", LATER)  # nobody is there
    courier.give_up("job", "archive", DeliveryState.SENT, NOW)
    assert bench.states() == ["sent", "sent"]
    assert {delivery.transaction_uid for delivery in bench.deliveries} == {archive.requests[0].TransactionUID}


def test_a_person_may_ask_again_for_what_was_never_proven(bench: Bench) -> None:
    with serving(SmallArchive()) as port:
        courier = bench.to(port, confirm="commitment")
        courier.send("job", "archive", NOW)
        courier.confirm("job", "archive", NOW)
        courier.give_up("job", "archive", DeliveryState.SENT, NOW)
    assert retry(bench.settings, bench.ledger, "job", Instruction(NOW)) == ("archive",)
    assert bench.states() == ["sent", "sent"]
    assert bench.kinds() == [TaskKind.CONFIRM]


# Results that are gone


def confirmed(bench: Bench) -> None:
    for delivery in bench.deliveries:
        values = {"sent_at": NOW, "proof": "query", "confirmed_at": NOW}
        put_delivery(bench.ledger, delivery, state=DeliveryState.CONFIRMED, **values)


def both(bench: Bench, port: int, ask: Callable[[], object], **peer: object) -> tuple[Courier, list[str]]:
    courier = bench.to(port, **peer)
    confirmed(bench)
    ask()
    states = bench.states()
    assert bench.kinds() == [TaskKind.CHECK]
    return courier, states


@pytest.mark.parametrize("way", ["job", "study"])
def test_the_archive_is_asked_first_and_gets_what_it_misses_byte_for_byte(bench: Bench, way: str) -> None:
    archive = SmallArchive()

    def ask() -> None:
        if way == "job":
            assert deliver(bench.settings, bench.ledger, "job", Instruction(NOW)) == ("archive",)
        else:
            deliver_study(bench.settings, bench.ledger, UID("1.2"))

    with serving(archive) as port:
        bench.to(port).send("job", "archive", NOW)
        (first, second) = archive.stored
        del archive.kept[second]
        courier, states = both(bench, port, ask)
        assert states == ["checking", "checking"]
        assert courier.check("job", "archive", LATER)
        assert bench.states() == ["confirmed", "waiting"]
        assert [delivery.confirmed_at for delivery in bench.deliveries] == [NOW, None]
        assert "does not have it any more" in bench.deliveries[1].error
        courier.send("job", "archive", LATER)
        courier.confirm("job", "archive", LATER)
    assert archive.stored == [first, second, second]
    assert bench.states() == ["confirmed", "confirmed"]


@pytest.mark.parametrize("confirm", ["none", "commitment"])
def test_an_archive_that_cannot_be_asked_gets_all_again(bench: Bench, confirm: str) -> None:
    with http(lambda request: said(request, 501)) as peer:
        web = {"dicomweb": peer.dicomweb, "deliver": "dicomweb", "retrieve": "dicomweb", "confirm": confirm}
        courier, _ = both(
            bench, free_port(), lambda: deliver(bench.settings, bench.ledger, "job", Instruction(NOW), "archive"), **web
        )
        assert courier.check("job", "archive", LATER)
    assert bench.states() == ["waiting", "waiting"]


def test_an_archive_that_is_away_is_asked_again_and_then_given_up(bench: Bench) -> None:
    courier, _ = both(bench, free_port(), lambda: deliver(bench.settings, bench.ledger, "job", Instruction(NOW)))
    assert not courier.check("job", "archive", LATER)
    assert bench.states() == ["checking", "checking"]
    assert all("no association" in delivery.error for delivery in bench.deliveries)
    courier.give_up("job", "archive", DeliveryState.CHECKING, NOW)
    assert bench.states() == ["failed", "failed"]


def test_a_document_that_is_on_its_way_is_not_asked_for(bench: Bench) -> None:
    bench.to(free_port())
    _, sent = bench.deliveries
    put_delivery(bench.ledger, sent, state=DeliveryState.SENT, sent_at=NOW)
    deliver_study(bench.settings, bench.ledger, UID("1.2"))
    assert bench.states() == ["waiting", "sent"]


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.READING, JobState.FAILED, JobState.SUPERSEDED])
def test_a_job_that_does_not_count_is_not_delivered_and_the_reason_says_what_to_do(
    bench: Bench, state: JobState
) -> None:
    bench.to(free_port())
    put_job(bench.ledger, "job", state=state)
    with pytest.raises(LookupError, match=f"job job is {state}: "):
        deliver(bench.settings, bench.ledger, "job", Instruction(NOW))
    confirmed(bench)
    deliver_study(bench.settings, bench.ledger, UID("1.2"))
    assert bench.states() == ["confirmed", "confirmed"]


def test_what_no_archive_has_of_a_withdrawn_result_leaves_no_more_whoever_asks(bench: Bench) -> None:
    bench.to(free_port())
    sent, _ = bench.deliveries
    put_delivery(bench.ledger, sent, state=DeliveryState.SENT, sent_at=NOW)
    assert bench.ledger.withdraw("job", [], "withdrawn: no route has its place", NOW, wishes={})
    assert [delivery.document for delivery in bench.deliveries] == [sent.document]
    for function in (retry, deliver):
        with pytest.raises(LookupError, match=r"does not hold any more \(withdrawn: no route has its place\)"):
            function(bench.settings, bench.ledger, "job", Instruction(NOW))
    deliver_study(bench.settings, bench.ledger, UID("1.2"))
    assert bench.states() == ["sent"]
    put_delivery(bench.ledger, sent, state=DeliveryState.WAITING)  # as when the archive does not list the document
    assert bench.kinds() == []


def test_a_destination_that_the_job_does_not_have_is_refused_with_the_command_that_sends(bench: Bench) -> None:
    bench.to(free_port())
    with pytest.raises(LookupError, match=r"'other' but for archive; `ainode send .*documents/job other`"):
        deliver(bench.settings, bench.ledger, "job", Instruction(NOW), "other")
