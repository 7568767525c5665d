"""Workitems of a worklist, searched, claimed, performed and ended by UPS-RS against a strict server.

What the node does between the claim and the end (pull, read, deliver) is played by `Hospital`, in the node's own
tables; the whole node with an Orthanc is in acceptance/.
"""

import dataclasses
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa
from support import installed
from support.databases import migrated
from support.waiting import until

installed("uvicorn", "starlette", "websockets")

from pydicom.sr.codedict import codes  # noqa: E402
from support.files import instance_ref  # noqa: E402
from support.web_archives import a_file_of, certificate  # noqa: E402
from support.worklists import (  # noqa: E402
    CANCELED,
    COMPLETED,
    FINAL_STATE,
    IN_PROGRESS,
    NAMES,
    SCHEDULED,
    Server,
    a_code,
    a_workitem,
    an_input,
    missing,
    worklist,
)

from ainode.node.archive import ups  # noqa: E402
from ainode.node.archive.search import Deadline  # noqa: E402
from ainode.node.archive.web import WebLink  # noqa: E402
from ainode.node.domain import UID, DocumentKind, InstanceRef, JobState  # noqa: E402
from ainode.node.errors import ArchiveUnreachable  # noqa: E402
from ainode.node.keeping.announcements import Announcements, Fetching  # noqa: E402
from ainode.node.keeping.catalog import Catalog, StoredInstance  # noqa: E402
from ainode.node.keeping.ledger import Ledger  # noqa: E402
from ainode.node.keeping.records import Job, KeptDocument, Outcome  # noqa: E402
from ainode.node.keeping.workitems import KeptWorkitem, Workitems, WorkitemState  # noqa: E402
from ainode.node.settings import DeliveryTable, Peer, Settings, Subscription  # noqa: E402
from ainode.node.workitems.listener import Listener  # noqa: E402
from ainode.node.workitems.parts import Parts  # noqa: E402
from ainode.node.workitems.performer import Performer  # noqa: E402
from ainode.node.workitems.verdicts import REASON_CODES  # noqa: E402

STUDY, OTHER = "1.2.9", "1.2.10"
UNFINISHED = (JobState.WAITING, JobState.READING)


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Hospital:
    """A performer, the tables of its node, and who plays the rest of the node."""

    server: Server
    folder: Path
    peer: Peer
    settings: Settings
    link: WebLink
    engine: sa.Engine
    clock: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    announced: list[UID] = field(default_factory=list)
    performer: Performer = field(init=False)

    def __post_init__(self) -> None:
        self.announcements, self.ledger = Announcements(self.engine), Ledger(self.engine)
        self.workitems, self.catalog = Workitems(self.engine), Catalog(self.engine)
        self.restart()

    def restart(self) -> None:
        """Forget what the performer has in memory."""
        self.performer = Performer(self.link, self._table(), self.parts())

    def _table(self) -> Any:  # noqa: ANN401
        assert self.peer.worklist
        return self.peer.worklist

    def parts(self) -> Parts:
        return Parts(
            self.settings,
            self.workitems,
            self.announcements,
            self.catalog,
            self.ledger,
            lambda announcement: self.announced.append(announcement.study_instance_uid),
            lambda: self.clock,
        )

    def listener(self) -> Listener:
        return Listener(self.link, self._table(), self.parts(), self.performer)

    def look(self, times: int = 1, *, later_s: float = 1.0) -> None:
        for _ in range(times):
            self.clock += timedelta(seconds=later_s)
            self.performer.look()

    def perform(self, times: int = 6, *, later_s: float = 1.0) -> None:
        """Look, and do what the node would have done of everything that is announced."""
        for _ in range(times):
            self.look(later_s=later_s)
            self.play()

    def item(self, uid: str) -> KeptWorkitem:
        found = self.workitems.of("web", uid)
        assert found
        return found

    # The rest of the node

    def pull(self, study: str = STUDY) -> None:
        """Pull a study that was announced, and route it."""
        announcement = self.announcements.of(UID(study))
        assert announcement
        assert announcement.read_now
        self.announcements.update(announcement, state=Fetching.HERE, expected=1)
        self.announcements.settle(dataclasses.replace(announcement))

    def open(self, study: str = STUDY, route: str = "spine") -> Job | None:
        job = Job(
            f"{route}-{study}", UID(study), route, "reader", {UID(f"{study}.1"): "0"}, self.clock, self.clock, ("web",)
        )
        return self.ledger.open(job)

    def report(
        self, study: str = STUDY, *, state: JobState = JobState.REPORTED, reason: str = "", sends: bool = True
    ) -> None:
        for job in self.ledger.jobs(study=UID(study), states=UNFINISHED):
            self.ledger.move(job.id, JobState.READING, at=self.clock)
            refs = [
                InstanceRef(UID(study), UID(f"{study}.{n}"), UID("1.2.840.10008.5.1.4.1.1.7"), UID(f"{study}.{n}.1"))
                for n in (7, 8)
            ]
            kinds = (DocumentKind.STRUCTURED_REPORT, DocumentKind.SECONDARY_CAPTURE)
            documents = [
                KeptDocument(job.id, ref, kind, self.folder / "x", "0") for ref, kind in zip(refs, kinds, strict=True)
            ]
            self.ledger.report(
                job, documents if sends else (), Outcome(state, "{}", reason, 1.0, finished_at=self.clock)
            )

    def deliver(self, study: str = STUDY) -> None:
        for job in self.ledger.jobs(study=UID(study)):
            for delivery in self.ledger.deliveries(job.id):
                self.ledger.outbox.sent(delivery, status=0, comment="", at=self.clock)
                self.ledger.outbox.confirmed(delivery, proof="query", at=self.clock)

    def play(self) -> None:
        """Do what the node would have done of everything that is announced."""
        for study in (STUDY, OTHER):
            announcement = self.announcements.of(UID(study))
            if announcement is None:
                continue
            if announcement.read_now:
                self.open(study)
                self.pull(study)
            self.report(study)
            self.deliver(study)


@contextmanager
def hospital(
    folder: Path,
    server: Server,
    *,
    link: type[WebLink] = WebLink,
    url: str = "",
    **table: Any,  # noqa: ANN401
) -> Iterator[Hospital]:
    engine = migrated(url or f"sqlite:///{folder}/node.sqlite")
    peer = server.peer(**table)
    delivery = DeliveryTable(attempts=3, first_wait_s=0.5, longest_wait_s=1.0)
    pager = Subscription(name="pager", to="folder", folder=str(folder), on=("alert",))
    settings = Settings(peers=(peer,), delivery=delivery, subscriptions=(pager,))
    yield Hospital(server, folder, peer, settings, link(peer, 5.0), engine)
    engine.dispose()


@pytest.fixture
def server() -> Iterator[Server]:
    with worklist() as running:
        yield running


def test_an_item_is_claimed_and_completed_once_its_results_are_confirmed(tmp_path: Path, server: Server) -> None:
    uid = server.add(a_workitem(STUDY))
    with hospital(tmp_path, server) as here:
        here.look()
        assert server.state(uid) == IN_PROGRESS
        assert here.item(uid).transaction_uid == server.items[uid].locks[0]
        here.look()
        assert here.announced == [STUDY]
        here.look(2)
        here.open()
        here.pull()
        here.look(2)
        here.report()
        here.look(5)
        assert server.state(uid) == IN_PROGRESS, "the results are not confirmed"
        here.deliver()
        here.look(3)
        assert here.item(uid).state is WorkitemState.COMPLETED
    kept = server.items[uid]
    assert kept.states == [SCHEDULED, IN_PROGRESS, COMPLETED]
    assert kept.progress == [0, 40, 80, 100]
    performed = kept.dataset.UnifiedProcedureStepPerformedProcedureSequence[0]
    outputs = performed.OutputInformationSequence
    assert {ref.ReferencedSOPInstanceUID for item in outputs for ref in item.ReferencedSOPSequence} == {
        f"{STUDY}.7.1",
        f"{STUDY}.8.1",
    }
    place = outputs[0].WADORSRetrievalSequence[0]
    assert place.RetrieveURL == f"{server.address}/studies/{STUDY}/series/{STUDY}.7"
    assert performed.PerformedWorkitemCodeSequence[0].CodeValue == "110004"
    assert performed.PerformedStationNameCodeSequence[0].CodeValue == "AINODE"
    assert server.refusals == []


def test_what_the_final_states_need_is_seen_by_the_test_server(server: Server) -> None:
    bare = a_workitem(STUDY)
    wanted = {path for path, code in FINAL_STATE.items() if code == "P"}
    assert set(missing(bare, COMPLETED)) == wanted
    assert set(missing(bare, CANCELED)) == {path for path, code in FINAL_STATE.items() if code == "X"}
    del server


def test_the_codes_of_reasons_are_those_of_the_standard() -> None:
    known = {getattr(codes.CID9300, name).value: getattr(codes.CID9300, name).meaning for name in codes.CID9300.dir()}
    assert {value: code.meaning for value, code in REASON_CODES.items()}.items() <= known.items()


@pytest.mark.parametrize("form", ["any", "body", *NAMES])
def test_the_transaction_uid_is_given_in_the_form_that_the_worklist_wants(
    tmp_path: Path, server: Server, form: str
) -> None:
    server.form = form
    uid = server.add(a_workitem(STUDY))
    with hospital(tmp_path, server) as here:
        here.perform()
        assert here.item(uid).state is WorkitemState.COMPLETED
        first_refusals = len(server.refusals)
        other = server.add(a_workitem(OTHER))
        here.perform()
        assert here.item(other).state is WorkitemState.COMPLETED
    assert len(server.refusals) == first_refusals, "the form that worked is taken first"
    assert server.items[uid].states == [SCHEDULED, IN_PROGRESS, COMPLETED]


def test_a_state_is_asked_for_under_the_requester_where_the_worklist_has_it_there(
    tmp_path: Path, server: Server
) -> None:
    server.wants_requester = True
    uid = server.add(a_workitem(STUDY))
    with hospital(tmp_path, server) as here:
        here.perform()
        assert here.item(uid).state is WorkitemState.COMPLETED
    assert f"PUT /dicom-web/workitems/{uid}/state/AINODE" in server.requests


def test_of_two_performers_exactly_one_gets_an_item_and_the_other_goes_on(tmp_path: Path, server: Server) -> None:
    studies = [f"1.2.{number}" for number in range(100, 108)]
    uids = [server.add(a_workitem(study)) for study in studies]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with hospital(tmp_path / "a", server, most_claimed=8) as a, hospital(tmp_path / "b", server, most_claimed=8) as b:
        start = threading.Barrier(2)

        def race(here: Hospital) -> None:
            start.wait()
            here.look()

        threads = [threading.Thread(target=race, args=(here,)) for here in (a, b)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for uid in uids:
            kept = [found for here in (a, b) if (found := here.workitems.of("web", uid))]
            owners = [item for item in kept if item.state is WorkitemState.CLAIMED]
            assert len(owners) == 1
            assert server.items[uid].locks == [owners[0].transaction_uid]
            assert all(item.state in {WorkitemState.CLAIMED, WorkitemState.TAKEN} for item in kept)


def test_an_item_that_another_performer_claimed_between_search_and_claim_is_left_to_it(
    tmp_path: Path, server: Server
) -> None:
    uid = server.add(a_workitem(STUDY))

    def other_claims(name: str) -> int:
        if name == "PUT state" and server.state(uid) == SCHEDULED:
            server.move(uid, IN_PROGRESS, "1.2.3")
        return 0

    server.refuse = other_claims
    with hospital(tmp_path, server) as here:
        here.look(3)
        assert here.item(uid).state is WorkitemState.TAKEN
        assert here.announced == []
    assert server.items[uid].locks == ["1.2.3"]
    assert server.items[uid].progress == []


@pytest.mark.parametrize("has_arrived", [True, False])
def test_a_claim_whose_answer_is_lost_is_the_node_s_own_if_it_arrived_and_not_if_another_performer_claimed_since(
    tmp_path: Path, server: Server, *, has_arrived: bool
) -> None:
    uid = server.add(a_workitem(STUDY))
    server.lose = lambda name: name == "PUT state"
    server.refuse = lambda name: 503 if name == "PUT state" and not has_arrived else 0
    with hospital(tmp_path, server) as here:
        with pytest.raises(ArchiveUnreachable):
            here.look()
        claim = here.item(uid)
        assert claim.state is WorkitemState.CLAIMING
        server.lose, server.refuse = (lambda _: False), (lambda _: 0)
        if not has_arrived:
            server.move(uid, IN_PROGRESS, "1.2.3")
        here.restart()
        here.look(later_s=5.0)
        assert here.item(uid).state is (WorkitemState.CLAIMED if has_arrived else WorkitemState.TAKEN)
    assert server.items[uid].states == [SCHEDULED, IN_PROGRESS]
    assert server.items[uid].locks == [claim.transaction_uid if has_arrived else "1.2.3"]
    assert bool(server.items[uid].progress) is has_arrived


class _Mortal(requests.Session):
    """A session whose process may end before a request leaves, or before its answer is read."""

    def request(self, *arguments: Any, **options: Any) -> requests.Response:  # noqa: ANN401
        Mortal.step()
        response = super().request(*arguments, **options)
        Mortal.step()
        return response


class Mortal(WebLink):
    """A link whose sessions are mortal."""

    deadline = 0
    steps = 0

    @classmethod
    def step(cls) -> None:
        cls.steps += 1
        if cls.steps == cls.deadline:
            raise Killed

    @contextmanager
    def session(
        self, request: str, deadline: Deadline | None = None, *, streamed: bool = False
    ) -> Iterator[requests.Session]:
        with WebLink.session(self, request, deadline, streamed=streamed) as session:
            session.__class__ = _Mortal
            yield session


def test_a_kill_between_any_two_steps_loses_nothing_and_does_nothing_twice(tmp_path: Path, server: Server) -> None:
    deadline, was_killed = 0, True
    while was_killed:
        deadline += 1
        folder = tmp_path / str(deadline)
        folder.mkdir()
        server.items.clear()
        uid = server.add(a_workitem(STUDY))
        with hospital(folder, server, link=Mortal) as here:
            sa.event.listen(here.engine, "commit", lambda _: Mortal.step())
            was_killed = _lives(here, deadline)
            Mortal.deadline = 0
            here.restart()
            for _ in range(8):
                here.look(later_s=5.0)
                here.play()
                if here.item(uid).state is WorkitemState.COMPLETED:
                    break
            assert here.item(uid).state is WorkitemState.COMPLETED, f"killed at step {deadline}"
        kept = server.items[uid]
        assert kept.states == [SCHEDULED, IN_PROGRESS, COMPLETED]
        assert len(kept.locks) == 1
        assert len(here.ledger.jobs(study=UID(STUDY))) == 1
    assert deadline > 20


def _lives(here: Hospital, deadline: int) -> bool:
    """Perform until the process ends at a step; return whether it ended."""
    Mortal.steps, Mortal.deadline = 0, deadline
    try:
        here.perform()
    except Killed:
        return True
    return False


def test_a_worklist_that_is_away_for_an_hour_finds_the_item_done(tmp_path: Path, server: Server) -> None:
    uid = server.add(a_workitem(STUDY))
    with hospital(tmp_path, server) as here:
        here.look(2)
        server.refuse = lambda _: 503
        here.play()
        for _ in range(120):
            try:
                here.look(later_s=30.0)
            except ArchiveUnreachable:
                continue
        assert "HTTP 503" in here.item(uid).error
        server.refuse = lambda _: 0
        here.look(4, later_s=61.0)
        assert here.item(uid).state is WorkitemState.COMPLETED
    assert server.items[uid].states == [SCHEDULED, IN_PROGRESS, COMPLETED]


@pytest.mark.parametrize(
    ("state", "words", "reason", "code"),
    [
        (JobState.OUT_OF_SCOPE, "no lung is seen", "the study was not read: route spine: no lung is seen", "110522"),
        (JobState.FAILED, "the reader ended", "route spine: the images could not be read: the reader ended", "110501"),
        (JobState.REPORTED, "", "the results stay in the node: the route sends them to no archive", "110513"),
    ],
)
def test_what_is_not_read_or_stays_in_the_node_cancels_its_item_with_the_reason(
    tmp_path: Path, server: Server, state: JobState, words: str, reason: str, code: str
) -> None:
    uid = server.add(a_workitem(STUDY))
    with hospital(tmp_path, server) as here:
        here.look(2)
        job = here.open()
        here.pull()
        if state is JobState.FAILED:
            assert job
            here.ledger.move(job.id, JobState.READING, at=here.clock)
            here.ledger.move(job.id, state, reason=words, at=here.clock)
        else:
            here.report(state=state, reason=words, sends=False)
        here.look(3)
        assert here.item(uid).state is WorkitemState.CANCELED
    progress = server.items[uid].dataset.ProcedureStepProgressInformationSequence[0]
    assert progress.ReasonForCancellation == reason
    assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == code
    assert server.items[uid].states == [SCHEDULED, IN_PROGRESS, CANCELED]


def test_a_study_that_no_route_takes_and_images_that_never_come_cancel_their_items(
    tmp_path: Path, server: Server
) -> None:
    routeless, lost = server.add(a_workitem(STUDY)), server.add(a_workitem(OTHER))
    with hospital(tmp_path, server) as here:
        here.look(2)
        here.pull(STUDY)
        announcement = here.announcements.of(UID(OTHER))
        assert announcement
        here.announcements.update(announcement, state=Fetching.FAILED, reason="not pulled: no such study")
        here.look(3)
        assert here.item(routeless).state is WorkitemState.CANCELED
        assert here.item(lost).error == "not pulled: no such study", "the archive may be back in a while"
        here.look(later_s=61.0)
        announcement = here.announcements.of(UID(OTHER))
        assert announcement
        assert announcement.state is Fetching.WAITING
        here.announcements.update(announcement, state=Fetching.FAILED, reason="not pulled: no such study")
        here.look(3, later_s=7200.0)
    reasons = [
        server.items[uid].dataset.ProcedureStepProgressInformationSequence[0].ReasonForCancellation
        for uid in (routeless, lost)
    ]
    assert "no route of the node takes the study" in reasons[0]
    assert "not pulled: no such study" in reasons[1]


def test_images_of_another_patient_than_the_item_s_complete_nothing(tmp_path: Path, server: Server) -> None:
    uid = server.add(a_workitem(STUDY, PatientID="B"))
    file = tmp_path / "image.dcm"
    file.write_bytes(a_file_of(study=STUDY, PatientID="A"))
    with hospital(tmp_path, server) as here:
        ref = instance_ref(file.read_bytes())
        stored = StoredInstance(ref, UID("1.2.840.10008.1.2.1"), "0", file.stat().st_size, file, "CT", here.clock)
        here.catalog.index([stored])
        here.perform(5)
        assert here.item(uid).state is WorkitemState.CANCELED
        assert "another Patient ID" in here.item(uid).reason
        assert "B" not in here.item(uid).reason.replace("ID", "")


def stored(here: Hospital, folder: Path, **elements: str) -> None:
    """Put an image of the study into the node."""
    file = folder / "image.dcm"
    file.write_bytes(a_file_of(study=STUDY, **elements))
    ref = instance_ref(file.read_bytes())
    instance = StoredInstance(ref, UID("1.2.840.10008.1.2.1"), "0", file.stat().st_size, file, "CT", here.clock)
    here.catalog.index([instance])


def test_images_of_the_same_identifier_by_another_issuer_are_not_read_for_the_item(
    tmp_path: Path, server: Server
) -> None:
    uid = server.add(a_workitem(STUDY, PatientID="A", IssuerOfPatientID="NORTH"))
    with hospital(tmp_path, server) as here:
        stored(here, tmp_path, PatientID="A", IssuerOfPatientID="SOUTH")
        here.perform(5)
        assert here.item(uid).state is WorkitemState.CANCELED
        assert "one of another issuer" in here.item(uid).reason
        assert here.announced == [], "what is known before the images are fetched is held against the item then"


def test_images_of_another_patient_end_their_item_before_they_are_read(tmp_path: Path, server: Server) -> None:
    uid = server.add(a_workitem(STUDY, PatientID="B"))
    with hospital(tmp_path, server) as here:
        here.look(3)
        assert here.announced == [STUDY]
        stored(here, tmp_path, PatientID="A")
        job = here.open()
        here.look()
        assert job
        assert here.ledger.job(job.id).state is JobState.CANCELLED
        assert here.announcements.of(UID(STUDY)) is None
        here.look(2)
        assert here.item(uid).state is WorkitemState.CANCELED


@pytest.mark.parametrize(("listed", "is_fetched"), [("A", False), ("B", True), ("", True), (None, True)])
def test_what_the_archive_lists_of_the_patient_is_held_against_the_item_before_a_fetch(
    tmp_path: Path, server: Server, listed: str | None, *, is_fetched: bool
) -> None:
    uid = server.add(a_workitem(STUDY, PatientID="B"))
    if listed is not None:
        server.patients[STUDY] = listed
    with hospital(tmp_path, server) as here:
        here.look(4)
        assert (here.announced == [STUDY]) is is_fetched
        assert (here.item(uid).state is WorkitemState.READING) is is_fetched


def test_an_item_whose_images_are_at_a_strange_machine_is_left_to_others(tmp_path: Path, server: Server) -> None:
    item = a_workitem(STUDY)
    item.InputInformationSequence = [
        an_input(STUDY, url=f"http://evil.example:{server.port}/dicom-web/studies/{STUDY}")
    ]
    uid = server.add(item)
    other = a_workitem(OTHER)
    other.InputInformationSequence = [an_input(OTHER, url=f"{server.address}/studies/{OTHER}/series/1")]
    taken = server.add(other)
    with hospital(tmp_path, server) as here:
        here.look(5)
        assert here.item(uid).state is WorkitemState.LEFT
        assert "[[peer]]" in here.item(uid).reason
        assert here.item(taken).source == "web"
    assert server.state(uid) == SCHEDULED
    assert not any("PUT" in request and uid in request for request in server.requests)


def test_only_items_that_the_configuration_names_are_claimed_whatever_the_search_answers(
    tmp_path: Path, server: Server
) -> None:
    wanted = a_workitem("1.2.50", ScheduledStationNameCodeSequence=[a_code("NODE1", "99SITE", "the node")])
    others = [
        a_workitem("1.2.51"),
        a_workitem(
            "1.2.52", WorklistLabel="MR", ScheduledStationNameCodeSequence=wanted.ScheduledStationNameCodeSequence
        ),
        a_workitem(
            "1.2.53",
            InputReadinessState="INCOMPLETE",
            ScheduledStationNameCodeSequence=wanted.ScheduledStationNameCodeSequence,
        ),
    ]
    uid, *other_uids = [server.add(item) for item in (wanted, *others)]
    with hospital(tmp_path, server, label="AI", station_code="NODE1") as here:
        here.look(3)
        table = here.peer.worklist
        assert table
        assert [
            found.uid for found in ups.search(here.link, table.model_copy(update={"label": "MR"}), 9)
        ] == other_uids[1:2]
        for _ in range(6):
            here.look()
            for study in ("1.2.50",):
                if here.announcements.of(UID(study)) and not here.ledger.jobs(study=UID(study)):
                    here.open(study)
                    here.pull(study)
                    here.report(study)
                    here.deliver(study)
        assert here.item(uid).state is WorkitemState.COMPLETED
    assert [server.state(other) for other in other_uids] == [SCHEDULED] * 3
    performed = server.items[uid].dataset.UnifiedProcedureStepPerformedProcedureSequence[0]
    assert performed.PerformedStationNameCodeSequence[0].CodingSchemeDesignator == "99SITE"


def test_an_item_that_is_assigned_to_another_station_is_left_to_it(tmp_path: Path, server: Server) -> None:
    other = server.add(a_workitem("1.2.55", ScheduledStationNameCodeSequence=[a_code("NODE2", "99SITE", "another")]))
    own = server.add(a_workitem("1.2.56", ScheduledStationNameCodeSequence=[a_code("AINODE", "99SITE", "the node")]))
    with hospital(tmp_path, server) as here:
        here.look(3)
    assert (server.state(other), server.state(own)) == (SCHEDULED, IN_PROGRESS)


def test_an_item_that_cannot_be_read_does_not_keep_the_node_from_those_behind_it(
    tmp_path: Path, server: Server
) -> None:
    broken = [
        server.add(a_workitem(f"1.2.{number}", ScheduledProcedureStepPriority="HIGH")) for number in range(200, 204)
    ]
    server.broken = set(broken)
    uid = server.add(a_workitem(STUDY))
    with hospital(tmp_path, server) as here:
        with pytest.raises(ArchiveUnreachable):
            here.look()
        here.look(later_s=3600.0)
        assert server.state(uid) == IN_PROGRESS
    assert [server.state(other) for other in broken] == [SCHEDULED] * 4


def test_new_items_are_found_behind_hundreds_that_a_worklist_lists_unasked(tmp_path: Path, server: Server) -> None:
    for number in range(300, 550):
        server.add(a_workitem(f"1.2.{number}", ProcedureStepState=COMPLETED))
    server.ignores_keys = True
    uid = server.add(a_workitem(STUDY))
    with hospital(tmp_path, server) as here:
        here.look()
        assert server.state(uid) == IN_PROGRESS


def test_a_worklist_that_takes_no_progress_still_gets_the_end(tmp_path: Path, server: Server) -> None:
    uid = server.add(a_workitem(STUDY))
    with hospital(tmp_path, server) as here:
        here.look()
        server.refuse = lambda name: 400 if name == "POST workitem" else 0
        here.look(3)
        assert "does not take progress" in here.item(uid).error
        server.refuse = lambda _: 0
        here.play()
        here.look(4)
        assert here.item(uid).state is WorkitemState.COMPLETED


def test_no_more_items_are_claimed_than_allowed_and_the_most_urgent_first(tmp_path: Path, server: Server) -> None:
    low = server.add(a_workitem("1.2.60", ScheduledProcedureStepPriority="LOW"))
    high = server.add(a_workitem("1.2.61", ScheduledProcedureStepPriority="HIGH"))
    with hospital(tmp_path, server, most_claimed=1) as here:
        here.look(4)
        assert (server.state(high), server.state(low)) == (IN_PROGRESS, SCHEDULED)


def test_a_request_of_cancellation_ends_an_item_whose_reading_has_not_begun(tmp_path: Path, server: Server) -> None:
    early, waiting, begun = (server.add(a_workitem(study)) for study in ("1.2.71", "1.2.72", "1.2.73"))
    with hospital(tmp_path, server) as here:
        here.look(2)
        for study in ("1.2.72", "1.2.73"):
            here.open(study)
            here.pull(study)
        here.ledger.move("spine-1.2.73", JobState.READING, at=here.clock)
        for uid in (early, waiting, begun):
            assert here.workitems.request_cancel("web", uid)
        here.look(4)
        assert here.item(early).state is here.item(waiting).state is WorkitemState.CANCELED
        assert here.announcements.of(UID("1.2.71")) is None
        assert here.ledger.job("spine-1.2.72").state is JobState.CANCELLED
        assert here.item(begun).state is WorkitemState.READING
        assert "cancellation was requested" in here.item(begun).explanation
        here.report("1.2.73")
        here.deliver("1.2.73")
        here.look(3)
        assert here.item(begun).state is WorkitemState.COMPLETED
        assert not here.workitems.request_cancel("web", begun)
    assert server.state(early) == server.state(waiting) == CANCELED


def test_an_item_that_is_not_finished_in_time_is_canceled(tmp_path: Path, server: Server) -> None:
    uid = server.add(a_workitem(STUDY))
    with hospital(tmp_path, server, limit_s=100.0) as here:
        here.look(3)
        here.look(3, later_s=60.0)
        assert here.item(uid).state is WorkitemState.CANCELED
    progress = server.items[uid].dataset.ProcedureStepProgressInformationSequence[0]
    assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeMeaning == "Workitem expired"
    assert progress.ReasonForCancellation == "not finished within 100 s"


def test_an_item_that_the_worklist_ends_or_deletes_is_followed_no_more(tmp_path: Path, server: Server) -> None:
    ended, deleted = server.add(a_workitem(STUDY)), server.add(a_workitem(OTHER))
    with hospital(tmp_path, server) as here:
        here.look(2)
        here.open(STUDY)
        here.pull(STUDY)
        server.move(ended, CANCELED)
        del server.items[deleted]
        here.look(8, later_s=5.0)
        assert here.item(ended).state is WorkitemState.CANCELED
        assert here.ledger.job(f"spine-{STUDY}").state is JobState.CANCELLED
        assert here.item(deleted).state is WorkitemState.GONE
        assert here.workitems.open("web") == ()


def test_a_study_that_was_read_before_is_asked_for_again_and_its_failed_reading_repeated(
    tmp_path: Path, server: Server
) -> None:
    uid, again = server.add(a_workitem(STUDY)), server.add(a_workitem(OTHER))
    with hospital(tmp_path, server) as here:
        here.open(STUDY)
        here.report(STUDY)
        here.deliver(STUDY)
        here.open(OTHER)
        here.ledger.move(f"spine-{OTHER}", JobState.READING)
        here.ledger.move(f"spine-{OTHER}", JobState.FAILED, reason="out of memory", at=here.clock)
        here.look(2)
        assert here.ledger.job(f"spine-{OTHER}").state is JobState.WAITING
        assert {item.state for item in here.ledger.deliveries(f"spine-{STUDY}")} == {"checking"}
        for study in (STUDY, OTHER):
            here.pull(study)
            here.report(study)
        for delivery in here.ledger.deliveries(f"spine-{STUDY}"):
            here.ledger.outbox.confirmed(delivery, proof="query", at=here.clock)
        here.deliver(OTHER)
        here.look(4)
        assert here.item(uid).state is here.item(again).state is WorkitemState.COMPLETED


def test_an_end_that_the_worklist_never_takes_is_given_up_said_aloud_and_claimed_again_when_a_person_asks(
    tmp_path: Path, server: Server
) -> None:
    uid = server.add(a_workitem(STUDY))
    with hospital(tmp_path, server) as here:
        here.look(3)
        server.refuse = lambda name: 409 if name == "PUT state" else 0
        here.play()
        here.look(9, later_s=5.0)
        item = here.item(uid)
        assert item.state is WorkitemState.FAILED
        assert "does not take the state COMPLETED of the workitem (HTTP 409)" in item.error
        (notice,) = here.ledger.notices.due("pager", here.clock, count=9)
        assert json.loads(notice.body)["kind"] == "workitem_given_up"
        assert f"`ainode retry {uid}` claims it again" in json.loads(notice.body)["words"]
        server.refuse = lambda _: 0
        assert here.workitems.claim_again(uid) == (item,)
        assert here.workitems.claim_again(uid) == ()
        here.perform(4)
        for delivery in here.ledger.deliveries(f"spine-{STUDY}"):
            here.ledger.outbox.confirmed(delivery, proof="query", at=here.clock)
        here.look(3)
        assert here.item(uid).state is WorkitemState.COMPLETED
        assert here.item(uid).transaction_uid == item.transaction_uid
    assert server.items[uid].states == [SCHEDULED, IN_PROGRESS, COMPLETED]
    assert len(here.ledger.jobs()) == 1


@pytest.mark.parametrize(("priority", "place"), [("HIGH", 1), ("STAT", 1), ("MEDIUM", 100), ("LOW", 100)])
def test_the_jobs_of_an_urgent_item_are_read_first(tmp_path: Path, server: Server, priority: str, place: int) -> None:
    server.add(a_workitem(STUDY, ScheduledProcedureStepPriority=priority))
    with hospital(tmp_path, server) as here:
        here.look(2)
        job = here.open()
        here.pull()
        here.look(2)
        assert job
        assert here.ledger.job(job.id).priority == place


def test_nothing_that_a_worklist_says_of_a_patient_is_kept_or_logged(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ainode")
    server.words = "CANARY WORDS"
    texts = {
        "PatientID": "CANARY1",
        "PatientName": "CANARY2",
        "ProcedureStepLabel": "CANARY3",
        "WorklistLabel": "CANARY4",
    }
    left = a_workitem(OTHER, **texts)
    left.InputInformationSequence = [an_input(OTHER, url="http://canary5.example/rs", ae_title="CANARY6")]
    uid, left_uid = server.add(a_workitem(STUDY, **texts)), server.add(left)
    with hospital(tmp_path, server) as here:
        here.look(3)
        server.items[uid].locks.append("1.2.3")  # from now on every request of the node is refused
        here.play()
        here.look(9, later_s=5.0)
        assert here.item(uid).state is WorkitemState.FAILED
        assert here.item(left_uid).state is WorkitemState.LEFT
    assert server.refusals
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert uid.encode() in kept
    assert b"canary" not in kept.lower()
    assert "workitem" in caplog.text
    assert "canary" not in caplog.text.lower()


@contextmanager
def listening(here: Hospital, listener: Listener | None = None) -> Iterator[None]:
    """Have a listener hear events, from the time on at which its channel is open and the first search is over."""
    here.look()
    listener = listener or here.listener()
    listener.start()
    try:
        until(lambda: here.server.open_channels == 1)
        here.look()
        yield
    finally:
        listener.stop()


def until_claimed(here: Hospital, uid: str) -> None:
    """Look until an item is claimed, which a search by the clock would not find for an hour."""

    def is_claimed() -> bool:
        here.look()
        return here.server.state(uid) == IN_PROGRESS

    until(is_claimed)


@pytest.mark.parametrize("filters", [True, False])
def test_a_new_item_and_a_request_of_cancellation_are_heard_over_the_event_channel(
    tmp_path: Path, server: Server, *, filters: bool
) -> None:
    server.filters_subscriptions = filters
    with hospital(tmp_path, server, label="AI", poll_s=3600.0, subscribe=True) as here, listening(here):
        assert server.subscriptions == {"AINODE": "WorklistLabel=AI" if filters else ""}
        server.say("no event")
        server.say('[{"00001002": {"vr": "US", "Value": ["x"]}}]')
        uid = server.add(a_workitem(STUDY))
        until_claimed(here, uid)
        here.look()
        server.request_cancel(uid)
        until(lambda: here.item(uid).is_cancel_requested)
        here.look(3)
        assert server.state(uid) == CANCELED


def test_a_lost_channel_is_opened_and_subscribed_to_again(tmp_path: Path, server: Server) -> None:
    with hospital(tmp_path, server, poll_s=3600.0, subscribe=True) as here, listening(here):
        server.break_channels()
        uid = server.add(a_workitem(STUDY))  # nobody hears of it
        until(lambda: server.open_channels == 1 and bool(server.subscriptions))
        until_claimed(here, uid)


def test_an_event_channel_on_another_machine_is_not_called(tmp_path: Path, server: Server) -> None:
    server.channel_host = "localhost"
    with (
        hospital(tmp_path, server, subscribe=True) as here,
        pytest.raises(ArchiveUnreachable, match="on another machine"),
    ):
        here.listener().listen()
    assert server.open_channels == 0


def test_events_come_over_tls_where_the_worklist_has_it_and_never_without(tmp_path: Path) -> None:
    secured = worklist(certificate=certificate(tmp_path), channel_scheme="wss")
    with secured as server, hospital(tmp_path, server, poll_s=3600.0, subscribe=True) as here:
        with listening(here):
            until_claimed(here, server.add(a_workitem(STUDY)))
        server.channel_scheme = "ws"
        with pytest.raises(ArchiveUnreachable, match="without TLS"):
            here.listener().listen()


def test_the_credentials_of_the_peer_open_the_channel_too(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKLIST_TOKEN", "secret")
    with hospital(tmp_path, server, subscribe=True) as here:
        link = WebLink(here.peer.model_copy(update={"token_env": "WORKLIST_TOKEN"}), 5.0)
        with listening(here, Listener(link, here._table(), here.parts(), here.performer)):
            assert "Bearer secret" in server.authorizations
