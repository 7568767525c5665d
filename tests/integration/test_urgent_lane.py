"""The urgent lane: message and webhook leave before the pictures are drawn, once, across kills and late images."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import installed

installed("hl7apy")

from support.alarming import PROBABILITY_NAME, Alarming  # noqa: E402
from support.listener import Listener, listening  # noqa: E402
from support.node import SPINE, RunningNode, configured, running  # noqa: E402
from support.pager import SECRET, Pager, paging  # noqa: E402
from support.studies import WrittenStudy, stored, written  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.domain import (  # noqa: E402
    UID,
    Attachment,
    DeliveryState,
    DocumentContext,
    DocumentKind,
    File,
    JobState,
    MessageAddress,
    OutOfScope,
    Reading,
    Request,
    Result,
    Selection,
    UrgentRule,
)
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.errors import ArchiveRefused, HandlerError  # noqa: E402
from ainode.node.keeping.notices import Notices  # noqa: E402
from ainode.node.keeping.spool import content_sha256  # noqa: E402
from ainode.node.reading import pipeline  # noqa: E402
from ainode.node.reading.reader import Reader  # noqa: E402
from ainode.node.reading.weights import ModelEnvironment, WeightStore  # noqa: E402
from ainode.node.settings import Peer, ReaderTable  # noqa: E402

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URGENT = f"""{SPINE.replace("support.handler", "support.alarming")}
[route.urgent]
min_probability = 0.8
"""
LISTENER = MessageAddress("his", "AINODE", "", "RIS", "", "UNICODE UTF-8", "P", "R")
CONTEXT = DocumentContext(NOW, UID("2.25.4"), "test", ("ainode 0",), "none", messages=(LISTENER,))
SLOW_SIDE = 2000
"""pictures of this size take seconds to draw"""


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER_SECRET", SECRET)


# The reader


def asking(folder: Path, order: str, rule: UrgentRule | None, side: int = 320) -> Request:
    study = written(folder, order, order=order, side=side)
    uid = headers.instance(study.paths[0], sha256="").ref.sop_instance_uid
    return Request(UID(study.uid), (File(study.paths[0], content_sha256(study.paths[0]), uid),), CONTEXT, urgent=rule)


def test_the_messages_that_leave_first_are_byte_for_byte_those_of_the_whole_reading(tmp_path: Path) -> None:
    early: list[Reading] = []
    whole = pipeline.read(asking(tmp_path, "loud", UrgentRule()), Alarming(), early.append)
    (first,) = early
    assert first.is_early
    assert not whole.is_early
    assert first.documents == tuple(item for item in whole.documents if item.kind.is_message)
    assert [item.kind for item in first.documents] == [DocumentKind.MESSAGE]
    assert isinstance(first.answer, Result)
    assert first.answer.captures == ()
    assert isinstance(whole.answer, Result)
    assert len(whole.answer.captures) > 1


@pytest.mark.parametrize(
    ("order", "rule"), [("loud", None), ("quiet", UrgentRule()), ("loud", UrgentRule(min_probability=0.99))]
)
def test_nothing_leaves_first_of_an_answer_that_is_not_urgent(
    tmp_path: Path, order: str, rule: UrgentRule | None
) -> None:
    early: list[Reading] = []
    assert pipeline.read(asking(tmp_path, order, rule), Alarming(), early.append).documents
    assert early == []


class Attaching(Alarming):
    """Brings an object along that is none of its study."""

    def read(self, selection: Selection) -> Result | OutOfScope:
        answer = super().read(selection)
        assert isinstance(answer, Result)
        return replace(answer, attachments=(Attachment(b"of somebody else", ("SC",)),))


def test_nothing_leaves_first_of_an_answer_whose_own_objects_are_refused(tmp_path: Path) -> None:
    early: list[Reading] = []
    with pytest.raises(HandlerError, match="nothing was sent"):
        pipeline.read(asking(tmp_path, "loud", UrgentRule()), Attaching(), early.append)
    assert early == []


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader("support.alarming", ModelEnvironment(WeightStore(tmp_path), tmp_path), ReaderTable())
    yield made
    made.kill_unless_reading()


def test_what_cannot_be_kept_early_costs_the_reading_nothing_and_mixes_up_no_answers(
    reader: Reader, tmp_path: Path
) -> None:
    def refuse(_: Reading) -> None:
        raise ArchiveRefused("the disk is full", archive_status=None)

    def break_down(_: Reading) -> None:
        raise ZeroDivisionError

    loud, quiet = (asking(tmp_path, order, UrgentRule()) for order in ("loud", "quiet"))
    assert not reader.read(loud, refuse).is_early
    with pytest.raises(ZeroDivisionError):
        reader.read(loud, break_down)
    after = reader.read(quiet)
    assert after.answer.study_instance_uid == quiet.study_instance_uid  # type: ignore[union-attr]


# The whole node


def node_with(folder: Path, address: str, listener_port: int) -> RunningNode:
    his = Peer(name="his", host="127.0.0.1", port=listener_port, deliver="hl7")
    pager = f'[[notification]]\nname = "pager"\nto = "webhook"\non = ["present"]\naddress = "{address}"\n'
    return configured(folder, peers=[his], routes=URGENT, more=f'{pager}key_env = "PAGER_SECRET"')


def drawn_slowly(folder: Path, name: str) -> WrittenStudy:
    return written(folder, name, order="loud", side=SLOW_SIDE)


def told(node: RunningNode, count: int = 1) -> bool:
    """Return whether webhook and listener have taken what is urgent of so many studies."""
    deliveries = [item for job in node.ledger.jobs() for item in node.ledger.deliveries(job.id)]
    is_heard = [item.state for item in deliveries] == [DeliveryState.CONFIRMED] * count
    return is_heard and Notices(node.engine).tally("pager", NOW).sent == count


@contextmanager
def hearing(folder: Path) -> Iterator[tuple[RunningNode, Pager, Listener]]:
    """Configure a node for a pager and a listener that take everything."""
    pager, listener = Pager(["200"]), Listener(["AA"])
    with paging(pager) as address, listening(listener) as port:
        yield node_with(folder / "node", address, port), pager, listener


def test_webhook_and_message_have_arrived_before_the_pictures_are_drawn_and_a_late_image_corrects_both(
    tmp_path: Path,
) -> None:
    study, corrected = drawn_slowly(tmp_path, "urgent"), drawn_slowly(tmp_path, "late")
    with hearing(tmp_path) as (node, pager, listener), running(node):
        assert stored(node, study) == [0x0000]
        node.until(lambda: told(node), within_s=120)
        (job,) = node.ledger.jobs()
        early = node.ledger.documents(job.id)
        state_when_told = job.state
        job, deliveries = node.read(study.uid)
        stored(node, corrected)
        node.until(lambda: told(node, 2), within_s=120)
        stored(node, late_image(tmp_path, corrected))
        node.until(lambda: len(node.ledger.jobs(study=UID(corrected.uid))) == 2, within_s=120)
        node.read(corrected.uid)
        first, second = node.ledger.jobs(study=UID(corrected.uid))
        node.until(lambda: len(pager.calls) == 3, within_s=120)
    assert state_when_told is JobState.READING
    assert [item.kind for item in early] == [DocumentKind.MESSAGE]
    assert json.loads(pager.calls[0].body)["urgent"] is True
    (delivery,) = deliveries
    assert delivery.document.path.read_bytes() == listener.messages[0]
    assert delivery.confirmed_at
    assert job.finished_at
    assert delivery.confirmed_at < job.finished_at
    (report,) = [item for item in node.ledger.documents(job.id) if item.kind is DocumentKind.STRUCTURED_REPORT]
    assert report.ref.sop_instance_uid.encode() in listener.messages[0]
    assert (first.state, second.state) == (JobState.SUPERSEDED, JobState.REPORTED)
    assert DocumentKind.MESSAGE in {item.kind for item in node.ledger.documents(first.id)}
    assert len(set(pager.ids)) == len(set(listener.control_ids)) == len(listener.messages) == 3
    assert_corrected(listener, 1)


def late_image(folder: Path, study: WrittenStudy) -> WrittenStudy:
    """Write another image of a study."""
    picture = testing.noise(SLOW_SIDE, SLOW_SIDE, seed=9, SeriesDescription="loud", BodyPartExamined="TSPINE")
    path = folder / "late.dcm"
    testing.dataset(picture, study="late", number=2).save_as(path, enforce_file_format=True)
    return WrittenStudy(study.uid, (path,))


def assert_corrected(listener: Listener, number: int) -> None:
    """Hold that the message behind one is its correction."""
    assert f"Corrects the AI result in message {listener.control_ids[number]}".encode() in listener.messages[number + 1]
    assert b"|||C|" in listener.messages[number + 1]


def test_a_kill_between_what_is_urgent_and_the_rest_tells_nobody_twice_unless_the_model_answers_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same, changed = drawn_slowly(tmp_path, "killed"), drawn_slowly(tmp_path, "changed")
    with hearing(tmp_path) as (node, pager, listener):
        with running(node):
            stored(node, same)
            node.until(lambda: told(node), within_s=120)
            node.kill()
            (job,) = node.ledger.jobs()
            assert job.state is JobState.READING
        with running(node):
            job, deliveries = node.read(same.uid)
            assert (job.state, job.attempts) == (JobState.REPORTED, 2)
            assert len(pager.calls) == len(listener.messages) == 1
            assert [item.state for item in deliveries] == [DeliveryState.CONFIRMED]
            assert DocumentKind.SECONDARY_CAPTURE in {item.kind for item in node.ledger.documents(job.id)}
            stored(node, changed)
            node.until(lambda: told(node, 2), within_s=120)
            node.kill()
        monkeypatch.setenv(PROBABILITY_NAME, "0.04")
        with running(node):
            job, deliveries = node.read(changed.uid)
            node.until(lambda: len(pager.calls) == 3, within_s=120)
    assert job.state is JobState.REPORTED
    assert [item.state for item in deliveries] == [DeliveryState.CONFIRMED] * 2
    _, first, second = listener.messages
    assert b"0.930" in first
    assert b"0.040" in second
    assert_corrected(listener, 1)
    _, before, after = (json.loads(call.body) for call in pager.calls)
    assert (before["verdict"], after["verdict"], after["corrects"]) == ("present", "absent", before["id"])
