from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support.intake_bench import BREATH, NOW, STUDY, IntakeBench, intake_bench

from ainode.node import testing
from ainode.node.deciding.events import CountAnswered, HandlerKnown
from ainode.node.domain import SELF_TEST_PATIENT_ID, SELF_TEST_PEER, UID
from ainode.node.errors import HandlerStarting
from ainode.node.jobs.retries import route_again
from ainode.node.keeping.records import Job
from ainode.node.keeping.study_records import StudyRecords
from ainode.node.receiving.events import AssociationEnded, AssociationOpened
from ainode.node.routes import RouteMode
from ainode.node.settings import NodeTable, SelfTestTable


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
    assert early.reason == "10.0 s without a further image, as for a sender whose pauses are not known yet"


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


def with_archive(bench: IntakeBench, *tested: str) -> None:
    """Let the route send to an archive, and the node test routes."""
    (route,) = bench.settings.routes
    changes = {"routes": (replace(route, destinations=("pacs",)),), "self_test": SelfTestTable(routes=tested)}
    bench.settings = bench.settings.model_copy(update=changes)
    bench.demonstration = ("spine_radiograph/network",)
    bench.restart()


def test_what_is_made_of_a_study_of_a_self_test_goes_to_the_node_alone_whatever_its_weights_are(
    bench: IntakeBench,
) -> None:
    with_archive(bench, "spine")
    bench.send(1, at=NOW, PatientID=SELF_TEST_PATIENT_ID)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    (job,) = bench.opened
    assert (job.destinations, job.withheld, job.refusal) == ((SELF_TEST_PEER,), "", "")
    assert job.is_self_test


def test_a_study_of_another_nodes_self_test_is_read_by_nobody_and_leaves_for_nobody(bench: IntakeBench) -> None:
    with_archive(bench)
    bench.send(1, at=NOW, PatientID=SELF_TEST_PATIENT_ID)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    (job,) = bench.opened
    assert job.destinations == (SELF_TEST_PEER,)
    assert "[self_test] of this node names no route" in job.refusal


def test_a_study_of_which_one_image_is_of_the_self_test_leaves_for_nobody(bench: IntakeBench) -> None:
    with_archive(bench, "spine")
    bench.send(1, at=NOW)
    bench.send(2, at=NOW, PatientID=SELF_TEST_PATIENT_ID)
    bench.intake.route_complete(NOW + timedelta(seconds=60))
    assert {job.destinations for job in bench.opened} == {(SELF_TEST_PEER,)}
    assert all(job.refusal for job in bench.opened)


def test_a_study_that_arrives_again_unchanged_is_not_read_again(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    bench.send(1, at=NOW + timedelta(seconds=20))
    bench.intake.route_complete(NOW + timedelta(seconds=60))
    assert len(bench.opened) == 1


def test_the_log_says_once_that_a_study_came_again_unchanged_and_what_reads_it_by_new_routes(
    bench: IntakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bench.send(1, 2, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    for seconds in (60, 61, 110, 160):  # a sender of an association for each image
        bench.send(1, at=NOW + timedelta(seconds=seconds))
    assert came_again(caplog) == [
        f"the study came again unchanged; `ainode read-again {STUDY}` reads it by routes that were added since"
    ]
    bench.send(1, at=NOW + timedelta(seconds=300))
    assert len(came_again(caplog)) == 2


def test_a_study_that_comes_again_with_a_new_image_is_not_said_to_be_unchanged(
    bench: IntakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bench.send(1, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    bench.send(1, 2, at=NOW + timedelta(seconds=60))
    assert came_again(caplog) == []


def came_again(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if getattr(record, "action", "") == "came_again"]


def test_a_study_that_a_command_wants_read_again_is_read_by_a_route_that_was_added_since(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    (spine,) = bench.settings.routes
    routes = (spine, replace(spine, name="newcomer"))
    bench.settings = bench.settings.model_copy(update={"routes": routes})
    bench.restart()
    bench.send(1, at=NOW + timedelta(seconds=60))
    assert len(bench.opened) == 1
    route_again(bench.catalog, bench.announcements, STUDY, NOW + timedelta(seconds=90))
    bench.intake.recover(NOW + timedelta(seconds=100))  # the look of each minute
    bench.intake.handle([], NOW + timedelta(seconds=101))
    assert [job.route for job in bench.opened] == ["spine", "spine", "newcomer"]
    assert bench.opened[0].id == bench.opened[1].id
    assert bench.announcements.requested() == ()


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


def test_what_the_node_made_and_an_archive_hands_on_late_teaches_no_silence(bench: IntakeBench) -> None:
    other = testing.uid("other", 1)
    bench.send(1, at=NOW, StudyInstanceUID=other)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    known = bench.catalog.sender_history("PACS")
    late = bench.stored("late", 2, NOW + timedelta(seconds=40), StudyInstanceUID=other)
    bench.own_documents = (late.ref,)
    bench.intake.handle([AssociationOpened("late", "PACS", "127.0.0.1", late.time), late], late.time)
    assert bench.catalog.sender_history("PACS") == known
    bench.own_documents = ()
    bench.intake.handle([AssociationOpened("later", "PACS", "127.0.0.1", late.time)], late.time)
    bench.intake.handle([AssociationEnded("late", late.time, is_released=True)], late.time)
    later = bench.stored("later", 3, NOW + timedelta(seconds=42), StudyInstanceUID=other)
    bench.intake.handle([later], later.time)
    assert bench.catalog.sender_history("PACS") != known


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


def test_the_jobs_of_live_routes_are_opened_before_those_of_shadows(bench: IntakeBench) -> None:
    (route,) = bench.settings.routes
    shadow, live = replace(route, name="old", mode=RouteMode.SHADOW), replace(route, name="new", mode=RouteMode.LIVE)
    bench.settings = bench.settings.model_copy(update={"routes": (shadow, live)})
    bench.restart()
    bench.send(1, at=NOW)
    bench.intake.handle([CountAnswered(STUDY, 1)], NOW)
    assert [(job.route, job.mode) for job in bench.opened] == [("new", RouteMode.LIVE), ("old", RouteMode.SHADOW)]


def test_a_shadow_waits_for_the_handler_of_the_live_route_of_its_images_and_no_other(bench: IntakeBench) -> None:
    (route,) = bench.settings.routes
    shadow, live = replace(route, name="old", mode=RouteMode.SHADOW), replace(route, name="new", handler="new")
    others = replace(shadow, name="others", min_instances=0)
    bench.settings = bench.settings.model_copy(update={"routes": (shadow, live, others)})
    bench.faults["new"] = HandlerStarting("new is prepared")
    bench.restart()
    bench.send(1, at=NOW)
    bench.intake.handle([CountAnswered(STUDY, 1)], NOW)
    assert [job.route for job in bench.opened] == ["others"]
    bench.faults.clear()
    bench.intake.handle([HandlerKnown("new")], NOW + timedelta(seconds=1))
    assert [job.route for job in bench.opened] == ["others", "new", "old", "others"]


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


def test_an_urgent_study_that_comes_behind_a_hundred_is_routed_before_most_of_them_and_they_keep_their_order(
    bench: IntakeBench,
) -> None:
    (route,) = bench.settings.routes
    routes = (replace(route, urgent_tags={"SeriesDescription": "STAT"}),)
    bench.settings = bench.settings.model_copy(update={"routes": routes})
    bench.restart()
    studies = [UID(testing.uid("other", number)) for number in range(100)]
    bench.intake.handle([AssociationOpened("a", "PACS", "127.0.0.1", NOW)], NOW)
    events = [
        bench.stored("a", 1000 + number, NOW, StudyInstanceUID=study, NumberOfStudyRelatedInstances=1)
        for number, study in enumerate(studies)
    ]
    header = {"SeriesDescription": "STAT", "NumberOfStudyRelatedInstances": 1}
    events.append(bench.stored("a", 1, NOW, **header))
    bench.intake.handle([*events, AssociationEnded("a", NOW, is_released=True)], NOW)
    bench.intake.route_complete(NOW + BREATH)
    assert bench.opened[0].study_instance_uid == STUDY
    assert len(bench.opened) < len(studies) / 2
    while bench.intake.route_complete(NOW + BREATH):
        pass
    ordinary = [job.study_instance_uid for job in bench.opened[1:]]
    assert ordinary == studies
