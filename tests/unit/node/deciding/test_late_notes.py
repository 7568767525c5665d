"""Key objects and other documents about images that come by themselves, without an image."""

from datetime import timedelta
from pathlib import Path

import pytest
from support.intake_bench import BREATH, NOW, STUDY, IntakeBench, intake_bench
from support.key_objects import key_object

from ainode.node.archive.store import Outgoing
from ainode.node.encoding.part10 import Origin
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, InstanceStored

READ_AT = NOW + timedelta(seconds=11)
LATE = NOW + timedelta(seconds=40)


@pytest.fixture
def bench(tmp_path: Path) -> IntakeBench:
    return intake_bench(tmp_path)


def note(bench: IntakeBench, association: str) -> InstanceStored:
    """Put a note that rejects every instance of the study into the spool as the receiver does."""
    images = [entry.path for entry in bench.catalog.instances(STUDY)]
    file = Outgoing.of(key_object("113001", images, bench.folder / "note.dcm"))
    origin = Origin(file.sop_class_uid, file.sop_instance_uid, file.transfer_syntax_uid, "PACS")
    with bench.spool.incoming(origin) as incoming:
        incoming.write(memoryview(file.read())[file.offset :])
        ref, path = incoming.ref(), incoming.commit()
    return InstanceStored(association, path, ref, origin.transfer_syntax_uid, incoming.size_bytes, LATE)


def send_note(bench: IntakeBench, *others: InstanceStored) -> None:
    """Send the note, and what comes with it, over one association."""
    opened, ended = (
        AssociationOpened("note", "PACS", "127.0.0.1", LATE),
        AssociationEnded("note", LATE, is_released=True),
    )
    bench.intake.handle([opened, note(bench, "note"), *others], LATE)
    assert bench.catalog.problem(STUDY) == "", "its association is open"
    bench.intake.handle([ended], LATE)


def read(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    bench.intake.route_complete(READ_AT)
    assert len(bench.opened) == 1


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_key_object_for_a_study_that_was_routed_acts_once_its_association_ended(
    bench: IntakeBench, *, is_restarted: bool
) -> None:
    read(bench)
    if is_restarted:
        bench.restart()
    send_note(bench)
    assert "rejected by 113001 DCM" in bench.catalog.problem(STUDY)
    assert bench.catalog.is_routed(STUDY)


def test_a_key_object_that_comes_with_an_image_waits_for_more_of_them(bench: IntakeBench) -> None:
    read(bench)
    send_note(bench, bench.stored("note", 2, LATE))
    bench.intake.route_complete(LATE + BREATH)
    assert not bench.catalog.is_routed(STUDY)
    bench.intake.route_complete(LATE + timedelta(seconds=61))
    assert bench.catalog.is_routed(STUDY)


def test_a_key_object_for_a_study_that_is_not_routed_yet_does_not_end_the_wait_for_its_images(
    bench: IntakeBench,
) -> None:
    bench.send(1, at=NOW)
    send_note(bench)
    assert not bench.catalog.is_routed(STUDY)


def test_a_late_key_object_teaches_no_pause(bench: IntakeBench) -> None:
    read(bench)
    known = bench.catalog.sender_history("PACS")
    send_note(bench)
    assert bench.catalog.is_routed(STUDY)
    assert bench.catalog.sender_history("PACS") == known


@pytest.mark.parametrize("family", ["1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.88.33"])
def test_a_late_presentation_state_or_report_teaches_no_pause(bench: IntakeBench, family: str) -> None:
    read(bench)
    known = bench.catalog.sender_history("PACS")
    bench.send(2, at=LATE, SOPClassUID=family)
    bench.intake.route_complete(LATE + timedelta(seconds=61))
    assert bench.catalog.is_routed(STUDY)
    assert bench.catalog.sender_history("PACS") == known


def test_an_image_that_comes_after_a_late_key_object_teaches_the_pause_since_the_last_image(bench: IntakeBench) -> None:
    read(bench)
    send_note(bench)
    at = LATE + timedelta(seconds=10)
    bench.send(2, at=at)
    assert bench.catalog.sender_history("PACS")[-1] == (at - NOW).total_seconds()
