from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support.intake_bench import BREATH, NOW, STUDY, IntakeBench, intake_bench

from ainode.node import testing
from ainode.node.deciding.events import CountAnswered
from ainode.node.domain import UID
from ainode.node.keeping.records import Job
from ainode.node.keeping.study_records import StudyRecords
from ainode.node.receiving.events import AssociationOpened
from ainode.node.settings import NodeTable


@pytest.fixture
def bench(tmp_path: Path) -> IntakeBench:
    return intake_bench(tmp_path)


def test_a_study_is_not_read_while_its_association_is_open(bench: IntakeBench) -> None:
    bench.intake.handle([AssociationOpened("a", "PACS", "127.0.0.1", NOW)], NOW)
    bench.intake.handle([bench.stored("a", 1, NOW)], NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=60))
    assert bench.opened == []


def test_a_study_is_read_after_the_silence_and_its_job_names_every_instance(bench: IntakeBench) -> None:
    bench.send(1, 2, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=9))
    assert bench.opened == []
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    (job,) = bench.opened
    assert set(job.content) == {testing.uid("study", "instance", number) for number in (1, 2)}
    assert job.created_at == NOW


def test_the_reason_why_a_study_was_complete_is_kept_for_each_time_that_it_was(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    bench.send(2, at=NOW + timedelta(seconds=60))
    bench.intake.route_complete(NOW + timedelta(seconds=120))
    early, late = StudyRecords(bench.engine).completions(STUDY)
    assert (early.at, early.instance_count, late.instance_count) == (NOW + timedelta(seconds=11), 1, 2)
    assert early.reason == "10.0 s of silence, for a sender without history"


def test_a_study_whose_count_the_sender_confirms_is_read_at_once(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    assert bench.asked == [("PACS", STUDY)]
    bench.intake.handle([CountAnswered(STUDY, 1)], NOW)
    assert len(bench.opened) == 1


def test_a_study_with_fewer_instances_than_the_sender_counts_waits_for_them(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    bench.intake.handle([CountAnswered(STUDY, 2)], NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=30))
    assert bench.opened == []
    bench.send(2, at=NOW + timedelta(seconds=31))
    bench.intake.handle([CountAnswered(STUDY, 2)], NOW + timedelta(seconds=31))
    assert len(bench.opened) == 1


def test_a_study_that_arrives_again_unchanged_is_not_read_again(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    bench.send(1, at=NOW + timedelta(seconds=20))
    bench.intake.route_complete(NOW + timedelta(seconds=60))
    assert len(bench.opened) == 1


def test_a_late_instance_and_other_bytes_of_a_known_one_each_open_one_more_job(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    bench.send(2, at=NOW + timedelta(seconds=20))
    bench.intake.route_complete(NOW + timedelta(seconds=90))
    bench.send(2, at=NOW + timedelta(seconds=100), StudyDescription="corrected")
    bench.intake.route_complete(NOW + timedelta(seconds=200))
    assert len({job.id for job in bench.opened}) == 3


def test_the_log_says_once_that_a_study_is_complete_and_then_what_becomes_of_it(
    bench: IntakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bench.broken = 2
    bench.send(1, at=NOW)
    for seconds in (11, 100, 1000):
        bench.intake.route_complete(NOW + timedelta(seconds=seconds))
    (job,) = bench.opened
    (completion,) = StudyRecords(bench.engine).completions(STUDY)
    assert job.queued_at == completion.at == NOW + timedelta(seconds=11)
    actions = [record.action for record in caplog.records if hasattr(record, "action")]
    assert actions.count("complete") == 1
    assert actions.index("complete") < actions.index("routing_failed")


def test_what_no_route_takes_changes_no_job(bench: IntakeBench) -> None:
    """Our own report that comes back into the study must not make another one."""
    bench.send(1, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    bench.send(2, at=NOW + timedelta(seconds=20), Modality="OT", SeriesInstanceUID=testing.uid("other series"))
    bench.intake.route_complete(NOW + timedelta(seconds=90))
    first, second = bench.opened
    assert first.id == second.id


def test_a_study_whose_routing_failed_before_its_clock_was_set_back_is_routed_again(bench: IntakeBench) -> None:
    bench.broken = 1
    bench.send(1, at=NOW + timedelta(days=1))
    bench.intake.route_complete(NOW + timedelta(days=1, minutes=1))
    assert not bench.broken
    bench.intake.route_complete(NOW)
    bench.intake.route_complete(NOW + timedelta(minutes=1))
    assert len(bench.opened) == 1


def test_a_study_that_arrived_before_its_clock_was_set_back_is_read_after_the_silence(bench: IntakeBench) -> None:
    bench.send(1, at=NOW + timedelta(days=1))
    bench.intake.route_complete(NOW)
    bench.intake.route_complete(NOW + timedelta(minutes=1))
    assert len(bench.opened) == 1


def test_what_was_answered_before_a_crash_is_indexed_and_read_after_it(bench: IntakeBench) -> None:
    bench.stored("lost", 1, NOW)
    bench.restart()
    bench.intake.recover(NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    assert len(bench.opened) == 1
    assert bench.catalog.explanation(STUDY)[0]["route"] == "spine"


def test_a_crash_between_commit_and_move_loses_nothing_and_reads_nothing_twice(bench: IntakeBench) -> None:
    event = bench.stored("a", 1, NOW)
    copy = event.path.read_bytes()
    bench.intake.handle([AssociationOpened("a", "PACS", "127.0.0.1", NOW), event], NOW)
    event.path.write_bytes(copy)
    bench.restart()
    bench.intake.recover(NOW)
    assert not event.path.exists()
    assert [one.path.exists() for one in bench.catalog.instances(STUDY)] == [True]


def test_a_sender_that_sends_a_study_in_one_association_is_soon_waited_for_less(bench: IntakeBench) -> None:
    for study in range(6):
        at = NOW + timedelta(minutes=study)
        bench.send(study + 1, at=at, StudyInstanceUID=testing.uid("other", study))
        bench.intake.route_complete(at + timedelta(seconds=11))
    at = NOW + timedelta(hours=1)
    bench.send(9, at=at)
    bench.intake.route_complete(at + timedelta(seconds=2))
    assert len(bench.opened) == 7


def test_a_sender_whose_last_series_comes_late_is_waited_for_longer(bench: IntakeBench) -> None:
    """What comes after the report teaches too, or the node would supersede every study of that sender."""
    for study in range(6):
        at = NOW + timedelta(minutes=study)
        for part in (0, 15):
            when = at + timedelta(seconds=part)
            bench.send(study * 2 + part, at=when, StudyInstanceUID=testing.uid("other", study))
            bench.intake.route_complete(when + timedelta(seconds=11))
    at = NOW + timedelta(hours=1)
    bench.intake.route_complete(at)
    read = len(bench.opened)
    bench.send(99, at=at)
    bench.intake.route_complete(at + timedelta(seconds=16))
    assert len(bench.opened) == read


def test_a_sender_that_cannot_count_does_not_undo_what_the_objects_say(bench: IntakeBench) -> None:
    bench.send(1, at=NOW, NumberOfStudyRelatedInstances="1")
    bench.intake.handle([CountAnswered(STUDY, None)], NOW + BREATH)
    assert len(bench.opened) == 1


def with_destinations(bench: IntakeBench, *, allowed: bool) -> Job:
    """Return the job that a bench opens for a live route whose handler has demonstration weights."""
    route = replace(bench.settings.routes[0], destinations=("pacs",), allow_demonstration=allowed)
    bench.settings = bench.settings.model_copy(update={"routes": (route,)})
    bench.demonstration = ("spine_radiograph/detector",)
    bench.restart()
    bench.send(1, at=NOW)
    bench.intake.handle([CountAnswered(STUDY, 1)], NOW)
    return bench.opened[-1]


def test_a_live_route_with_demonstration_weights_has_no_destination_and_states_why(bench: IntakeBench) -> None:
    job = with_destinations(bench, allowed=False)
    assert job.destinations == ()
    for part in ("spine_radiograph/detector", "'spine'", "allow_demonstration = true"):
        assert part in job.withheld


def test_a_live_route_that_allows_demonstration_weights_answers_with_them(bench: IntakeBench) -> None:
    job = with_destinations(bench, allowed=True)
    assert (job.destinations, job.withheld) == (("pacs",), "")


def test_demonstration_weights_change_no_name_of_a_job(bench: IntakeBench, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = IntakeBench(
        tmp_path / "other", bench.settings.model_copy(update={"node": NodeTable(data=tmp_path / "other")})
    )
    assert with_destinations(bench, allowed=True).id == with_destinations(other, allowed=False).id


def file_of(bench: IntakeBench, study: UID, number: int = 1) -> Path:
    paths = {stored.ref.sop_instance_uid: stored.path for stored in bench.catalog.instances(study)}
    return paths[UID(testing.uid("study", "instance", number))]


def test_a_study_of_which_a_file_names_another_study_is_set_aside_and_the_others_go_on(
    bench: IntakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    other = UID(testing.uid("other"))
    bench.send(1, 2, at=NOW)
    bench.send(3, at=NOW, StudyInstanceUID=other)
    file_of(bench, STUDY).write_bytes(file_of(bench, other, 3).read_bytes())
    bench.restart()
    bench.intake.recover(NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    assert [job.study_instance_uid for job in bench.opened] == [other]
    (decision,) = bench.catalog.explanation(STUDY)
    assert [check["attribute"] for check in decision["checks"]][::2] == ["StudyInstanceUID", "SOPInstanceUID"]
    assert other in decision["checks"][0]["found"]
    assert "study set aside: StudyInstanceUID: the node wants" in caplog.text
    assert bench.catalog.unrouted() == ()


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_study_whose_only_file_names_what_the_index_does_not_is_set_aside(bench: IntakeBench, keyword: str) -> None:
    header = {} if keyword == "SOPInstanceUID" else {keyword: testing.uid("other")}
    bench.send(1, at=NOW)
    odd = bench.stored("odd", 2 if keyword == "SOPInstanceUID" else 1, NOW, **header)
    odd.path.replace(file_of(bench, STUDY))
    bench.restart()
    bench.intake.recover(NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    assert not bench.opened
    assert keyword in [check["attribute"] for check in bench.catalog.explanation(STUDY)[0]["checks"]]


def test_a_study_that_was_set_aside_is_read_when_it_is_sent_again(bench: IntakeBench) -> None:
    bench.send(1, 2, at=NOW)
    file_of(bench, STUDY).write_bytes(file_of(bench, STUDY, 2).read_bytes())
    bench.restart()
    bench.intake.recover(NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    assert not bench.opened
    bench.send(1, at=NOW + timedelta(seconds=60), StudyDescription="sent again")
    bench.intake.route_complete(NOW + timedelta(seconds=120))
    assert len(bench.opened) == 1


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (bytes(200), "no DICM")])
def test_a_study_of_which_no_data_set_can_be_read_says_so_until_it_is_sent_again(
    bench: IntakeBench, content: bytes, reason: str
) -> None:
    bench.send(1, at=NOW)
    file_of(bench, STUDY).write_bytes(content)
    bench.restart()
    bench.intake.recover(NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    (check,) = bench.catalog.explanation(STUDY)[0]["checks"]
    assert reason in check["found"]
    assert bench.catalog.unrouted() == ()
    bench.send(1, at=NOW + timedelta(seconds=60), StudyDescription="sent again")
    bench.intake.route_complete(NOW + timedelta(seconds=120))
    assert len(bench.opened) == 1


def test_a_study_whose_routing_raises_does_not_end_the_intake_and_is_routed_later(
    bench: IntakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.broken = 2
    bench.send(1, at=NOW)
    bench.intake.handle([CountAnswered(STUDY, 1)], NOW)
    assert bench.opened == []
    assert bench.intake.next_look(NOW) == NOW + timedelta(seconds=5)
    bench.intake.route_complete(NOW + timedelta(seconds=4))
    assert bench.broken == 1
    for seconds in (5, 10, 16):
        bench.intake.route_complete(NOW + timedelta(seconds=seconds))
    assert len(bench.opened) == 1
    assert "ZeroDivisionError" in caplog.text
    assert "SECRET" not in caplog.text
