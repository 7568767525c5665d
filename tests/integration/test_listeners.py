"""Messages to a listener that takes them, refuses them, is silent, answers nonsense, dies, or is away."""

import ssl
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import Orthanc, installed

installed("hl7apy")

from collections.abc import Iterator  # noqa: E402

from support.certificates import authority, issued  # noqa: E402
from support.languages import his, message, sendable  # noqa: E402
from support.listener import WORDS, Listener, judged, listening  # noqa: E402
from support.node import SPINE, RunningNode, configured, running  # noqa: E402
from support.studies import stored, written  # noqa: E402

from ainode.node.archive import mllp  # noqa: E402
from ainode.node.archive.mllp import MessageLink  # noqa: E402
from ainode.node.archive.store import Outgoing, SendOutcome  # noqa: E402
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState  # noqa: E402
from ainode.node.errors import ArchiveRefused, ArchiveUnreachable, NotSent  # noqa: E402
from ainode.node.jobs.retries import retry  # noqa: E402
from ainode.node.keeping.job_events import Instruction  # noqa: E402
from ainode.node.keeping.records import Delivery  # noqa: E402
from ainode.node.settings import Peer, load  # noqa: E402

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUICK = "[delivery]\nfirst_wait_s = 0.1\nlongest_wait_s = 0.2\nattempts = ATTEMPTS"
STUDY = UID("1.2")
AFTER_ALL = ("AE", "AE 204", "AR 207", "silence", "half", "garbage", "other", "closes", "XX", "AA")
"""what a listener may do wrong for a while"""


def outgoing(number: int = 1) -> Outgoing:
    return sendable(message(number))


def outcome(listener: Listener, **values: object) -> SendOutcome:
    with listening(listener) as port:
        (answer,) = mllp.send(MessageLink(his(port, **values)), [outgoing()])  # type: ignore[arg-type]
    return answer


# One message


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_an_acknowledgment_is_the_proof_that_a_message_arrived(code: str) -> None:
    listener = Listener([code])
    answer = outcome(listener)
    assert (answer.error, answer.is_proven) == (None, True)
    (arrived,) = listener.messages
    assert judged(arrived, "utf-8").oru_r01_patient_result.oru_r01_patient.pid.pid_5.to_er7() == "AINODE^DOCTOR"


@pytest.mark.parametrize("answer", ["line ends", "mark", "mark within"])
def test_what_a_listener_writes_before_its_acknowledgment_costs_no_acknowledgment(answer: str) -> None:
    assert outcome(Listener([answer])).is_proven


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("AE", "cannot take message"),
        ("CE", "cannot take message"),
        ("AE 204", "(AE, error 204)"),
        ("AR 206", "(AR, error 206)"),
        ("AR 207", "(AR, error 207)"),
        ("XX", "unknown code"),
        ("silence", "no answer in time"),
        ("drips", "no answer in time"),
        ("closes", "closed the connection without an answer"),
        ("half", "no answer in time"),
        ("garbage", "no MLLP frame"),
        ("other", "acknowledges another message"),
        ("nameless", "acknowledges no message by its control id"),
    ],
)
def test_what_may_pass_is_tried_again_and_says_why(answer: str, words: str) -> None:
    outcome_of_it = outcome(Listener([answer]), answer_s=0.5 if words == "no answer in time" else 20)
    assert type(outcome_of_it.error) is ArchiveUnreachable, "the listener may have taken it"
    assert words in str(outcome_of_it.error)
    assert "MUELLER" not in str(outcome_of_it.error)


@pytest.mark.parametrize("answer", ["AR", "CR", "AR 200", "AR 202", "AR 203", "AE 101", "AE 103", "AE 205"])
def test_what_cannot_pass_is_refused_for_good_with_the_words_of_the_listener_beside(answer: str) -> None:
    outcome_of_it = outcome(Listener([answer]))
    assert isinstance(outcome_of_it.error, ArchiveRefused)
    assert outcome_of_it.comment.startswith(WORDS.replace("^", "\\S\\"))
    assert "MUELLER" not in str(outcome_of_it.error)


def test_several_messages_go_one_after_the_other_until_one_gets_no_answer() -> None:
    listener = Listener(["AA", "AE", "closes", "AA"])
    with listening(listener) as port:
        answers = mllp.send(MessageLink(his(port)), [outgoing(number) for number in (1, 2, 3, 4)])
    assert [answer.is_proven for answer in answers] == [True, False, False, False]
    assert len(listener.messages) == 3
    assert len(set(listener.control_ids)) == 3


@contextmanager
def tunnel(folder: Path, listener: Listener) -> Iterator[tuple[int, Path]]:
    """Serve a listener over TLS; yield the port, and the authority that signed its certificate."""
    ca = authority(folder, "ca")
    certificate = issued(ca, "his")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    with listening(listener, context=context) as port:
        yield port, ca.path


def test_a_listener_over_tls_is_trusted_by_its_authority_alone(tmp_path: Path) -> None:
    listener = Listener(["AA"])
    with tunnel(tmp_path, listener) as (port, ca):
        (answer,) = mllp.send(MessageLink(his(port, tls=True, ca_file=str(ca))), [outgoing()])
        (refused,) = mllp.send(MessageLink(his(port, tls=True)), [outgoing(2)])
        (plain,) = mllp.send(MessageLink(his(port)), [outgoing(3)])
    assert answer.is_proven
    assert isinstance(refused.error, NotSent)
    assert "the certificate is not trusted" in str(refused.error)
    assert isinstance(plain.error, ArchiveUnreachable)
    assert len(listener.messages) == 1


# The whole node


def node_with(folder: Path, *peers: Peer, attempts: int = 1000, routes: str = SPINE) -> RunningNode:
    return configured(folder, peers=peers, more=QUICK.replace("ATTEMPTS", str(attempts)), routes=routes)


@pytest.fixture(scope="module")
def heard(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Listener]]:
    """Run one node with an archive and a listener, whose answers each test sets."""
    listener = Listener(["AA"])
    folder = tmp_path_factory.mktemp("heard")
    with listening(listener) as port, running(node_with(folder, archive.peer, his(port, answer_s=6))) as node:
        yield node, listener


def message_of(deliveries: Sequence[Delivery]) -> Delivery:
    (delivery,) = [item for item in deliveries if item.destination == "his"]
    return delivery


def test_every_fault_of_a_listener_leads_to_the_same_message_again_and_the_archive_has_the_report_that_it_names(
    heard: tuple[RunningNode, Listener], archive: Orthanc, tmp_path: Path
) -> None:
    node, listener = heard
    listener.begin(list(AFTER_ALL))
    study = written(tmp_path, "at last")
    assert stored(node, study) == [0x0000]
    job, deliveries = node.read(study.uid)
    delivery = message_of(deliveries)
    assert job.state is JobState.REPORTED
    assert {item.state for item in deliveries} == {DeliveryState.CONFIRMED}
    assert delivery.proof == "acknowledgment"
    assert len(listener.messages) == len(AFTER_ALL)
    assert set(listener.messages) == {delivery.document.path.read_bytes()}
    in_archive = set(archive.instances_of(study.uid))
    assert in_archive == {item.document.ref.sop_instance_uid for item in deliveries if item is not delivery}
    (report,) = [item for item in deliveries if item.document.kind is DocumentKind.STRUCTURED_REPORT]
    assert report.document.ref.sop_instance_uid.encode() in listener.messages[0]
    assert b"RESEARCH USE ONLY" in listener.messages[0]
    assert "MUELLER" not in node.log.read_text()


def test_a_message_that_was_refused_is_sent_again_when_a_person_asks(
    heard: tuple[RunningNode, Listener], tmp_path: Path
) -> None:
    node, listener = heard
    listener.begin(["AR 200", "AA"])
    study = written(tmp_path, "refused")
    stored(node, study)
    job, deliveries = node.read(study.uid)
    assert message_of(deliveries).state is DeliveryState.FAILED
    assert {item.state for item in deliveries if item.destination != "his"} == {DeliveryState.CONFIRMED}
    assert retry(load(node.config), node.ledger, job.id, Instruction(datetime.now(UTC), "ada")) == ("his",)
    _, deliveries = node.read(study.uid)
    assert {item.state for item in deliveries} == {DeliveryState.CONFIRMED}
    first, second = listener.control_ids
    assert first == second


def test_messages_that_waited_across_a_kill_and_an_outage_arrive_once_and_the_unacknowledged_one_again(
    tmp_path: Path,
) -> None:
    studies = [written(tmp_path, f"waits {number}") for number in range(3)]
    listener = Listener(["silence"])
    with listening(listener) as port:
        node = node_with(tmp_path / "node", his(port, answer_s=60))
        node.start()
        stored(node, studies[0])
        node.until(lambda: bool(listener.messages), within_s=120)
        node.kill()
    (delivery,) = waiting(node)
    assert (delivery.state, bool(delivery.tried_at)) == (DeliveryState.WAITING, True)
    later = Listener(["AA"])
    with running(node):
        stored(node, *studies[1:])
        node.until(lambda: sum(bool(item.error) for item in waiting(node)) == len(studies), within_s=120)
        with listening(later, port):
            deliveries = [message_of(node.read(study.uid)[1]) for study in studies]
    assert {delivery.state for delivery in deliveries} == {DeliveryState.CONFIRMED}
    assert len(later.messages) == len(set(later.control_ids)) == len(studies)
    assert listener.messages[0] in later.messages


def waiting(node: RunningNode) -> list[Delivery]:
    return [item for job in node.ledger.jobs() for item in node.ledger.deliveries(job.id)]


def test_a_shadow_sends_no_message_and_a_refusal_is_one_without_a_result_where_the_route_reports_it(
    tmp_path: Path,
) -> None:
    listener, studies = Listener(["AA"]), [written(tmp_path, order, order=order) for order in ("read", "decline")]
    shadow, reporting = (SPINE.replace('"spine"', f'"{name}"') for name in ("shadow", "reporting"))
    routes = f'{SPINE}{shadow}\nmode = "shadow"\nreport_out_of_scope = true\n{reporting}\nreport_out_of_scope = true\n'
    with listening(listener) as port, running(node_with(tmp_path / "node", his(port), routes=routes)) as node:
        stored(node, *studies)
        for study in studies:
            node.until(lambda uid=study.uid: len(node.ledger.jobs(study=uid)) == 3, within_s=120)  # type: ignore[misc]
            node.read(study.uid)
        senders = {(job.route, job.state) for job in node.ledger.jobs() for _ in node.ledger.deliveries(job.id, "his")}
    reported, refused = JobState.REPORTED, JobState.OUT_OF_SCOPE
    assert senders == {("spine", reported), ("reporting", reported), ("reporting", refused)}
    assert len(listener.messages) == 3
    (refusal,) = [message for message in listener.messages if b"this study asks to be declined" in message]
    assert b"|||X|" in refusal
