"""Faults of the database, the disk, a file, a route or a header: what they cost, and that nothing answered is lost."""

import logging
import os
import resource
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.disks import failing_disk, fillable_disk
from support.intake_bench import MESSAGE, NOW, STUDY, IntakeBench, intake_bench

from ainode.node import testing
from ainode.node.deciding.events import CountAnswered, HandlerKnown, StudyAnnounced
from ainode.node.domain import UID, InstanceRef
from ainode.node.errors import DatabaseUnavailable, HandlerStarting
from ainode.node.keeping.announcements import Announcement
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, InstanceStored
from ainode.node.routes import Route

LATER = NOW + timedelta(seconds=60)


@pytest.fixture
def bench(tmp_path: Path) -> IntakeBench:
    return intake_bench(tmp_path)


def with_route(bench: IntakeBench, route: Route) -> None:
    """Give the bench one more route, before its own."""
    bench.settings = bench.settings.model_copy(update={"routes": (route, *bench.settings.routes)})
    bench.restart()


def instance_uid(number: int) -> UID:
    return UID(testing.uid("study", "instance", number))


def kept(bench: IntakeBench, number: int) -> Path:
    """Return the path of a kept instance."""
    paths = {stored.ref.sop_instance_uid: stored.path for stored in bench.catalog.instances(STUDY)}
    return paths[instance_uid(number)]


# The database


def test_a_batch_that_a_locked_database_did_not_take_is_taken_once_and_in_order_afterwards(bench: IntakeBench) -> None:
    first = [AssociationOpened("a", "PACS", "127.0.0.1", NOW), bench.stored("a", 1, NOW)]
    second = [bench.stored("a", 2, NOW), AssociationEnded("a", NOW, is_released=True)]
    with bench.locked():
        for events in (first, second, []):
            with pytest.raises(DatabaseUnavailable):
                bench.intake.handle(events, NOW)
        assert bench.intake.is_behind
    bench.intake.handle([], NOW)
    assert not bench.intake.is_behind
    bench.intake.route_complete(LATER)
    assert len(bench.opened) == 1
    assert set(bench.opened[0].content) == {instance_uid(1), instance_uid(2)}


def test_a_study_that_a_locked_database_kept_from_being_routed_is_routed_afterwards(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    with bench.locked(), pytest.raises(DatabaseUnavailable):
        bench.intake.route_complete(LATER)
    bench.intake.route_complete(LATER + timedelta(seconds=2))
    assert bench.catalog.unrouted() == ()
    assert {job.id for job in bench.opened} == {bench.opened[0].id}


@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_a_database_that_is_gone_or_damaged_for_a_while_loses_no_event(
    bench: IntakeBench, tmp_path: Path, fault: str
) -> None:
    database, away = tmp_path / "catalog.sqlite", tmp_path / "away.sqlite"
    bench.engine.dispose()
    database.rename(away)
    if fault == "gone":
        database.mkdir()
    else:
        database.write_bytes(b"no database" * 1000)
    events = [AssociationOpened("a", "PACS", "127.0.0.1", NOW), bench.stored("a", 1, NOW)]
    with pytest.raises(DatabaseUnavailable):
        bench.intake.handle([*events, AssociationEnded("a", NOW, is_released=True)], NOW)
    if fault == "gone":
        database.rmdir()
    away.rename(database)
    bench.intake.handle([], NOW)
    bench.intake.route_complete(LATER)
    assert len(bench.opened) == 1


def test_what_a_repeated_commit_finds_indexed_is_watched_all_the_same(bench: IntakeBench) -> None:
    """A database that goes away during a commit may have committed."""
    event = bench.stored("a", 1, NOW)
    bench.intake.handle([AssociationOpened("a", "PACS", "127.0.0.1", NOW), event], NOW)
    bench.restart()
    ended = AssociationEnded("a", NOW, is_released=True)
    bench.intake.handle([AssociationOpened("a", "PACS", "127.0.0.1", NOW), event, ended], NOW)
    bench.intake.route_complete(LATER)
    assert len(bench.opened) == 1


# The disk


def test_a_disk_without_a_name_left_holds_the_batch_until_there_is_one(tmp_path: Path) -> None:
    with fillable_disk(tmp_path / "disk", names=60) as disk:
        bench = replace(intake_bench(tmp_path), spool_folder="disk/spool")
        events = [AssociationOpened("a", "PACS", "127.0.0.1", NOW), bench.stored("a", 1, NOW)]
        disk.fill_names()
        with pytest.raises(OSError, match="No space left"):
            bench.intake.handle([*events, AssociationEnded("a", NOW, is_released=True)], NOW)
        assert bench.intake.is_behind
        disk.make_room()
        bench.intake.handle([], NOW)
        bench.intake.route_complete(LATER)
        assert len(bench.opened) == 1
        assert kept(bench, 1).exists()


def test_a_node_without_a_descriptor_left_routes_the_study_when_there_is_one(bench: IntakeBench) -> None:
    bench.send(1, 2, at=NOW)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    bench.restart()
    bench.intake.recover(NOW)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            bench.intake.route_complete(LATER)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    bench.intake.route_complete(LATER + timedelta(seconds=2))
    assert [len(job.content) for job in bench.opened] == [2]
    assert bench.catalog.problems() == {}


def test_an_instance_on_a_sector_that_stays_bad_is_asked_for_some_minutes_and_then_named(tmp_path: Path) -> None:
    with failing_disk(tmp_path / "disk") as disk:
        bench = replace(intake_bench(tmp_path), spool_folder="disk/spool")
        bench.send(1, at=NOW)
        bench.restart()
        bench.intake.recover(NOW)
        disk.fail(kept(bench, 1))
        bench.intake.route_complete(LATER)
        assert not bench.catalog.is_routed(STUDY)
        for seconds in (10, 30, 60, 120, 240):
            bench.intake.route_complete(LATER + timedelta(seconds=seconds))
        assert bench.catalog.is_routed(STUDY)
        assert "Input/output error" in bench.catalog.problems()[STUDY]


# A file


def test_an_instance_that_nobody_can_read_is_named_with_its_reason_and_the_others_are_read(
    bench: IntakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.send(1, 2, 3, 4, at=NOW)
    kept(bench, 1).unlink()
    kept(bench, 2).write_bytes(bytes(300))
    path = kept(bench, 3)
    path.unlink()
    path.mkdir()
    bench.restart()
    bench.intake.recover(NOW)
    bench.intake.route_complete(LATER)
    assert [set(job.content) for job in bench.opened] == [{instance_uid(4)}]
    problem = bench.catalog.problems()[STUDY]
    assert problem.startswith("3 of 4 instances cannot be read (")
    reasons = {1: "No such file or directory", 2: "no DICM", 3: "Is a directory"}
    explanation = bench.catalog.explanation(STUDY)
    unread = [
        check["found"] for decision in explanation if decision["route"] == "any route" for check in decision["checks"]
    ]
    for number, reason in reasons.items():
        assert f"{instance_uid(number)}: " in problem
        assert reason in problem
        assert any(reason in found and instance_uid(number) in found for found in unread)
        assert any(
            reason in record.message and getattr(record, "sop_instance_uid", "") == instance_uid(number)
            for record in caplog.records
        )


def test_a_study_of_which_every_file_is_gone_is_set_aside_and_read_when_it_is_sent_again(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    kept(bench, 1).unlink()
    bench.restart()
    bench.intake.recover(NOW)
    bench.intake.route_complete(LATER)
    assert bench.opened == []
    assert bench.catalog.unrouted() == ()
    assert bench.catalog.problems()[STUDY].startswith("set aside: header: the node wants a data set that can be read")
    bench.send(1, at=LATER)
    bench.intake.route_complete(LATER + timedelta(seconds=60))
    assert len(bench.opened) == 1
    assert bench.catalog.problems() == {}


def test_an_instance_of_the_same_bytes_again_mends_a_study_that_lacked_it(bench: IntakeBench) -> None:
    bench.send(1, 2, at=NOW)
    kept(bench, 1).unlink()
    bench.restart()
    bench.intake.recover(NOW)
    bench.intake.route_complete(LATER)
    bench.send(1, at=LATER)
    bench.intake.route_complete(LATER + timedelta(seconds=60))
    assert [len(job.content) for job in bench.opened] == [1, 2]
    assert bench.catalog.problems() == {}


def test_a_damaged_file_of_the_spool_is_set_aside_with_its_name_and_the_others_are_indexed(
    bench: IntakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.stored("lost", 1, NOW)
    for name, content in (("0.dcm", b"damaged"), ("1.dcm", b"")):
        (bench.folder / "spool" / "new" / name).write_bytes(content)
    (bench.folder / "spool" / "new" / "2.dcm").mkdir()
    recovery = bench.intake.recover(NOW)
    assert (recovery.instances, recovery.studies, recovery.set_aside) == (1, 1, 2)
    assert [path.name for path in bench.spool.damaged()] == ["0.dcm", "1.dcm"]
    assert [path.name for path in bench.spool.unindexed()] == ["2.dcm"]
    assert "damaged file set aside: the file is not DICOM Part 10" in caplog.text
    assert {getattr(record, "path", "").rpartition("/")[2] for record in caplog.records} >= {"0.dcm", "1.dcm", "2.dcm"}


def test_a_file_that_is_damaged_before_its_event_costs_this_file_only(bench: IntakeBench) -> None:
    events: list[AssociationOpened | InstanceStored | AssociationEnded] = [
        AssociationOpened("a", "PACS", "127.0.0.1", NOW)
    ]
    stored = [bench.stored("a", number, NOW) for number in (1, 2, 3)]
    stored[0].path.write_bytes(b"damaged")
    stored[1].path.unlink()
    bench.intake.handle([*events, *stored, AssociationEnded("a", NOW, is_released=True)], NOW)
    bench.intake.route_complete(LATER)
    assert [set(job.content) for job in bench.opened] == [{instance_uid(3)}]


def test_an_accepted_instance_that_is_gone_before_it_is_indexed_is_named(
    bench: IntakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    event = bench.stored("a", 1, NOW)
    event.path.unlink()
    bench.intake.handle([AssociationOpened("a", "PACS", "127.0.0.1", NOW), event], NOW)
    (record,) = [record for record in caplog.records if "gone from the spool" in record.message]
    assert getattr(record, "sop_instance_uid", "") == instance_uid(1)


def test_an_event_of_an_association_that_nobody_opened_costs_itself_and_its_file_is_swept_up(
    bench: IntakeBench,
) -> None:
    odd, event = bench.stored("nobody", 1, NOW), bench.stored("a", 2, NOW)
    ended = AssociationEnded("a", NOW, is_released=True)
    bench.intake.handle([AssociationOpened("a", "PACS", "127.0.0.1", NOW), odd, event, ended], NOW)
    assert not bench.intake.is_behind
    bench.intake.recover(NOW)
    bench.intake.route_complete(LATER)
    assert [len(job.content) for job in bench.opened] == [2]


# A route


def test_a_route_whose_handler_raises_costs_no_other_route_and_shows_its_reason_until_it_is_well(
    bench: IntakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    with_route(bench, Route(name="poison", handler="poison", modality=("DX",)))
    bench.faults["poison"] = ZeroDivisionError(MESSAGE)
    bench.send(1, at=NOW)
    bench.intake.route_complete(LATER)
    assert [job.route for job in bench.opened] == ["spine"]
    assert bench.catalog.problems() == {STUDY: "route 'poison': ZeroDivisionError, see the log"}
    assert not bench.catalog.is_routed(STUDY)
    assert MESSAGE not in caplog.text
    bench.faults.clear()
    bench.intake.route_complete(LATER + timedelta(seconds=6))
    assert {job.route for job in bench.opened} == {"spine", "poison"}
    assert bench.catalog.problems() == {}
    assert bench.catalog.is_routed(STUDY)


def test_a_study_whose_handler_starts_says_so_and_is_routed_when_the_handler_is_known_and_the_log_is_silent(
    bench: IntakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.faults["spine_radiograph"] = HandlerStarting("it starts")
    bench.send(1, at=NOW)
    bench.intake.route_complete(LATER)
    assert bench.opened == []
    assert "it starts" in bench.catalog.problems()[STUDY]
    bench.faults.clear()
    bench.intake.handle([HandlerKnown("spine_radiograph")], LATER)
    assert len(bench.opened) == 1
    assert bench.catalog.problems() == {}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# What no event tells of


def test_a_sweep_takes_up_a_file_whose_event_never_came_and_not_the_file_of_a_moment_ago(bench: IntakeBench) -> None:
    now = datetime.now(UTC)
    bench.intake.recover(now)
    old, new = bench.stored("lost", 1, now), bench.stored("late", 2, now)
    os.utime(old.path, (now.timestamp() - 120, now.timestamp() - 120))
    bench.intake.recover(now)
    assert bench.spool.unindexed() == [new.path]
    bench.intake.route_complete(now + timedelta(seconds=11))
    assert [set(job.content) for job in bench.opened] == [{instance_uid(1)}]


def test_a_sweep_watches_a_study_that_waits_for_routing_and_that_nobody_watches(bench: IntakeBench) -> None:
    bench.intake.recover(NOW)
    other = replace(bench, opened=[])
    other.send(1, at=NOW)
    bench.intake.recover(NOW)
    bench.intake.route_complete(LATER)
    assert len(bench.opened) == 1


def test_a_sweep_leaves_a_study_alone_that_is_watched(bench: IntakeBench) -> None:
    bench.intake.recover(NOW)
    bench.intake.handle([AssociationOpened("a", "PACS", "127.0.0.1", NOW), bench.stored("a", 1, NOW)], NOW)
    bench.intake.recover(LATER)
    bench.intake.route_complete(LATER + timedelta(seconds=30))
    assert bench.opened == []


def test_a_catalog_that_was_lost_is_rebuilt_from_the_spool_and_the_same_jobs_are_opened(
    bench: IntakeBench, tmp_path: Path
) -> None:
    bench.send(1, at=NOW)
    bench.send(1, 2, at=NOW + timedelta(seconds=1), StudyDescription="corrected")
    bench.send(3, at=NOW, StudyInstanceUID=testing.uid("other"))
    bench.intake.route_complete(LATER)
    bench.engine.dispose()
    for path in tmp_path.glob("catalog.sqlite*"):
        path.unlink()
    rebuilt = intake_bench(tmp_path)
    assert rebuilt.intake.recover(NOW).studies == 2
    rebuilt.intake.route_complete(LATER)
    assert {job.id for job in rebuilt.opened} == {job.id for job in bench.opened}
    assert rebuilt.catalog.content(STUDY).keys() == {instance_uid(1), instance_uid(2)}


def test_a_kept_file_whose_bytes_changed_is_not_taken_into_a_rebuilt_catalog(
    bench: IntakeBench, tmp_path: Path
) -> None:
    bench.send(1, 2, at=NOW)
    path = kept(bench, 1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    bench.engine.dispose()
    (tmp_path / "catalog.sqlite").unlink()
    rebuilt = intake_bench(tmp_path)
    assert rebuilt.intake.recover(NOW).set_aside == 1
    assert rebuilt.catalog.content(STUDY).keys() == {instance_uid(2)}


# What a sender owes


def test_our_own_documents_that_came_back_are_not_among_the_instances_that_the_sender_counts(
    bench: IntakeBench,
) -> None:
    bench.own_documents = (InstanceRef(STUDY, UID("1.1"), UID("1.2"), instance_uid(2)),)
    report = {"Modality": "SR", "ManufacturerModelName": "ainode", "SeriesInstanceUID": testing.uid("reports")}
    bench.send(2, at=NOW, **report)
    bench.send(1, at=NOW)
    bench.intake.handle([CountAnswered(STUDY, 2)], NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=30))
    assert bench.opened == []
    bench.send(3, at=NOW + timedelta(seconds=31))
    bench.intake.handle([CountAnswered(STUDY, 2)], NOW + timedelta(seconds=31))
    assert len(bench.opened) == 1


@pytest.mark.parametrize(("announced", "is_read"), [(None, False), (2, True)])
def test_documents_that_a_node_with_another_database_made_count_for_who_announced_them_alone(
    bench: IntakeBench, announced: int | None, *, is_read: bool
) -> None:
    """A query tells documents of nodes from images; whoever announces a number has counted what there is."""
    if announced:
        bench.announcements.announce(Announcement(STUDY, NOW, NOW, expected=announced))
        bench.intake.handle([StudyAnnounced(STUDY)], NOW)
    report = {"Modality": "SR", "ManufacturerModelName": "ainode", "SeriesInstanceUID": testing.uid("reports")}
    bench.send(2, at=NOW, **report)
    bench.send(1, at=NOW)
    if not announced:
        bench.intake.handle([CountAnswered(STUDY, 2)], NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=30))
    assert bool(bench.opened) is is_read
