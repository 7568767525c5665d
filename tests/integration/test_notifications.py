"""People are told: by a webhook that refuses, hangs, drops and comes back, by e-mail, by a file; across a kill."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
import tomli_w
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session
from support import free_port
from support.canaries import WORDS, traces
from support.certificates import Certificate, authority, issued
from support.databases import migrated
from support.disks import SmallDisk, small_disk
from support.node import SPINE, RunningNode, configured, running
from support.pager import SECRET, Pager, is_genuine, paging
from support.rows import put_job
from support.studies import WrittenStudy, stored
from support.waiting import until

from ainode.node import testing
from ainode.node.audit.messages import Message
from ainode.node.audit.recorder import drop as ignored
from ainode.node.diagnosis.checks import check_lines
from ainode.node.domain import UID, DeliveryState, JobState, Occasion
from ainode.node.errors import ArchiveRefused, ArchiveUnreachable, ConfigError, LeaseLost
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.notices import Notice, Notices
from ainode.node.keeping.records import Job
from ainode.node.notifying import sending
from ainode.node.notifying.alerts import alert
from ainode.node.notifying.notifier import Notifier
from ainode.node.notifying.watch import Watch
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import DeliveryTable, NodeTable, Settings, Subscription

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOTICE = Notice("n" * 32, "pager", Occasion.PRESENT, "job", '{"id": "n", "words": "läsion"}', NOW)
QUICK = DeliveryTable(first_wait_s=0.05, longest_wait_s=0.1, attempts=4)
LOUD = SPINE.replace("support.handler", "support.alarming")


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER_SECRET", SECRET)
    monkeypatch.setenv("MAIL_USER", "ainode")
    monkeypatch.setenv("MAIL_PASSWORD", "battery staple")


NEWS = tuple(occasion for occasion in Occasion if occasion is not Occasion.TEST)


def webhook(address: str, *on: Occasion, answer_s: float = 30, **values: object) -> Subscription:
    return Subscription(
        name="pager",
        to="webhook",
        address=address,
        key_env="PAGER_SECRET",
        on=on or NEWS,
        answer_s=answer_s,
        **values,  # type: ignore[arg-type]
    )


def drop(folder: Path, *on: Occasion, **values: object) -> Subscription:
    return Subscription(name="drop", to="folder", folder=str(folder), on=on or NEWS, **values)  # type: ignore[arg-type]


def until_told(notifier: Notifier, true: Callable[[], bool]) -> None:
    """Wait until something holds, and have the notifier look meanwhile."""

    def holds() -> bool:
        notifier.wake()
        return true()

    until(holds)


# One attempt


def test_a_webhook_gets_the_body_its_id_and_a_signature_that_five_lines_verify() -> None:
    pager = Pager(["204"])
    with paging(pager) as address:
        sending.send(webhook(address), NOTICE, datetime.now(UTC))
    (call,) = pager.calls
    assert (call.id, call.body) == (NOTICE.id, NOTICE.body.encode())
    assert is_genuine(call.headers, call.body, SECRET)
    assert not is_genuine(call.headers, call.body, "another secret")
    assert not is_genuine(call.headers, call.body.replace(b"n", b"m"), SECRET)
    assert not is_genuine({**call.headers, "Ainode-Timestamp": str(int(time.time()) + 1)}, call.body, SECRET)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ("500", ArchiveUnreachable, "answered with status 500"),
        ("404", ArchiveUnreachable, "answered with status 404"),
        ("302", ArchiveUnreachable, "answered with status 302"),
        ("410", ArchiveRefused, "refused with status 410"),
        ("422", ArchiveRefused, "refused with status 422"),
        ("hang", ArchiveUnreachable, "no answer in time"),
        ("drip", ArchiveUnreachable, "no answer in time|Connection reset"),
        ("drop", ArchiveUnreachable, "no answer in time, or none that is HTTP"),
    ],
)
def test_whoever_does_not_take_a_notice_is_an_error_that_says_whether_another_attempt_can_help(
    answer: str, kind: type[Exception], words: str
) -> None:
    pager, answer_s = Pager([answer]), 0.5 if answer in {"hang", "drip"} else 30
    with paging(pager) as address, pytest.raises(kind, match=words) as told:
        sending.send(webhook(f"{address}hooks/TOKEN", answer_s=answer_s), NOTICE, NOW)
    assert str(told.value).startswith(f"pager at {urlsplit(address).netloc}: ")
    assert "TOKEN" not in str(told.value)


def test_nobody_at_the_address_and_a_missing_secret_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    subscription = webhook(f"http://127.0.0.1:{free_port()}/")
    with pytest.raises(ArchiveUnreachable):
        sending.send(subscription, NOTICE, NOW)
    monkeypatch.delenv("PAGER_SECRET")
    with pytest.raises(ConfigError, match="PAGER_SECRET"):
        sending.send(subscription, NOTICE, NOW)


# E-mail


class Mailbox:
    """Takes e-mails of whoever logs in, or answers with another status."""

    def __init__(self, answer: str = "250 taken") -> None:
        self.answer, self.contents, self.recipients = answer, list[bytes](), list[str]()

    async def handle_DATA(self, _: object, __: Session, envelope: Envelope) -> str:  # noqa: N802 - of aiosmtpd
        assert isinstance(envelope.content, bytes)
        self.contents.append(envelope.content)
        self.recipients += envelope.rcpt_tos
        return self.answer


def authenticated(*attempt: object) -> AuthResult:
    is_right = getattr(attempt[-1], "password", b"") == b"battery staple"
    return AuthResult(success=is_right, handled=False)


@contextlib.contextmanager
def mailing(mailbox: Mailbox, certificate: Certificate, *, security: str) -> Iterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.path, certificate.key)
    tls = {"tls_context": context, "require_starttls": True} if security == "starttls" else {"ssl_context": context}
    port = free_port()
    is_plain_first = security == "starttls"  # aiosmtpd knows TLS that begins later alone
    login = {"auth_required": is_plain_first, "auth_require_tls": is_plain_first, "authenticator": authenticated}
    address = {"hostname": "127.0.0.1", "port": port, "ready_timeout": 60}
    controller = Controller(mailbox, **address, **tls, **login)  # type: ignore[arg-type]
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def mail(port: int, ca: Certificate, security: str, **values: object) -> Subscription:
    return Subscription(
        name="mail",
        to="mail",
        on=NEWS,
        host="127.0.0.1",
        port=port,
        security=security,  # type: ignore[arg-type]
        sender="ainode@hospital.example",
        recipients=("radiology@hospital.example", "it@hospital.example"),
        user_env="MAIL_USER",
        password_env="MAIL_PASSWORD",  # noqa: S106 - the name of a variable
        ca_file=str(ca.path),
        answer_s=60,
        **values,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return authority(tmp_path_factory.mktemp("ca"), "mail-ca")


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_an_e_mail_goes_over_tls_with_a_login_and_has_the_same_message_id_each_time(
    ca: Certificate, security: str
) -> None:
    mailbox = Mailbox()
    with mailing(mailbox, issued(ca, f"server-{security}"), security=security) as port:
        sending.connect(mail(port, ca, security))
        assert mailbox.contents == []
        for _ in range(2):
            sending.send(mail(port, ca, security), NOTICE, NOW)
    first, second = map(message_from_bytes, mailbox.contents)
    assert first["Message-ID"] == second["Message-ID"] == f"<{NOTICE.id}@ainode>"
    assert "words: läsion" in first.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert set(mailbox.recipients) == {"radiology@hospital.example", "it@hospital.example"}


@pytest.mark.parametrize(("answer", "kind"), [("451 later", ArchiveUnreachable), ("554 never", ArchiveRefused)])
def test_a_mail_server_that_does_not_take_it_says_whether_another_attempt_can_help(
    ca: Certificate, answer: str, kind: type[Exception]
) -> None:
    server = issued(ca, f"server-{answer[:3]}")
    with (
        mailing(Mailbox(answer), server, security="starttls") as port,
        pytest.raises(kind, match=f"answered with {answer[:3]}"),
    ):
        sending.send(mail(port, ca, "starttls"), NOTICE, NOW)


def greet_without_end(listener: socket.socket) -> None:
    """Send one line of a greeting after the other, as long as the caller listens."""
    with contextlib.suppress(OSError):
        connection, _ = listener.accept()
        with connection:
            while True:
                connection.sendall(b"220-not yet\r\n")
                time.sleep(0.1)


def test_a_mail_server_whose_greeting_has_no_end_is_left_after_the_time_of_an_answer(ca: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=greet_without_end, args=(listener,), daemon=True).start()
        subscription = mail(listener.getsockname()[1], ca, "starttls").model_copy(update={"answer_s": 1.0})
        began_s = time.monotonic()
        with pytest.raises(ArchiveUnreachable, match="no mail server took it"):
            sending.send(subscription, NOTICE, NOW)
        assert time.monotonic() - began_s < 30


def test_no_e_mail_and_no_password_goes_to_a_server_that_another_authority_vouches_for(
    ca: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox, stranger = Mailbox(), authority(tmp_path, "stranger")
    with (
        mailing(mailbox, issued(stranger, "false"), security="starttls") as port,
        pytest.raises(ArchiveUnreachable, match="not trusted"),
    ):
        sending.send(mail(port, ca, "starttls"), NOTICE, NOW)
    with mailing(mailbox, issued(ca, "true"), security="starttls") as port:
        monkeypatch.setenv("MAIL_PASSWORD", "wrong")
        with pytest.raises(ArchiveUnreachable, match="user and password"):
            sending.send(mail(port, ca, "starttls"), NOTICE, NOW)
    assert mailbox.contents == []


# Files


def test_a_file_appears_whole_under_its_id_and_the_same_notice_makes_no_second_file(tmp_path: Path) -> None:
    for _ in range(2):
        sending.send(drop(tmp_path), NOTICE, NOW)
    (path,) = tmp_path.iterdir()
    assert (path.name, path.read_bytes()) == (f"{NOTICE.id}.json", NOTICE.body.encode())


def test_a_folder_that_is_not_there_is_not_made_and_a_full_one_keeps_no_part(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreachable, match="there is no folder"):
        sending.send(drop(tmp_path / "not mounted"), NOTICE, NOW)
    assert not (tmp_path / "not mounted").exists()
    with small_disk(tmp_path):
        disk = SmallDisk(tmp_path)
        disk.fill_bytes()
        with pytest.raises(ArchiveUnreachable, match="space"):
            sending.send(drop(tmp_path), NOTICE, NOW)
        assert [*tmp_path.glob("*.json*")] == []


def test_a_folder_of_others_is_an_error_that_says_so(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        words = "Read-only|not permitted|denied|Not a directory|no folder"
        folder = Path("/proc/self/fdinfo")  # where root makes no file either
    else:
        words, folder = "may not write", tmp_path
        tmp_path.chmod(0o500)
    with pytest.raises(ArchiveUnreachable, match=f"{words}|No such file"):
        sending.send(drop(folder), NOTICE, NOW)


# What is kept is sent


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    yield engine
    engine.dispose()


@contextlib.contextmanager
def notifying(
    engine: sa.Engine,
    *subscriptions: Subscription,
    record: Callable[[Message], None] = ignored,
    may_leave: Callable[[], None] = lambda: None,
) -> Iterator[Notifier]:
    settings = Settings(node=NodeTable(), delivery=QUICK, subscriptions=subscriptions)
    notifier = Notifier(settings, engine, lambda: datetime.now(UTC), record, may_leave)
    notifier.start()
    try:
        yield notifier
        assert notifier.is_alive()
    finally:
        notifier.stop()


def test_a_node_that_others_took_for_dead_tells_nobody_and_the_notice_waits_with_all_its_attempts(
    engine: sa.Engine,
) -> None:
    pager, notices, is_asked = Pager(["200"]), Notices(engine), threading.Semaphore(0)

    def refuse() -> None:
        is_asked.release()
        raise LeaseLost("taken for dead")

    notices.keep([NOTICE])
    with paging(pager) as address, notifying(engine, webhook(address), may_leave=refuse) as notifier:
        for _ in range(2):
            assert is_asked.acquire(timeout=120)
            notifier.wake()
        assert pager.calls == []
    (notice,) = notices.due(NOTICE.subscription, datetime.now(UTC), count=2)
    assert (notice.state, notice.attempts) == (DeliveryState.WAITING, 0)


def test_the_same_notice_is_sent_again_with_its_id_until_it_is_taken(engine: sa.Engine) -> None:
    pager, notices = Pager(["500", "drop", "200"]), Notices(engine)
    notices.keep([NOTICE])
    with paging(pager) as address, notifying(engine, webhook(address)) as notifier:
        until_told(notifier, lambda: notices.tally("pager", NOW).sent == 1)
    assert pager.ids == [NOTICE.id] * 3
    assert len({call.body for call in pager.calls}) == 1


@pytest.mark.parametrize(("answer", "count"), [("500", QUICK.attempts), ("410", 1)])
def test_what_nobody_takes_becomes_a_dead_letter_that_can_be_sent_again(
    engine: sa.Engine, answer: str, count: int
) -> None:
    pager, notices = Pager([answer] * count + ["200"]), Notices(engine)
    notices.keep([NOTICE])
    with paging(pager) as address, notifying(engine, webhook(address)) as notifier:
        until_told(notifier, lambda: notices.failed_count() == 1)
        assert len(pager.calls) == count
        assert answer in notices.failed(count=1)[0].error
        notices.retry(datetime.now(UTC))
        until_told(notifier, lambda: notices.tally("pager", NOW).sent == 1)
    assert set(pager.ids) == {NOTICE.id}


def test_a_receiver_that_hangs_delays_no_other(engine: sa.Engine, tmp_path: Path) -> None:
    pager, notices = Pager(["hang"]), Notices(engine)
    folder = tmp_path / "drop"
    folder.mkdir()
    with paging(pager) as address, notifying(engine, webhook(address, answer_s=60), drop(folder)) as notifier:
        notices.keep([NOTICE])
        notifier.wake()
        until(lambda: bool(pager.calls))
        for number in range(20):
            notices.keep([replace(NOTICE, id=f"{number}", subscription="drop")])
        notifier.wake()
        until(lambda: len([*folder.glob("*.json")]) == 20)
        assert notices.tally("pager", NOW).waiting == 1
        pager.release.set()


@pytest.mark.parametrize(
    ("answer", "failure"), [("200", ""), ("410", "pager at 127.0.0.1:PORT: refused with status 410")]
)
def test_the_audit_trail_names_the_study_that_somebody_was_told_of_and_no_alert(
    engine: sa.Engine, answer: str, failure: str
) -> None:
    notices, written_down = Notices(engine), list[Message]()
    notices.keep([replace(NOTICE, study_instance_uid=UID("1.2.3")), replace(NOTICE, id="alert")])
    with (
        paging(Pager([answer])) as address,
        notifying(engine, webhook(address), record=written_down.append) as notifier,
    ):
        until_told(notifier, lambda: notices.tally("pager", NOW).waiting == 0)
    (message,) = written_down
    failure = failure.replace("PORT", address.split(":")[2].partition("/")[0])
    assert (message.event.meaning, message.failure) == ("Export", failure)
    assert message.subjects[0].identifier == "1.2.3"
    assert [participant.user_id for participant in message.participants] == ["", "pager"]


def test_a_leftover_that_cannot_be_removed_keeps_no_notice_from_the_folder(engine: sa.Engine, tmp_path: Path) -> None:
    loop = tmp_path / f"{NOTICE.id}.json.0123.part"
    loop.symlink_to(loop)  # the system refuses to open it
    notices = Notices(engine)
    notices.keep([replace(NOTICE, subscription="drop")])
    with notifying(engine, drop(tmp_path)) as notifier:
        until_told(notifier, (tmp_path / f"{NOTICE.id}.json").exists)


# What is news


def job_of(ledger: Ledger, name: str, *, queued_at: datetime = NOW) -> Job:
    job = Job(name, UID(f"1.2.{len(ledger.jobs()) + 1}"), "spine", "any", {}, NOW, queued_at, ())
    assert ledger.open(job)
    return job


def test_a_failure_is_told_once_across_looks_and_starts(engine: sa.Engine, tmp_path: Path) -> None:
    settings = Settings(node=NodeTable(), subscriptions=(drop(tmp_path, Occasion.FAILURE),))
    ledger, notices = Ledger(engine), Notices(engine)
    job = job_of(ledger, "j")
    assert ledger.move(job.id, JobState.READING)
    assert ledger.move(job.id, JobState.FAILED, reason="broken", at=NOW)
    for _ in range(2):  # a start each
        watch = Watch(settings, engine)
        for _ in range(2):
            watch.look(NOW + timedelta(minutes=1))
    (notice,) = notices.due("drop", NOW + timedelta(hours=1), count=9)
    assert (notice.occasion, json.loads(notice.body)["words"]) == (Occasion.FAILURE, "broken")


def test_a_queue_is_told_once_when_its_oldest_waits_for_too_long_and_once_when_that_is_over(
    engine: sa.Engine, tmp_path: Path
) -> None:
    settings = Settings(node=NodeTable(), subscriptions=(drop(tmp_path, Occasion.QUEUE, queue_minutes=30),))
    ledger, notices = Ledger(engine), Notices(engine)
    old, young = job_of(ledger, "old"), job_of(ledger, "young", queued_at=NOW + timedelta(minutes=15))

    def told(minutes: float) -> list[str]:
        Watch(settings, engine).look(NOW + timedelta(minutes=minutes))
        notices_of_now = notices.due("drop", NOW + timedelta(days=1), count=9)
        return [json.loads(notice.body)["state"] for notice in notices_of_now]

    assert told(29) == []
    assert told(31) == told(33) == ["waits"]
    put_job(ledger, old.id, state=JobState.REPORTED)
    assert told(34) == ["waits"]  # the next has waited for 19 minutes, which is more than half
    put_job(ledger, young.id, state=JobState.REPORTED)
    assert told(35) == told(36) == ["waits", "over"]
    job_of(ledger, "new", queued_at=NOW + timedelta(minutes=40))
    assert told(75) == ["waits", "over", "waits"]


def test_an_alert_of_any_process_is_sent_by_the_node(engine: sa.Engine, tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    subscription = drop(folder, Occasion.ALERT)
    with notifying(engine, subscription):
        settings = Settings(
            node=NodeTable(), subscriptions=(subscription, webhook("http://127.0.0.1:1/", Occasion.PRESENT))
        )
        assert alert(settings, engine, "self_test", "the answer changed", datetime.now(UTC)) == 1
        until(lambda: bool([*folder.glob("*.json")]))
    (path,) = folder.glob("*.json")
    assert json.loads(path.read_text())["words"] == "the answer changed"


# Before anything is sent, and the commands


def test_check_says_what_keeps_a_notification_from_leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pager = Pager(["200"])
    with paging(pager) as address:
        subscriptions = (webhook(address), drop(tmp_path / "nowhere"))
        settings = Settings(node=NodeTable(data=tmp_path, min_free_bytes=0), subscriptions=subscriptions)
        lines = {name: (state, words) for name, state, words in check_lines(settings) if "notification" in name}
        assert lines["notification pager"][0] == "ready"
        assert (lines["notification drop"][0], pager.calls) == ("not ready", [])
        assert "there is no folder" in lines["notification drop"][1]
        monkeypatch.delenv("PAGER_SECRET")
        lines = {name: (state, words) for name, state, words in check_lines(settings) if "notification" in name}
        assert lines["notification pager"][0] == "not ready"
        assert "PAGER_SECRET" in lines["notification pager"][1]


def test_check_says_that_nobody_is_told_where_each_route_of_a_notification_is_a_shadow(tmp_path: Path) -> None:
    shadow, live = Route("old", "x", mode=RouteMode.SHADOW), Route("new", "x")
    shadows, both, queue = (
        drop(tmp_path).model_copy(update={"name": name, "routes": routes, "on": on})
        for name, routes, on in (
            ("shadows", ("old",), (Occasion.PRESENT,)),
            ("both", ("old", "new"), (Occasion.PRESENT,)),
            ("queue", ("old",), (Occasion.QUEUE,)),
        )
    )
    node = NodeTable(data=tmp_path, min_free_bytes=0)
    settings = Settings(node=node, routes=(shadow, live), subscriptions=(shadows, both, queue))
    lines = {name: (state, words) for name, state, words in check_lines(settings) if "notification" in name}
    assert {name: state for name, (state, _) in lines.items()} == {
        "notification shadows": "attention",
        "notification both": "ready",
        "notification queue": "ready",
    }
    assert "each of its routes is a shadow (old), of which no answer is told" in lines["notification shadows"][1]
    assert "(live: new)" in lines["notification shadows"][1]


def command(node: RunningNode, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-m", "ainode.node.commands.cli", *arguments, "--config", str(node.config))
    return subprocess.run(words, capture_output=True, text=True, check=False)


# The whole node


def notification_table(*subscriptions: Subscription) -> str:
    tables = [subscription.model_dump(mode="json", exclude_defaults=True) for subscription in subscriptions]
    return tomli_w.dumps({"notification": tables})


def patient_study(folder: Path, name: str, order: str) -> WrittenStudy:
    """Write a study whose header names the patient in every attribute that a notification could include."""
    word = WORDS[0]
    header: dict[str, str | int] = {
        "PatientName": word,
        "PatientID": f"{word}4711",
        "AccessionNumber": f"{word}1",
        "StudyDescription": word,
        "ReferringPhysicianName": word,
    }
    picture = testing.noise(320, 320, SeriesDescription=order, BodyPartExamined="TSPINE", **header)  # type: ignore[arg-type]
    return WrittenStudy(testing.uid(name), testing.write([picture], folder / name, study=name))


def node_with(folder: Path, *subscriptions: Subscription, routes: str = LOUD) -> RunningNode:
    quick = "[delivery]\nfirst_wait_s = 0.1\nlongest_wait_s = 0.2\nattempts = 1000"
    more = f"{quick}\n\n{notification_table(*subscriptions)}"
    return configured(folder, more=more, routes=routes)


def bodies(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def test_a_node_tells_what_it_finds_across_a_kill_and_nothing_of_the_patient_unless_that_is_configured(
    tmp_path: Path,
) -> None:
    named, shadow = tmp_path / "named", tmp_path / "shadow"
    named.mkdir()
    shadow.mkdir()
    pager = Pager(["hang", "200"])
    routes = LOUD + LOUD.replace('name = "spine"', 'name = "shadow"\nmode = "shadow"')
    with paging(pager) as address:
        including = drop(named, Occasion.PRESENT, include=("PatientID", "AccessionNumber"))
        of_shadow = drop(shadow, Occasion.PRESENT, routes=("shadow",)).model_copy(update={"name": "shadow"})
        waiting_long = webhook(address, Occasion.PRESENT, answer_s=60)
        node = node_with(tmp_path / "node", waiting_long, including, of_shadow, routes=routes)
        loud, quiet = (patient_study(tmp_path, order, order) for order in ("loud", "quiet"))
        with running(node):
            assert stored(node, loud) == [0x0000]
            node.until(lambda: bool(pager.calls), within_s=120)
            node.kill()
            (waiting,) = Notices(node.engine).due("pager", datetime.now(UTC), count=9)
            assert waiting.state is DeliveryState.WAITING
        with running(node):
            assert stored(node, quiet) == [0x0000]
            for study in (loud, quiet):
                node.read(study.uid)
            node.until(lambda: Notices(node.engine).tally("pager", NOW).sent == 1 and bool(bodies(named)), within_s=120)
            listed = command(node, "notify", "list")
            tested = command(node, "notify", "test", "pager")
    assert "pager" in listed.stdout, listed
    assert "taken; its id is" in tested.stdout, tested
    unheard, call, trial = pager.calls
    assert (unheard.id, unheard.body) == (call.id, call.body)
    assert is_genuine(call.headers, call.body, SECRET)
    assert json.loads(call.body)["study"] == loud.uid
    assert [json.loads(trial.body)[key] for key in ("occasion", "kind")] == ["test", "test"]
    assert traces(call.body) == []
    assert [traces(value.encode()) for value in call.headers.values()] == [[]] * len(call.headers)
    (body,) = bodies(named)
    assert body["patient"] == {"PatientID": f"{WORDS[0]}4711", "AccessionNumber": f"{WORDS[0]}1"}
    assert bodies(shadow) == []
    assert traces(node.log.read_bytes()) == []


def test_a_start_without_the_secret_is_refused_by_the_name_of_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_with(tmp_path / "node", webhook("http://127.0.0.1:9/"))
    monkeypatch.delenv("PAGER_SECRET")
    refused = command(node, "serve")
    assert refused.returncode == 2
    assert "notification.key_env: the environment has no PAGER_SECRET" in refused.stderr
