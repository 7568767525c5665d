"""Messages to a listener that takes them, refuses them, is silent, answers nonsense, dies, or is away."""

import logging
import ssl
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from support import Orthanc, free_port, installed

installed("hl7apy")

from collections.abc import Iterator  # noqa: E402

from support.certificates import authority, issued  # noqa: E402
from support.listener import WORDS, Listener, judged, listening  # noqa: E402
from support.node import SPINE, RunningNode, configured, running  # noqa: E402
from support.rows import put_delivery, read  # noqa: E402
from support.studies import stored, written  # noqa: E402

from ainode.node.archive import mllp  # noqa: E402
from ainode.node.archive.mllp import MessageLink  # noqa: E402
from ainode.node.archive.store import Outgoing, SendOutcome  # noqa: E402
from ainode.node.diagnosis.advice import problems  # noqa: E402
from ainode.node.diagnosis.checks import check_lines  # noqa: E402
from ainode.node.diagnosis.doctor import examine  # noqa: E402
from ainode.node.diagnosis.doctor_objects import trial_message  # noqa: E402
from ainode.node.disk import sha256_of  # noqa: E402
from ainode.node.domain import UID, DeliveryState, Document, DocumentKind, InstanceRef, JobState  # noqa: E402
from ainode.node.errors import ArchiveRefused, ArchiveUnreachable  # noqa: E402
from ainode.node.identity import message_address, wishes  # noqa: E402
from ainode.node.jobs.courier import Courier  # noqa: E402
from ainode.node.jobs.retries import deliver, deliver_study, retry  # noqa: E402
from ainode.node.keeping import database  # noqa: E402
from ainode.node.keeping.job_events import Instruction  # noqa: E402
from ainode.node.keeping.ledger import Ledger  # noqa: E402
from ainode.node.keeping.records import Delivery, Job, KeptDocument, Outcome  # noqa: E402
from ainode.node.settings import DeliveryTable, Hl7Table, NodeTable, Peer, Settings, load  # noqa: E402

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUICK = "[delivery]\nfirst_wait_s = 0.1\nlongest_wait_s = 0.2\nattempts = ATTEMPTS"
STUDY = UID("1.2")
AFTER_ALL = ("AE", "AE 204", "AR 207", "silence", "half", "garbage", "other", "closes", "XX", "AA")
"""what a listener may do wrong for a while"""


def his(port: int, *, answer_s: float = 20, **values: object) -> Peer:
    table = Hl7Table(receiving_application="RIS", answer_s=answer_s)
    return Peer(name="his", host="127.0.0.1", port=port, deliver="hl7", hl7=table, **values)  # type: ignore[arg-type]


@cache
def message(number: int = 1) -> Document:
    return trial_message(message_address(his(1)), str(number), NOW)


def outgoing(number: int = 1) -> Outgoing:
    document = message(number)
    return Outgoing.message(document.ref.sop_instance_uid, document.content)


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
    ],
)
def test_what_may_pass_is_tried_again_and_says_why(answer: str, words: str) -> None:
    outcome_of_it = outcome(Listener([answer]), answer_s=0.5 if words == "no answer in time" else 20)
    assert isinstance(outcome_of_it.error, ArchiveUnreachable)
    assert words in str(outcome_of_it.error)
    assert "MUELLER" not in str(outcome_of_it.error)


@pytest.mark.parametrize("answer", ["AR", "CR", "AR 200", "AR 202", "AR 203", "AE 101", "AE 103", "AE 205"])
def test_what_cannot_pass_is_refused_for_good_with_the_words_of_the_listener_beside(answer: str) -> None:
    outcome_of_it = outcome(Listener([answer]))
    assert isinstance(outcome_of_it.error, ArchiveRefused)
    assert outcome_of_it.comment.startswith(WORDS.replace("^", "\\S\\"))
    assert "MUELLER" not in str(outcome_of_it.error)


def test_nobody_at_the_port_is_a_reason_to_try_again() -> None:
    (answer,) = mllp.send(MessageLink(his(free_port())), [outgoing()])
    assert isinstance(answer.error, ArchiveUnreachable)
    assert "check that the listener runs" in str(answer.error)


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
    assert "the certificate is not trusted" in str(refused.error)
    assert isinstance(plain.error, ArchiveUnreachable)
    assert len(listener.messages) == 1


# The ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    engine = database.connect(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    database.migrate(engine)
    yield Ledger(engine)
    engine.dispose()


def settings_of(port: int) -> Settings:
    archive = Peer(name="archive", ae_title="A", host="127.0.0.1", port=free_port())
    return Settings(node=NodeTable(), peers=(archive, his(port)), delivery=DeliveryTable(attempts=2))


def reported(ledger: Ledger, folder: Path, settings: Settings) -> Delivery:
    """Report a job with a message and an object for an archive; return the delivery of the message."""
    job = Job("job", STUDY, "spine", "spine", {UID("1.2.3"): "00"}, NOW, NOW, ("archive", "his"))
    ledger.open(job)
    document = message()
    paths = [folder / "message.hl7", folder / "report.dcm"]
    for path in paths:
        path.write_bytes(document.content)
    kept = KeptDocument("job", document.ref, DocumentKind.MESSAGE, paths[0], sha256_of(paths[0]), "his")
    report = KeptDocument(
        "job", InstanceRef(STUDY, STUDY, STUDY, UID("1.2.9")), DocumentKind.STRUCTURED_REPORT, paths[1], "ff"
    )
    read(
        ledger,
        job,
        [report, kept],
        Outcome(JobState.REPORTED, "{}", "", 1.0),
        wishes=wishes(settings, job.destinations),
    )
    (delivery,) = ledger.deliveries("job", "his")
    return delivery


def test_a_message_goes_to_its_listener_alone_and_dicom_to_archives_alone(ledger: Ledger, tmp_path: Path) -> None:
    reported(ledger, tmp_path, settings_of(1))
    pairs = {(item.destination, item.document.kind) for item in ledger.deliveries("job")}
    assert pairs == {("archive", DocumentKind.STRUCTURED_REPORT), ("his", DocumentKind.MESSAGE)}


def test_an_acknowledged_message_is_confirmed_and_nothing_remains_to_be_done(ledger: Ledger, tmp_path: Path) -> None:
    with listening(Listener(["AA"])) as port:
        settings = settings_of(port)
        reported(ledger, tmp_path, settings)
        assert Courier(settings, ledger).send("job", "his", NOW)
    (delivery,) = ledger.deliveries("job", "his")
    assert (delivery.state, delivery.proof) == (DeliveryState.CONFIRMED, "acknowledgment")
    assert (delivery.tried_at, delivery.sent_at, delivery.confirmed_at) == (NOW, NOW, NOW)
    tasks = ledger.tasks.waiting(settings.unconfirmed)
    assert {waiting.task.destination for waiting in tasks} == {"archive"}


def test_a_refused_message_is_a_dead_letter_whose_words_are_in_no_log(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(Listener(["AR 200"])) as port, caplog.at_level(logging.DEBUG):
        settings = settings_of(port)
        reported(ledger, tmp_path, settings)
        assert Courier(settings, ledger).send("job", "his", NOW)
    (delivery,) = ledger.deliveries("job", "his")
    assert delivery.state is DeliveryState.FAILED
    assert "the listener says:" in delivery.explanation
    assert "MUELLER" in delivery.archive_comment
    assert "refused message" in caplog.text
    assert "MUELLER" not in caplog.text


def test_an_error_of_the_listener_waits_and_is_given_up_after_the_attempts(ledger: Ledger, tmp_path: Path) -> None:
    with listening(Listener(["AE"])) as port:
        settings = settings_of(port)
        reported(ledger, tmp_path, settings)
        courier = Courier(settings, ledger)
        assert not courier.send("job", "his", NOW)
        assert ledger.deliveries("job", "his")[0].state is DeliveryState.WAITING
        courier.give_up("job", "his", DeliveryState.WAITING, NOW)
    (delivery,) = ledger.deliveries("job", "his")
    assert delivery.state is DeliveryState.FAILED
    assert "cannot take message" in delivery.error


@pytest.mark.parametrize("was_listener", [True, False])
def test_a_document_for_what_a_peer_no_longer_is_never_leaves(
    ledger: Ledger, tmp_path: Path, *, was_listener: bool
) -> None:
    listener = Listener(["AA"])
    with listening(listener) as port:
        reported(ledger, tmp_path, settings_of(port))
        name = "his" if was_listener else "archive"
        changed = his(port) if not was_listener else Peer(name="his", ae_title="A", host="127.0.0.1", port=port)
        settings = Settings(node=NodeTable(), peers=(changed.model_copy(update={"name": name}),))
        assert Courier(settings, ledger).send("job", name, NOW)
    (delivery,) = ledger.deliveries("job", name)
    assert delivery.state is DeliveryState.FAILED
    assert "`deliver` of the [[peer]] changed" in delivery.error
    assert listener.messages == []


def test_what_a_listener_acknowledged_is_sent_again_only_where_the_listener_is_named(
    ledger: Ledger, tmp_path: Path
) -> None:
    listener = Listener(["AA"])
    with listening(listener) as port:
        settings = settings_of(port)
        reported(ledger, tmp_path, settings)
        courier = Courier(settings, ledger)
        assert courier.send("job", "his", NOW)
        assert deliver(settings, ledger, "job", Instruction(NOW)) == ("archive",)
        deliver_study(settings, ledger, STUDY)
        assert ledger.deliveries("job", "his")[0].state is DeliveryState.CONFIRMED
        assert deliver(settings, ledger, "job", Instruction(NOW), "his") == ("his",)
        assert courier.check("job", "his", NOW)
        assert courier.send("job", "his", NOW)
    assert ledger.deliveries("job", "his")[0].state is DeliveryState.CONFIRMED
    first, second = listener.messages
    assert first == second


def test_an_operator_of_listeners_alone_is_told_what_sends_a_message_again(ledger: Ledger, tmp_path: Path) -> None:
    settings = settings_of(1)
    delivery = reported(ledger, tmp_path, settings)
    alone = Settings(node=NodeTable(), peers=(his(1), his(2).model_copy(update={"name": "archive"})))
    put_delivery(ledger, delivery, state=DeliveryState.CONFIRMED)
    with pytest.raises(LookupError, match="`ainode deliver job NAME` sends the message again"):
        deliver(alone, ledger, "job", Instruction(NOW))


# Before anything is sent


def test_check_connects_with_a_listener_and_sends_nothing(tmp_path: Path) -> None:
    listener = Listener(["AA"])
    with listening(listener) as port:
        (line,) = lines_of(tmp_path, his(port))
    assert line[1] == "ready"
    assert "no message sent" in line[2]
    assert listener.messages == listener.unframed == []
    (line,) = lines_of(tmp_path, his(free_port()))
    assert line[1] == "not ready"


def lines_of(folder: Path, peer: Peer) -> list[tuple[str, str, str]]:
    settings = Settings(node=NodeTable(data=folder, min_free_bytes=0), peers=(peer,))
    return [line for line in check_lines(settings) if line[0] == f"peer {peer.name}"]


@pytest.mark.parametrize(
    ("answer", "with_message", "outcomes", "problem"),
    [
        ("AA", False, ["yes"], ""),
        ("AA", True, ["yes", "yes"], ""),
        ("AR 202", True, ["yes", "no"], "the message was not taken: his: refused message"),
    ],
)
def test_the_doctor_sends_a_listener_a_message_of_nobody_where_it_is_asked_to(
    tmp_path: Path, answer: str, *, with_message: bool, outcomes: Sequence[str], problem: str
) -> None:
    listener = Listener([answer])
    with listening(listener) as port:
        settings = Settings(node=NodeTable(data=tmp_path), peers=(his(port),))
        found = examine(his(port), settings, token="1", now=NOW, with_message=with_message)  # noqa: S106
    assert [trial.outcome for trial in found.trials] == outcomes
    assert len(listener.messages) == with_message
    assert all(judged(arrived, "utf-8").msh.msh_11.to_er7() == "T" for arrived in listener.messages)
    assert "".join(problems(found)).startswith(problem)
    assert bool(problems(found)) is bool(problem)


def test_the_doctor_says_that_a_listener_is_away(tmp_path: Path) -> None:
    peer = his(free_port())
    found = examine(peer, Settings(node=NodeTable(data=tmp_path), peers=(peer,)), token="1", now=NOW)  # noqa: S106
    assert problems(found)[0].startswith("the listener did not answer")


# The whole node


def node_with(folder: Path, *peers: Peer, attempts: int = 40, routes: str = SPINE) -> RunningNode:
    return configured(folder, peers=peers, more=QUICK.replace("ATTEMPTS", str(attempts)), routes=routes)


def message_of(deliveries: Sequence[Delivery]) -> Delivery:
    (delivery,) = [item for item in deliveries if item.destination == "his"]
    return delivery


def test_a_study_that_is_sent_to_the_node_is_in_the_archive_and_in_the_system_of_the_hospital(
    archive: Orthanc, tmp_path: Path
) -> None:
    listener, study = Listener(["AA"]), written(tmp_path, "listened")
    with listening(listener) as port, running(node_with(tmp_path / "node", archive.peer, his(port))) as node:
        assert stored(node, study) == [0x0000]
        job, deliveries = node.read(study.uid)
    delivery = message_of(deliveries)
    assert {item.state for item in deliveries} == {DeliveryState.CONFIRMED}
    assert delivery.proof == "acknowledgment"
    (arrived,) = listener.messages
    assert arrived == delivery.document.path.read_bytes()
    in_archive = set(archive.instances_of(study.uid))
    assert in_archive == {item.document.ref.sop_instance_uid for item in deliveries if item is not delivery}
    (report,) = [item for item in deliveries if item.document.kind is DocumentKind.STRUCTURED_REPORT]
    assert report.document.ref.sop_instance_uid.encode() in arrived
    assert b"RESEARCH USE ONLY" in arrived
    assert job.state is JobState.REPORTED


def test_every_fault_of_a_listener_leads_to_the_same_message_again_until_it_is_acknowledged(tmp_path: Path) -> None:
    listener, study = Listener(list(AFTER_ALL)), written(tmp_path, "at last")
    with listening(listener) as port, running(node_with(tmp_path / "node", his(port, answer_s=2))) as node:
        stored(node, study)
        _, deliveries = node.read(study.uid)
    assert message_of(deliveries).state is DeliveryState.CONFIRMED
    assert len(listener.messages) == len(AFTER_ALL)
    assert len(set(listener.messages)) == 1
    assert "MUELLER" not in node.log.read_text()


def test_a_listener_that_comes_back_later_gets_what_waited_once(tmp_path: Path) -> None:
    listener, port = Listener(["AA"]), free_port()
    studies = [written(tmp_path, f"waits {number}") for number in range(3)]
    with running(node_with(tmp_path / "node", his(port), attempts=1000)) as node:
        stored(node, *studies)
        node.until(lambda: sum(bool(item.error) for item in waiting(node)) == len(studies), within_s=120)
        with listening(listener, port):
            deliveries = [message_of(node.read(study.uid)[1]) for study in studies]
    assert {delivery.state for delivery in deliveries} == {DeliveryState.CONFIRMED}
    assert len(listener.messages) == len(set(listener.control_ids)) == len(studies)


def waiting(node: RunningNode) -> list[Delivery]:
    return [item for job in node.ledger.jobs() for item in node.ledger.deliveries(job.id)]


def test_a_node_that_is_killed_before_the_acknowledgment_sends_the_same_message_again(tmp_path: Path) -> None:
    study = written(tmp_path, "killed")
    listener = Listener(["silence", "AA"])
    with listening(listener) as port:
        node = node_with(tmp_path / "node", his(port, answer_s=60))
        node.start()
        stored(node, study)
        node.until(lambda: bool(listener.messages), within_s=120)
        node.kill()
        (delivery,) = waiting(node)
        assert (delivery.state, bool(delivery.tried_at)) == (DeliveryState.WAITING, True)
        with running(node):
            _, deliveries = node.read(study.uid)
    assert message_of(deliveries).state is DeliveryState.CONFIRMED
    first, second = listener.messages
    assert first == second


def test_a_message_that_was_refused_is_sent_again_when_a_person_asks(archive: Orthanc, tmp_path: Path) -> None:
    listener, study = Listener(["AR 200", "AA"]), written(tmp_path, "refused")
    with listening(listener) as port, running(node_with(tmp_path / "node", archive.peer, his(port))) as node:
        stored(node, study)
        job, deliveries = node.read(study.uid)
        assert message_of(deliveries).state is DeliveryState.FAILED
        assert {item.state for item in deliveries if item.destination != "his"} == {DeliveryState.CONFIRMED}
        assert retry(load(node.config), node.ledger, job.id, Instruction(datetime.now(UTC), "ada")) == ("his",)
        _, deliveries = node.read(study.uid)
    assert {item.state for item in deliveries} == {DeliveryState.CONFIRMED}
    first, second = listener.control_ids
    assert first == second


@pytest.mark.parametrize(
    ("route", "order"),
    [
        (f'{SPINE}\nmode = "shadow"\n', "read"),
        (SPINE, "decline"),
    ],
)
def test_a_shadow_route_and_a_refusal_that_no_route_reports_send_no_message(
    tmp_path: Path, route: str, order: str
) -> None:
    listener, study = Listener(["AA"]), written(tmp_path, f"nothing {order}", order=order)
    with listening(listener) as port, running(node_with(tmp_path / "node", his(port), routes=route)) as node:
        stored(node, study)
        _, deliveries = node.read(study.uid)
        assert deliveries == ()
    assert listener.messages == []


def test_a_refusal_that_the_route_reports_is_a_message_without_a_result(tmp_path: Path) -> None:
    listener, study = Listener(["AA"]), written(tmp_path, "declined", order="decline")
    routes = f"{SPINE}\nreport_out_of_scope = true\n"
    with listening(listener) as port, running(node_with(tmp_path / "node", his(port), routes=routes)) as node:
        stored(node, study)
        _, deliveries = node.read(study.uid)
    assert message_of(deliveries).state is DeliveryState.CONFIRMED
    assert b"this study asks to be declined" in listener.messages[0]
