"""What holds for a listener of either language, HL7 v2 or FHIR R4: the ledger, the audit trail, check and doctor."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import free_port, installed
from support.databases import migrated

installed("hl7apy")

from support.languages import FHIR, HL7, NOW, Language, ehr, his, sendable  # noqa: E402
from support.rows import put_delivery, read  # noqa: E402

from ainode.node.audit.messages import DESTINATION_MEDIA, Message  # noqa: E402
from ainode.node.diagnosis.advice import problems  # noqa: E402
from ainode.node.diagnosis.checks import check_lines  # noqa: E402
from ainode.node.diagnosis.doctor import examine  # noqa: E402
from ainode.node.disk import sha256_of  # noqa: E402
from ainode.node.domain import (  # noqa: E402
    UID,
    DeliveryState,
    DocumentKind,
    InstanceRef,
    JobState,
    Judgement,
    Opinion,
)
from ainode.node.errors import ArchiveUnreachable  # noqa: E402
from ainode.node.identity import wishes  # noqa: E402
from ainode.node.jobs.courier import Courier  # noqa: E402
from ainode.node.jobs.retries import deliver, deliver_study, retry  # noqa: E402
from ainode.node.keeping import database  # noqa: E402
from ainode.node.keeping.job_events import Instruction  # noqa: E402
from ainode.node.keeping.judgements import Judgements  # noqa: E402
from ainode.node.keeping.ledger import Ledger  # noqa: E402
from ainode.node.keeping.records import Delivery, Job, KeptDocument, Outcome  # noqa: E402
from ainode.node.settings import DeliveryTable, NodeTable, Peer, Settings  # noqa: E402

STUDY = UID("1.2")
BOTH = pytest.mark.parametrize("language", [HL7, FHIR], ids=str)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    yield Ledger(engine)
    engine.dispose()


def settings_with(peer: Peer) -> Settings:
    archive = Peer(name="archive", ae_title="A", host="127.0.0.1", port=free_port())
    return Settings(node=NodeTable(), peers=(archive, peer), delivery=DeliveryTable(attempts=2))


def kept(language: Language, folder: Path, name: str, number: int = 1) -> KeptDocument:
    """Write a message of nobody as a document of the job."""
    document, path = language.document(number), folder / f"{number}.message"
    path.write_bytes(document.content)
    return KeptDocument("job", document.ref, language.kind, path, sha256_of(path), name)


def reported(ledger: Ledger, folder: Path, language: Language, peer: Peer) -> Settings:
    """Report a job with a message for the peer and an object for an archive; return the settings of its node."""
    settings = settings_with(peer)
    job = Job("job", STUDY, "spine", "spine", {UID("1.2.3"): "00"}, NOW, NOW, ("archive", peer.name))
    ledger.open(job)
    path = folder / "report.dcm"
    path.write_bytes(b"a report")
    ref = InstanceRef(STUDY, STUDY, STUDY, UID("1.2.9"))
    report = KeptDocument("job", ref, DocumentKind.STRUCTURED_REPORT, path, sha256_of(path))
    outcome = Outcome(JobState.REPORTED, "{}", "", 1.0)
    documents = [report, kept(language, folder, peer.name)]
    read(ledger, job, documents, outcome, wishes=wishes(settings, job.destinations))
    return settings


def only(ledger: Ledger, name: str) -> Delivery:
    (delivery,) = ledger.deliveries("job", name)
    return delivery


@BOTH
def test_nobody_at_the_port_is_a_reason_to_try_again(language: Language) -> None:
    (answer,) = language.sent(language.absent(), [sendable(language.document(1))])
    assert isinstance(answer.error, ArchiveUnreachable)


@BOTH
def test_a_message_goes_to_its_listener_alone_and_once_acknowledged_nothing_of_it_remains_to_be_done(
    ledger: Ledger, tmp_path: Path, language: Language
) -> None:
    with language.speaking([language.taken]) as (peer, arrived):
        settings = reported(ledger, tmp_path, language, peer)
        pairs = {(item.destination, item.document.kind) for item in ledger.deliveries("job")}
        assert Courier(settings, ledger).send("job", peer.name, NOW)
    assert pairs == {("archive", DocumentKind.STRUCTURED_REPORT), (peer.name, language.kind)}
    assert arrived == [language.document(1).content]
    delivery = only(ledger, peer.name)
    assert (delivery.state, delivery.proof) == (DeliveryState.CONFIRMED, "acknowledgment")
    assert (delivery.tried_at, delivery.sent_at, delivery.confirmed_at) == (NOW, NOW, NOW)
    tasks = ledger.tasks.waiting(settings.unconfirmed)
    assert {waiting.task.destination for waiting in tasks} == {"archive"}


@BOTH
def test_a_refused_message_is_a_dead_letter_whose_words_are_in_no_log(
    ledger: Ledger, tmp_path: Path, language: Language, caplog: pytest.LogCaptureFixture
) -> None:
    with language.speaking([language.refused]) as (peer, _), caplog.at_level(logging.DEBUG):
        settings = reported(ledger, tmp_path, language, peer)
        assert Courier(settings, ledger).send("job", peer.name, NOW)
    delivery = only(ledger, peer.name)
    assert delivery.state is DeliveryState.FAILED
    assert "the listener says:" in delivery.explanation
    assert "MUELLER" in delivery.archive_comment
    assert language.refusal in caplog.text
    assert "MUELLER" not in caplog.text


@BOTH
def test_an_error_of_the_listener_waits_and_is_given_up_after_the_attempts(
    ledger: Ledger, tmp_path: Path, language: Language
) -> None:
    with language.speaking([language.later]) as (peer, _):
        courier = Courier(reported(ledger, tmp_path, language, peer), ledger)
        assert not courier.send("job", peer.name, NOW)
        assert only(ledger, peer.name).state is DeliveryState.WAITING
        courier.give_up("job", peer.name, DeliveryState.WAITING, NOW)
    delivery = only(ledger, peer.name)
    assert delivery.state is DeliveryState.FAILED
    assert "now" in delivery.error


@BOTH
@pytest.mark.parametrize("name", ["listener", "archive"])
def test_a_document_for_what_a_peer_no_longer_is_never_leaves(
    ledger: Ledger, tmp_path: Path, language: Language, name: str
) -> None:
    with language.speaking([language.taken]) as (peer, arrived):
        reported(ledger, tmp_path, language, peer)
        other = his(1) if language is FHIR else ehr("http://127.0.0.1:1/fhir")
        changed, destination = (peer, "archive") if name == "archive" else (other, peer.name)
        settings = Settings(node=NodeTable(), peers=(changed.model_copy(update={"name": destination}),))
        assert Courier(settings, ledger).send("job", destination, NOW)
    delivery = only(ledger, destination)
    assert delivery.state is DeliveryState.FAILED
    assert "`deliver` of the [[peer]] changed" in delivery.error
    assert arrived == []


@BOTH
def test_what_a_listener_acknowledged_is_sent_again_only_where_the_listener_is_named(
    ledger: Ledger, tmp_path: Path, language: Language
) -> None:
    with language.speaking([language.taken]) as (peer, arrived):
        settings = reported(ledger, tmp_path, language, peer)
        courier = Courier(settings, ledger)
        assert courier.send("job", peer.name, NOW)
        assert deliver(settings, ledger, "job", Instruction(NOW)) == ("archive",)
        deliver_study(settings, ledger, STUDY)
        assert only(ledger, peer.name).state is DeliveryState.CONFIRMED
        assert deliver(settings, ledger, "job", Instruction(NOW), peer.name) == (peer.name,)
        assert courier.check("job", peer.name, NOW)
        assert courier.send("job", peer.name, NOW)
    assert only(ledger, peer.name).state is DeliveryState.CONFIRMED
    first, second = arrived
    assert first == second


def test_an_operator_of_listeners_alone_is_told_what_sends_a_message_again(ledger: Ledger, tmp_path: Path) -> None:
    reported(ledger, tmp_path, HL7, his(1))
    alone = Settings(node=NodeTable(), peers=(his(1), his(2).model_copy(update={"name": "archive"})))
    put_delivery(ledger, only(ledger, "his"), state=DeliveryState.CONFIRMED)
    with pytest.raises(LookupError, match="`ainode deliver job NAME` sends the message again"):
        deliver(alone, ledger, "job", Instruction(NOW))


@BOTH
@pytest.mark.parametrize("word", ["taken", "refused", "later"])
def test_the_audit_trail_has_an_export_and_no_transfer_of_instances(
    ledger: Ledger, tmp_path: Path, language: Language, word: str
) -> None:
    written_down: list[Message] = []
    with language.speaking([getattr(language, word)]) as (peer, _):
        settings = reported(ledger, tmp_path, language, peer)
        Courier(settings, ledger, written_down.append).send("job", peer.name, NOW)
    (message,) = written_down
    outcome = "0" if word == "taken" else "8"
    assert (message.event.meaning, message.outcome, bool(message.failure)) == ("Export", outcome, word != "taken")
    _, receiver = message.participants
    assert (receiver.user_id, receiver.address, receiver.role) == (peer.name, "127.0.0.1", DESTINATION_MEDIA)
    assert message.subjects[0].identifier == language.document(1).ref.study_instance_uid
    assert "MUELLER" not in message.failure


def with_a_later_one(ledger: Ledger, folder: Path, language: Language, name: str) -> None:
    """Put a second message of the job behind the first, as a judgement does."""
    judgements = Judgements(database.connect(f"sqlite:///{folder / 'catalog.sqlite'}"))
    judgement = Judgement("job", "", Opinion.ACCEPT, "ada")
    number = judgements.keep(judgement, NOW, statement="", presence="", has_addendum=True)
    documents = [kept(language, folder, name, 2)]
    assert ledger.append(documents, number, wishes={"archive": (), name: (language.kind,)})


@BOTH
def test_a_later_message_waits_until_the_earlier_one_is_taken(
    ledger: Ledger, tmp_path: Path, language: Language
) -> None:
    with language.speaking([language.later, language.taken]) as (peer, arrived):
        courier = Courier(reported(ledger, tmp_path, language, peer), ledger)
        with_a_later_one(ledger, tmp_path, language, peer.name)
        assert not courier.send("job", peer.name, NOW)
        assert arrived == [language.document(1).content]
        assert courier.send("job", peer.name, NOW)
    assert arrived == [language.document(number).content for number in (1, 1, 2)]
    assert {item.state for item in ledger.deliveries("job", peer.name)} == {DeliveryState.CONFIRMED}


@BOTH
def test_what_was_refused_is_sent_behind_a_later_message_unless_that_holds_it(
    ledger: Ledger, tmp_path: Path, language: Language
) -> None:
    with language.speaking([language.refused, language.taken]) as (peer, arrived):
        settings = reported(ledger, tmp_path, language, peer)
        with_a_later_one(ledger, tmp_path, language, peer.name)
        courier = Courier(settings, ledger)
        assert courier.send("job", peer.name, NOW)
        assert retry(settings, ledger, "job", Instruction(NOW, "ada")) == (peer.name,)
        assert courier.send("job", peer.name, NOW)
    numbers = (1, 2) if language is FHIR else (1, 2, 1)
    assert arrived == [language.document(number).content for number in numbers]
    first, _ = ledger.deliveries("job", peer.name)
    assert first.state is DeliveryState.CONFIRMED
    assert ("a later transaction of the job" in first.archive_comment) is (language is FHIR)


def test_of_a_message_that_a_later_one_replaced_nothing_says_that_the_listener_took_it_or_spoke_of_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    with FHIR.speaking([FHIR.refused, FHIR.taken]) as (peer, _):
        settings = reported(ledger, tmp_path, FHIR, peer)
        with_a_later_one(ledger, tmp_path, FHIR, peer.name)
        courier = Courier(settings, ledger)
        courier.send("job", peer.name, NOW)
        retry(settings, ledger, "job", Instruction(NOW, "ada"))
        courier.send("job", peer.name, NOW)
    first, second = ledger.deliveries("job", peer.name)
    assert (first.is_replaced, first.proof, first.sent_at) == (True, "replaced", None)
    assert first.explanation.startswith("not sent any more: a later transaction of the job")
    assert (second.is_replaced, second.proof) == (False, "acknowledgment")


def lines_of(folder: Path, peer: Peer) -> list[tuple[str, str, str]]:
    settings = Settings(node=NodeTable(data=folder, min_free_bytes=0), peers=(peer,))
    return [line for line in check_lines(settings) if line[0] == f"peer {peer.name}"]


@BOTH
def test_check_asks_a_listener_what_it_is_and_sends_nothing(tmp_path: Path, language: Language) -> None:
    with language.speaking([language.taken]) as (peer, arrived):
        (line,) = lines_of(tmp_path, peer)
    assert line[1] == "ready"
    assert "no message sent" in line[2]
    assert arrived == []
    (line,) = lines_of(tmp_path, language.absent())
    assert line[1] == "not ready"


@BOTH
@pytest.mark.parametrize("word", ["", "taken", "refused"])
def test_the_doctor_sends_a_listener_a_message_of_nobody_where_it_is_asked_to(
    tmp_path: Path, language: Language, word: str
) -> None:
    with language.speaking([getattr(language, word or "taken")]) as (peer, arrived):
        settings = Settings(node=NodeTable(data=tmp_path), peers=(peer,))
        found = examine(peer, settings, token="1", now=NOW, with_message=bool(word))  # noqa: S106
    outcomes = ["yes"] * language.trials + {"": [], "taken": ["yes"], "refused": ["no"]}[word]
    assert [trial.outcome for trial in found.trials] == outcomes
    assert len(arrived) == bool(word)
    mark = b"HTEST" if language is FHIR else b"|T|2.5.1"
    assert all(mark in content for content in arrived)
    assert [language.refusal in problem for problem in problems(found)] == [True] * (word == "refused")


@BOTH
def test_the_doctor_says_that_a_listener_is_away(tmp_path: Path, language: Language) -> None:
    peer = language.absent()
    found = examine(peer, Settings(node=NodeTable(data=tmp_path), peers=(peer,)), token="1", now=NOW)  # noqa: S106
    assert problems(found)[0].startswith("the listener did not answer")
