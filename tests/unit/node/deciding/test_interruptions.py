"""Studies whose association broke off, or of which the node refused an object: images may be missing."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from support.intake_bench import BREATH, NOW, STUDY, IntakeBench, intake_bench

from ainode.node.deciding.completeness import BROKEN_OFF, REFUSED
from ainode.node.deciding.events import CountAnswered, IntakeEvent
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, ObjectRefused

SILENCE, LONGEST_SILENCE = timedelta(seconds=11), timedelta(seconds=61)
FAULTS = {BROKEN_OFF: False, REFUSED: True}


@pytest.fixture
def bench(tmp_path: Path) -> IntakeBench:
    return intake_bench(tmp_path)


def take(bench: IntakeBench, at: datetime, *events: IntakeEvent) -> None:
    bench.intake.handle(events, at)


def opened(name: str, at: datetime) -> AssociationOpened:
    return AssociationOpened(name, "PACS", "127.0.0.1", at)


def interrupt(bench: IntakeBench, fault: str, at: datetime = NOW, *, number: int = 1) -> None:
    """Send an image over an association that breaks off, or of which the node refuses the next object."""
    name = f"interrupted {number}"
    refusal = [ObjectRefused(name, at)] if fault == REFUSED else []
    ended = AssociationEnded(name, at, is_released=FAULTS[fault])
    take(bench, at, opened(name, at), bench.stored(name, number, at), *refusal, ended)
    bench.intake.route_complete(at + BREATH)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_interrupted_study_waits_as_long_as_it_may_and_is_read_with_the_reason(
    bench: IntakeBench, fault: str
) -> None:
    interrupt(bench, fault)
    bench.intake.route_complete(NOW + SILENCE)
    assert not bench.opened
    assert bench.catalog.problem(STUDY) == fault
    bench.intake.route_complete(NOW + LONGEST_SILENCE)
    assert len(bench.opened) == 1
    assert bench.catalog.problem(STUDY) == fault


@pytest.mark.parametrize("fault", FAULTS)
def test_a_study_that_the_sender_sends_whole_after_an_interruption_is_read_after_the_usual_silence_without_doubt(
    bench: IntakeBench, fault: str
) -> None:
    interrupt(bench, fault)
    again = NOW + timedelta(seconds=30)
    bench.send(1, 2, at=again)
    bench.intake.route_complete(again + SILENCE)
    assert len(bench.opened) == 1
    assert bench.catalog.problem(STUDY) == ""
    assert not bench.catalog.sender_history("PACS"), "a sender that comes again after a fault has paused in nothing"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_late_image_after_an_interrupted_study_was_read_ends_the_doubt(bench: IntakeBench, fault: str) -> None:
    interrupt(bench, fault)
    bench.intake.route_complete(NOW + LONGEST_SILENCE)
    late = NOW + timedelta(hours=1)
    bench.send(2, at=late)
    bench.intake.route_complete(late + SILENCE)
    assert len(bench.opened) == 2
    assert bench.catalog.problem(STUDY) == ""


@pytest.mark.parametrize("fault", FAULTS)
def test_an_interrupted_study_that_comes_again_unchanged_is_no_longer_doubted(bench: IntakeBench, fault: str) -> None:
    interrupt(bench, fault)
    bench.intake.route_complete(NOW + LONGEST_SILENCE)
    late = NOW + timedelta(hours=1)
    bench.send(1, at=late)
    bench.intake.route_complete(late + SILENCE)
    assert bench.catalog.problem(STUDY) == ""
    assert len({job.id for job in bench.opened}) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_an_interruption_is_known_after_a_restart(bench: IntakeBench, fault: str) -> None:
    interrupt(bench, fault)
    bench.restart()
    bench.intake.recover(NOW)
    bench.intake.route_complete(NOW + SILENCE)
    assert not bench.opened
    bench.intake.route_complete(NOW + LONGEST_SILENCE)
    assert bench.catalog.problem(STUDY) == fault


@pytest.mark.parametrize("fault", FAULTS)
def test_an_interrupted_study_of_which_every_counted_image_came_is_read_at_once_without_doubt(
    bench: IntakeBench, fault: str
) -> None:
    interrupt(bench, fault)
    take(bench, NOW + BREATH, CountAnswered(STUDY, 1))
    assert len(bench.opened) == 1
    assert bench.catalog.problem(STUDY) == ""


def test_an_association_beside_the_one_that_broke_off_ends_no_doubt(bench: IntakeBench) -> None:
    take(bench, NOW, opened("beside", NOW), bench.stored("beside", 2, NOW))
    interrupt(bench, BROKEN_OFF, NOW + timedelta(seconds=1))
    end = NOW + timedelta(seconds=2)
    take(bench, end, AssociationEnded("beside", end, is_released=True))
    bench.intake.route_complete(end + SILENCE)
    assert not bench.opened
    bench.intake.route_complete(end + LONGEST_SILENCE)
    assert bench.catalog.problem(STUDY) == BROKEN_OFF


def test_an_object_that_is_refused_before_the_first_image_of_its_association_makes_a_doubt(bench: IntakeBench) -> None:
    ended = AssociationEnded("a", NOW, is_released=True)
    take(bench, NOW, opened("a", NOW), ObjectRefused("a", NOW), bench.stored("a", 1, NOW), ended)
    bench.intake.route_complete(NOW + SILENCE)
    assert not bench.opened
    assert bench.catalog.problem(STUDY) == REFUSED


def test_an_association_of_which_everything_is_refused_makes_a_doubt_of_what_its_sender_sends(
    bench: IntakeBench,
) -> None:
    """A sender of one image in each association, and a disk that is full from the second on."""
    bench.send(1, at=NOW)
    ended = AssociationEnded("a", NOW, is_released=True)
    take(bench, NOW, opened("a", NOW), ObjectRefused("a", NOW), ended)
    bench.intake.route_complete(NOW + SILENCE)
    assert not bench.opened
    assert bench.catalog.problem(STUDY) == REFUSED


def test_an_interruption_that_a_locked_database_does_not_take_is_noted_afterwards(bench: IntakeBench) -> None:
    take(bench, NOW, opened("a", NOW), bench.stored("a", 1, NOW))
    with bench.locked(), pytest.raises(Exception, match="locked"):
        take(bench, NOW, AssociationEnded("a", NOW, is_released=False))
    take(bench, NOW)
    assert bench.catalog.problem(STUDY) == BROKEN_OFF
