"""An urgent answer that left before the rest of its reading: the next reading confirms, corrects or withdraws it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
from support import installed
from support.databases import migrated

installed("hl7apy", "fhir.resources")

from fhir.resources.R4B.bundle import Bundle  # noqa: E402
from support.alarming import Alarming  # noqa: E402
from support.listener import judged  # noqa: E402
from support.servers import free_port  # noqa: E402
from support.studies import WrittenStudy, written  # noqa: E402

from ainode.node.console.assistant.client import Assistant  # noqa: E402
from ainode.node.console.judgements.addenda import Addenda  # noqa: E402
from ainode.node.domain import (  # noqa: E402
    UID,
    DocumentKind,
    File,
    InstanceRef,
    JobState,
    OnEarly,
    OutOfScope,
    Reading,
    Request,
    Result,
    Selection,
    Series,
    Study,
    UrgentRule,
)
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.errors import HandlerError  # noqa: E402
from ainode.node.jobs.courier import Courier  # noqa: E402
from ainode.node.jobs.readings import Readings  # noqa: E402
from ainode.node.jobs.stations import Stations  # noqa: E402
from ainode.node.jobs.succession import former_routes  # noqa: E402
from ainode.node.keeping.catalog import Catalog, StoredInstance  # noqa: E402
from ainode.node.keeping.judgements import Judgements  # noqa: E402
from ainode.node.keeping.ledger import Ledger  # noqa: E402
from ainode.node.keeping.records import Delivery, Job  # noqa: E402
from ainode.node.keeping.spool import content_sha256  # noqa: E402
from ainode.node.keeping.tasks import Task, TaskKind  # noqa: E402
from ainode.node.reading import pipeline  # noqa: E402
from ainode.node.routes import Route, RouteMode  # noqa: E402
from ainode.node.settings import NodeTable, Peer, Settings, Subscription  # noqa: E402
from ainode.node.settings.fhir import ResourcesTable  # noqa: E402
from ainode.node.settings.listeners import Hl7Table  # noqa: E402

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Cut(BaseException):
    """The node is killed."""


@dataclass
class Answers:
    """What the model says each time that the study is read: loud, quiet, refused or broken.

    `cut` behind the word kills the node once the urgent part is kept.
    """

    study: WrittenStudy
    words: list[str]
    times: int = field(default=0)
    image_count: int = 1

    def read(self, _: str, request: Request, on_early: OnEarly) -> Reading:
        word, _, ending = self.words[self.times].partition(" ")
        self.times += 1
        paths = self.study.paths[: self.image_count]
        uids = [headers.instance(path, sha256="").ref.sop_instance_uid for path in paths]
        files = [File(path, content_sha256(path), uid) for path, uid in zip(paths, uids, strict=True)]
        asked = replace(request, files=tuple(files))

        def early(reading: Reading) -> None:
            on_early(reading)
            if ending == "cut":
                raise Cut

        return pipeline.read(asked, Saying(word), early)


class Saying(Alarming):
    """Says what a test wants."""

    def __init__(self, word: str) -> None:
        self._word = word

    def read(self, selection: Selection) -> Result | OutOfScope:
        if self._word == "broken":
            raise HandlerError("the weights are broken")
        if self._word == "refused":
            return OutOfScope("it shows a hand", "wrong-body-part")
        answer = super().read(selection)
        assert isinstance(answer, Result)
        (finding,) = answer.findings
        assert finding.verdict
        probability = 0.93 if self._word == "loud" else 0.12
        verdict = type(finding.verdict).of(probability, 0.5)
        return replace(answer, findings=(replace(finding, verdict=verdict),), captures=())


@dataclass
class Bench:
    """A node without its processes: readings, and the deliveries that a listener would get."""

    stations: Stations
    answers: Answers
    job: Job

    def read(self) -> None:
        try:
            Readings(self.stations).read(Task(self.job.id, TaskKind.READ))
        except Cut:
            return

    def receive(self, *, is_read: bool = True) -> None:
        """Take an image that comes late, which the model reads with the others or leaves aside."""
        content = {**self.job.content, UID(f"1.2.4.{len(self.job.content)}"): "00"}
        (route,) = self.stations.settings.routes
        self.job = replace(
            self.job,
            id=f"job{len(content)}",
            content=content,
            destinations=route.live_destinations,
            mode=route.mode,
        )
        self.answers.image_count += is_read
        assert self.stations.ledger.open(self.job)

    def tell(self, name: str) -> None:
        """Have a listener take what waits, as the courier does."""
        for delivery in self.waiting(name):
            self.stations.ledger.outbox.acknowledged(delivery, comment="", at=NOW)

    def change(self, **keys: object) -> None:
        """Reload the node with other values of its route."""
        settings = self.stations.settings
        (route,) = settings.routes
        settings = settings.model_copy(update={"routes": (replace(route, **keys),)})
        self.stations = replace(self.stations, settings=settings)

    def waiting(self, name: str) -> tuple[Delivery, ...]:
        claimed = self.stations.ledger.outbox.claim(self.job.id, name, NOW)
        return tuple(item for item in claimed if self.stations.courier._is_needed(item, NOW))

    def sent(self, name: str) -> list[bytes]:
        """Return what a listener took, in the order of taking."""
        jobs = self.stations.ledger.jobs()
        deliveries = [item for job in jobs for item in self.stations.ledger.deliveries(job.id, name)]
        taken = [delivery for delivery in deliveries if delivery.sent_at and not delivery.archive_comment]
        return [delivery.document.path.read_bytes() for delivery in taken]

    def notices(self) -> list[dict[str, Any]]:
        due = self.stations.ledger.notices.due("pager", NOW + timedelta(days=1), count=9)
        return [json.loads(notice.body) for notice in due]

    def page(self) -> list[dict[str, Any]]:
        """Have the pager take what waits."""
        due = self.stations.ledger.notices.due("pager", NOW + timedelta(days=1), count=9)
        for notice in due:
            self.stations.ledger.notices.sent(notice, NOW)
        return [json.loads(notice.body) for notice in due]


@pytest.fixture
def bench(tmp_path: Path, words: list[str]) -> Iterator[Bench]:
    study = written(tmp_path, "loud", order="loud", instances=3)
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    route = Route("spine", "support.alarming", destinations=("his", "ehr"), urgent=UrgentRule(min_probability=0.8))
    peers = (
        Peer(name="his", host="127.0.0.1", port=2575, deliver="hl7", hl7=Hl7Table(result_status="F")),
        Peer(
            name="ehr", fhir="http://127.0.0.1:9/fhir", deliver="fhir", resources=ResourcesTable(report_status="final")
        ),
    )
    pager = Subscription(name="pager", to="folder", folder=str(tmp_path / "drop"), on=("present",))
    node = NodeTable(data=tmp_path, min_free_bytes=1)
    settings = Settings(node=node, routes=(route,), peers=peers, subscriptions=(pager,))
    ledger, answers = Ledger(engine), Answers(study, words)
    uid = UID(study.uid)
    content, names = {UID("1.2.3"): "00"}, ("his", "ehr")
    job = Job("job", uid, "spine", "support.alarming", content, NOW, NOW, names, mode=RouteMode.LIVE)
    ledger.open(job)
    stations = Stations(settings, Catalog(engine), ledger, Courier(settings, ledger), answers.read, lambda: NOW)
    yield Bench(stations, answers, job)
    engine.dispose()


def statuses(message: bytes) -> tuple[str, set[str]]:
    """Return OBR-25, and OBX-11 of what does not describe the order."""
    judged(message, "utf-8")
    lines = [line.split("|") for line in message.decode().split("\r")]
    (result,) = {fields[25] for fields in lines if fields[0] == "OBR"}
    return result, {fields[11] for fields in lines if fields[0] == "OBX"} - {"O"}


def control_id(message: bytes) -> str:
    return message.decode().split("|")[9]


def resources(bundle: bytes) -> list[dict[str, Any]]:
    Bundle.model_validate(json.loads(bundle))
    resources = [entry["resource"] for entry in json.loads(bundle)["entry"]]
    return [each for each in resources if each["resourceType"] in {"Observation", "DiagnosticReport"}]


@pytest.mark.parametrize("words", [["loud cut", "loud"]])
def test_a_second_reading_with_the_same_answer_tells_nobody_again(bench: Bench) -> None:
    bench.read()
    bench.tell("his")
    assert [notice["verdict"] for notice in bench.page()] == ["present"]
    bench.read()
    assert bench.stations.ledger.job("job").state is JobState.REPORTED
    assert bench.waiting("his") == ()
    assert bench.notices() == []


@pytest.mark.parametrize("words", [["loud cut", "quiet"]])
def test_a_second_reading_with_another_answer_corrects_what_was_sent(bench: Bench) -> None:
    bench.read()
    for listener in ("his", "ehr"):
        bench.tell(listener)
    (first_notice,) = bench.page()
    bench.read()
    for listener in ("his", "ehr"):
        bench.tell(listener)
    first, second = bench.sent("his")
    assert statuses(first) == ("F", {"F"})
    assert statuses(second) == ("C", {"C"})
    assert b"0.930" in first
    assert b"0.120" in second
    assert f"Corrects the AI result in message {control_id(first)}".encode() in second
    assert control_id(first) != control_id(second)
    *_, bundle = bench.sent("ehr")
    assert {resource["status"] for resource in resources(bundle)} == {"corrected"}
    (notice,) = bench.page()
    assert (notice["verdict"], notice["corrects"]) == ("absent", first_notice["id"])
    assert notice["words"].startswith("correction of an earlier notification: ")
    assert notice["id"] != first_notice["id"]
    report = bench.stations.ledger.job("job")
    assert '"probability":0.12' in report.result.replace(" ", "")


@pytest.mark.parametrize("words", [["loud cut", "quiet"]])
def test_what_has_not_been_sent_is_replaced_by_what_the_second_reading_says(bench: Bench) -> None:
    bench.read()
    bench.read()
    bench.tell("his")
    (message,) = bench.sent("his")
    assert statuses(message) == ("F", {"F"})
    assert b"0.120" in message
    (notice,) = bench.notices()
    assert notice["verdict"] == "absent"


@pytest.mark.parametrize("words", [["loud cut", "quiet"]])
def test_a_message_that_a_listener_may_have_taken_is_not_sent_behind_its_correction(bench: Bench) -> None:
    bench.read()
    assert len(bench.waiting("his")) == 1  # the answer of the listener never comes
    bench.read()
    bench.tell("his")
    (message,) = bench.sent("his")
    assert statuses(message) == ("C", {"C"})
    assert b"0.120" in message


@pytest.mark.parametrize("words", [["loud", "quiet"]])
def test_a_listener_that_was_away_gets_the_answer_after_a_late_image_as_its_first(bench: Bench) -> None:
    settings = bench.stations.settings
    closed = {"his": {"port": free_port()}, "ehr": {"fhir": f"http://127.0.0.1:{free_port()}/fhir"}}
    peers = tuple(peer.model_copy(update=closed[peer.name]) for peer in settings.peers)
    courier = Courier(settings.model_copy(update={"peers": peers}), bench.stations.ledger)
    bench.read()
    for listener in ("his", "ehr"):
        assert not courier.send(bench.job.id, listener, NOW)
    assert [delivery.tried_at for delivery in bench.stations.ledger.deliveries(bench.job.id)] == [None, None]
    bench.receive()
    bench.read()
    for listener in ("his", "ehr"):
        bench.tell(listener)
    (message,), (bundle,) = bench.sent("his"), bench.sent("ehr")
    assert statuses(message) == ("F", {"F"})
    assert {resource["status"] for resource in resources(bundle)} == {"final"}


@pytest.mark.parametrize("words", [["loud cut", "loud cut", "quiet"]])
def test_two_readings_that_agree_are_one_message_and_the_third_corrects_it(bench: Bench) -> None:
    bench.read()
    bench.read()
    bench.tell("his")
    bench.read()
    bench.tell("his")
    first, second = bench.sent("his")
    assert (statuses(first)[0], statuses(second)[0]) == ("F", "C")


@pytest.mark.parametrize("words", [["loud cut", "broken"]])
def test_a_reading_that_fails_for_good_withdraws_what_was_told(bench: Bench) -> None:
    bench.read()
    for listener in ("his", "ehr"):
        bench.tell(listener)
    (first_notice,) = bench.page()
    bench.read()
    assert bench.stations.ledger.job("job").state is JobState.FAILED
    for listener in ("his", "ehr"):
        bench.tell(listener)
    first, second = bench.sent("his")
    assert statuses(second) == ("X", {"W"})
    assert f"Withdrawn: the AI result in message {control_id(first)} does not hold".encode() in second
    *_, bundle = bench.sent("ehr")
    assert {resource["status"] for resource in resources(bundle)} == {"entered-in-error"}
    (notice,) = bench.page()
    assert (notice["occasion"], notice["verdict"], notice["corrects"]) == ("failure", None, first_notice["id"])


@pytest.mark.parametrize("words", [["loud cut", "broken", "broken", "quiet"]])
def test_a_withdrawn_result_that_is_read_again_is_a_correction_and_no_second_failure_is_told(bench: Bench) -> None:
    bench.read()
    bench.tell("his")
    bench.read()
    bench.tell("his")
    bench.stations.ledger.move("job", JobState.WAITING)
    bench.read()
    assert bench.waiting("his") == ()
    bench.stations.ledger.move("job", JobState.WAITING)
    bench.read()
    bench.tell("his")
    assert sorted(statuses(message)[0] for message in bench.sent("his")) == ["C", "F", "X"]


@pytest.mark.parametrize("words", [["loud cut", "refused"]])
def test_an_answer_that_is_refused_the_second_time_is_withdrawn(bench: Bench) -> None:
    bench.read()
    bench.tell("his")
    bench.page()
    bench.read()
    assert bench.stations.ledger.job("job").state is JobState.OUT_OF_SCOPE
    bench.tell("his")
    assert sorted(statuses(message)[0] for message in bench.sent("his")) == ["F", "X"]
    (notice,) = bench.page()
    assert notice["words"].startswith("withdrawn, an earlier notification does not hold: ")


@pytest.mark.parametrize("words", [["loud cut", "broken"]])
def test_a_reading_that_fails_before_anything_was_sent_tells_nobody_of_a_result(bench: Bench) -> None:
    bench.read()
    bench.read()
    assert bench.waiting("his") == ()
    assert bench.sent("his") == []


@pytest.mark.parametrize("words", [["loud", "quiet"]])
def test_the_report_of_an_attempt_that_was_cut_off_is_not_kept_with_the_answer_of_the_next(bench: Bench) -> None:
    stations = bench.stations

    def cut(*_: object, **__: object) -> bool:
        raise Cut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stations.ledger, "report", cut)
        bench.read()
    folder = stations.settings.node.data / "documents" / "job"
    cut_off = {path.name: path.read_bytes() for path in folder.glob("*.dcm")}
    bench.read()
    documents = {item.kind: item for item in stations.ledger.documents("job")}
    report, message = documents[DocumentKind.STRUCTURED_REPORT], documents[DocumentKind.MESSAGE]
    assert report.path.read_bytes() != cut_off[report.path.name]
    assert b"0.120" in message.path.read_bytes()


@pytest.mark.parametrize("words", [["loud cut", "quiet"]])
def test_a_judgement_goes_on_from_the_correction_and_not_from_the_message_before_it(bench: Bench) -> None:
    bench.read()
    bench.tell("his")
    bench.read()
    ledger = bench.stations.ledger
    judgements = create_autospec(Judgements)
    judgements.due.return_value = ()  # else the thread of the addenda never ends
    addenda = Addenda(bench.stations.settings, ledger, judgements, create_autospec(Assistant))
    addenda.stop()
    (sent,) = [item for item in addenda._sent(ledger.documents("job")) if item.kind is DocumentKind.MESSAGE]
    assert statuses(sent.path.read_bytes())[0] == "C"


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("words", [["loud cut", "quiet"]])
def test_a_late_image_after_an_urgent_answer_corrects_the_answer(bench: Bench, *, is_read: bool) -> None:
    bench.read()
    for listener in ("his", "ehr"):
        bench.tell(listener)
    (first_notice,) = bench.page()
    bench.receive(is_read=is_read)
    bench.read()
    for listener in ("his", "ehr"):
        bench.tell(listener)
    first, second = bench.sent("his")
    assert statuses(second) == ("C", {"C"})
    assert b"0.120" in second
    assert f"Corrects the AI result in message {control_id(first)}".encode() in second
    _, correction = bench.sent("ehr")
    assert {resource["status"] for resource in resources(correction)} == {"amended" if is_read else "corrected"}
    (notice,) = bench.page()
    assert (notice["verdict"], notice["corrects"]) == ("absent", first_notice["id"])


@pytest.mark.parametrize("words", [["loud cut", "loud"]])
def test_a_late_image_that_no_model_reads_tells_listeners_nothing_again(bench: Bench) -> None:
    bench.read()
    bench.tell("his")
    bench.receive(is_read=False)
    bench.read()
    assert bench.waiting("his") == ()
    (delivery,) = bench.stations.ledger.deliveries(bench.job.id, "his")
    assert delivery.sent_at


@pytest.mark.parametrize("words", [["loud", "loud", "quiet cut", "quiet"]])
def test_each_late_image_corrects_the_message_before_it_across_kills(bench: Bench) -> None:
    for _ in range(2):
        bench.read()
        bench.tell("his")
        bench.receive()
    bench.read()
    bench.read()
    bench.tell("his")
    messages = bench.sent("his")
    assert [statuses(message)[0] for message in messages] == ["F", "C", "C"]
    for earlier, later in pairwise(messages):
        assert f"in message {control_id(earlier)}".encode() in later


@pytest.mark.parametrize(
    ("words", "state"), [(["loud cut", "broken"], "X"), (["loud", "broken"], ""), (["loud", "refused"], "X")]
)
def test_a_study_that_nobody_can_read_after_a_late_image_withdraws_what_has_no_report_or_does_not_hold(
    bench: Bench, state: str
) -> None:
    bench.read()
    bench.tell("his")
    bench.receive()
    bench.read()
    bench.tell("his")
    _, *later = bench.sent("his")
    assert [statuses(message)[0] for message in later] == ([state] if state else [])


@pytest.mark.parametrize("words", [["loud", "quiet"]])
def test_a_message_that_never_left_is_corrected_by_nobody(bench: Bench) -> None:
    bench.read()
    bench.receive()
    bench.read()
    bench.tell("his")
    (message,) = bench.sent("his")
    assert statuses(message) == ("F", {"F"})


@pytest.mark.parametrize("words", [["loud", "quiet"]])
def test_an_earlier_message_that_is_gone_from_the_disk_stops_no_reading_and_is_logged(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.read()
    bench.tell("his")
    (delivery,) = bench.stations.ledger.deliveries("job", "his")
    delivery.document.path.unlink()
    bench.receive()
    bench.read()
    assert bench.stations.ledger.job(bench.job.id).state is JobState.REPORTED
    assert "correction_lost" in {getattr(record, "action", "") for record in caplog.records}


def of_study(bench: Bench, modalities: dict[str, str]) -> Study:
    """Return the study with instances of such UIDs, each in a series of its own."""
    instance = headers.instance(bench.answers.study.paths[0], sha256="")
    return Study(
        bench.job.study_instance_uid,
        tuple(
            Series(
                UID(f"{uid}.1"), modality, (replace(instance, ref=replace(instance.ref, sop_instance_uid=UID(uid))),)
            )
            for uid, modality in modalities.items()
        ),
    )


@pytest.mark.parametrize("has_other_route", [True, False])
@pytest.mark.parametrize(("is_later", "modality"), [(True, "DX"), (False, "DX"), (True, "SR")])
@pytest.mark.parametrize("words", [["loud"]])
def test_what_a_route_told_that_is_gone_and_has_no_heir_is_withdrawn_once_a_later_image_of_its_kind_came(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, modality: str, *, is_later: bool, has_other_route: bool
) -> None:
    bench.read()
    bench.tell("his")
    (first_notice,) = bench.page()
    (gone,) = bench.stations.settings.routes
    routes = (replace(gone, name="other", handler="another", destinations=("ehr",)),) if has_other_route else ()
    settings = bench.stations.settings.model_copy(update={"routes": routes})
    bench.stations = replace(bench.stations, settings=settings)
    ref = InstanceRef(bench.job.study_instance_uid, UID("1.2.8"), UID("1.2.9"), UID("1.2.5"))
    at = NOW + timedelta(hours=1) if is_later else NOW
    late = StoredInstance(ref, UID("1.2.840.10008.1.2.1"), "00", 1, Path("late"), modality, at)
    monkeypatch.setattr(Catalog, "instances", lambda *_: (late,))
    study = of_study(bench, {"1.2.3": "DX", "1.2.5": modality})
    for _ in range(2):  # the second time everything is said
        Readings(bench.stations).withdraw_outlived(study)
    bench.tell("his")
    first, *withdrawals = bench.sent("his")
    is_outlived = is_later and modality == "DX"
    assert [statuses(message) for message in withdrawals] == ([("X", {"W"})] if is_outlived else [])
    notices = [notice for notice in bench.page() if notice["route"] == "spine"]
    assert [notice["corrects"] for notice in notices] == ([first_notice["id"]] if is_outlived else [])
    job = bench.stations.ledger.job(bench.job.id)
    assert (job.state, job.withdrawn_at) == (JobState.REPORTED, NOW if is_outlived else None)
    if is_outlived:
        assert f"Withdrawn: the AI result in message {control_id(first)}".encode() in withdrawals[0]


NO_LONGER_TOLD = [{"mode": RouteMode.SHADOW}, {"destinations": ("ehr",)}, {"destinations": ()}]


@pytest.mark.parametrize("keys", NO_LONGER_TOLD)
@pytest.mark.parametrize("words", [["loud", "quiet"]])
def test_a_listener_that_the_route_tells_no_more_learns_by_a_late_image_that_the_result_does_not_hold(
    bench: Bench, keys: dict[str, Any]
) -> None:
    bench.read()
    bench.tell("his")
    bench.tell("ehr")
    bench.change(**keys)
    bench.receive()
    bench.read()
    assert bench.stations.ledger.job(bench.job.id).state is JobState.REPORTED
    bench.tell("his")
    bench.tell("ehr")
    first, withdrawal = bench.sent("his")
    assert statuses(withdrawal) == ("X", {"W"})
    assert f"Withdrawn: the AI result in message {control_id(first)} does not hold".encode() in withdrawal
    assert b"0.120" not in withdrawal
    *_, bundle = bench.sent("ehr")
    is_told = keys == {"destinations": ("ehr",)}
    assert {resource["status"] for resource in resources(bundle)} == {"amended" if is_told else "entered-in-error"}


@pytest.mark.parametrize("words", [["loud", "quiet", "loud"]])
def test_a_notification_is_withdrawn_once_its_route_is_a_shadow_and_an_image_comes_late(bench: Bench) -> None:
    bench.read()
    (first_notice,) = bench.page()
    bench.change(mode=RouteMode.SHADOW)
    bench.receive()
    bench.read()
    (notice,) = bench.page()
    assert (notice["verdict"], notice["corrects"]) == (None, first_notice["id"])
    assert notice["words"].startswith("withdrawn, an earlier notification does not hold: ")
    bench.receive()
    bench.read()
    assert bench.page() == []


@pytest.mark.parametrize("words", [["loud"]])
def test_nobody_is_told_of_a_job_of_a_shadow_that_is_live_once_the_job_is_read(bench: Bench) -> None:
    bench.change(mode=RouteMode.SHADOW)
    bench.receive()
    bench.change(mode=RouteMode.LIVE)
    bench.read()
    job = bench.stations.ledger.job(bench.job.id)
    assert (job.state, job.mark, job.destinations) == (JobState.REPORTED, "shadow", ())
    assert bench.notices() == []
    assert bench.stations.ledger.deliveries(job.id) == ()


@pytest.mark.parametrize("words", [["loud"]])
def test_a_job_of_a_live_route_is_told_at_once_though_the_route_is_a_shadow_once_the_job_is_read(bench: Bench) -> None:
    bench.change(mode=RouteMode.SHADOW)
    early: list[tuple[int, int]] = []
    read = bench.stations.read

    def watched(handler: str, request: Request, on_early: OnEarly) -> Reading:
        reading = read(handler, request, on_early)
        early.append((len(bench.stations.ledger.deliveries("job")), len(bench.notices())))
        return reading

    bench.stations = replace(bench.stations, read=watched)
    bench.read()
    assert early == [(2, 1)], "both listeners and the pager, before the rest of the reading"
    assert [notice["verdict"] for notice in bench.notices()] == ["present"]
    assert {delivery.destination for delivery in bench.stations.ledger.deliveries("job")} == {"his", "ehr"}


@pytest.mark.parametrize("words", [["loud", "quiet", "quiet", "quiet"]])
def test_a_route_that_is_live_again_corrects_what_was_withdrawn_in_between(bench: Bench) -> None:
    bench.read()
    bench.tell("his")
    bench.change(mode=RouteMode.SHADOW)
    for _ in range(2):  # the second late image finds nothing to withdraw
        bench.receive()
        bench.read()
        bench.tell("his")
    bench.change(mode=RouteMode.LIVE)
    bench.receive()
    bench.read()
    bench.tell("his")
    _, withdrawal, correction = bench.sent("his")
    assert (statuses(withdrawal)[0], statuses(correction)) == ("X", ("C", {"C"}))
    assert f"Corrects the AI result in message {control_id(withdrawal)}".encode() in correction


@pytest.mark.parametrize("words", [["loud", "quiet"]])
def test_what_a_listener_that_is_no_peer_any_more_was_told_is_named_in_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.read()
    bench.tell("his")
    bench.change(destinations=())
    settings = bench.stations.settings
    peers = tuple(peer for peer in settings.peers if peer.name != "his")
    bench.stations = replace(bench.stations, settings=settings.model_copy(update={"peers": peers}))
    bench.receive()
    bench.read()
    assert bench.stations.ledger.job(bench.job.id).state is JobState.REPORTED
    (record,) = [record for record in caplog.records if getattr(record, "action", "") == "withdrawal_failed"]
    assert getattr(record, "peer", "") == "his"


def open_late(bench: Bench, route: Route, *others: Route) -> None:
    """Reload the node with these routes, and open the job of the first for a study with one image more."""
    settings = bench.stations.settings.model_copy(update={"routes": (route, *others)})
    bench.stations = replace(bench.stations, settings=settings)
    content = {**bench.job.content, UID("1.2.5"): "00"}
    bench.job = replace(
        bench.job,
        id=f"{route.name} late",
        route=route.name,
        content=content,
        destinations=route.live_destinations,
        mode=route.mode,
    )
    ledger = bench.stations.ledger
    assert ledger.open(bench.job, former_routes(bench.job, ledger.jobs(), settings))


@pytest.mark.parametrize("is_kept", [True, False], ids=["as a shadow", "gone"])
@pytest.mark.parametrize("words", [["loud", "quiet", "loud"]])
def test_the_route_that_takes_the_place_of_another_corrects_what_the_other_told(bench: Bench, *, is_kept: bool) -> None:
    bench.read()
    for listener in ("his", "ehr"):
        bench.tell(listener)
    (first_notice,) = bench.page()
    (old,) = bench.stations.settings.routes
    new, shadow = replace(old, name="spine 2"), replace(old, mode=RouteMode.SHADOW)
    bench.answers.image_count = 2
    open_late(bench, new, *([shadow] if is_kept else []))
    bench.read()
    for listener in ("his", "ehr"):
        bench.tell(listener)
    if is_kept:
        open_late(bench, shadow, new)
        bench.read()
        assert bench.stations.ledger.job("spine late").state is JobState.REPORTED
        for listener in ("his", "ehr"):
            assert bench.waiting(listener) == (), "the shadow withdraws nothing that another route has corrected"
    first, second = bench.sent("his")
    assert statuses(second) == ("C", {"C"})
    assert b"0.120" in second
    assert f"Corrects the AI result in message {control_id(first)}".encode() in second
    _, bundle = bench.sent("ehr")
    assert {resource["status"] for resource in resources(bundle)} == {"amended"}
    (notice,) = bench.page()
    assert (notice["verdict"], notice["route"], notice["corrects"]) == ("absent", "spine 2", first_notice["id"])
