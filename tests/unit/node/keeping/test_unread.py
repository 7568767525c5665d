"""Which studies were not read, and why, as the database answers."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from support.intake_bench import STUDY, IntakeBench, intake_bench

from ainode.node.domain import UID, InstanceRef, JobState
from ainode.node.keeping import database
from ainode.node.keeping.announcements import Announcement, Announcements
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex
from ainode.node.keeping.records import Job, Outcome
from ainode.node.keeping.unread import Counts, Filter, Mismatch, UnreadReason, UnreadStudies
from ainode.node.routes import Route

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
MISMATCH = Mismatch(UnreadReason.NO_ROUTE, "chest", UID("1.1"), "Modality", "CT", "MR")


def receive(engine: sa.Engine, study: str, minute: int = 0) -> None:
    uid, at = UID(study), NOW + timedelta(minutes=minute)
    ref = InstanceRef(uid, UID(f"{study}.1"), UID("1.2"), UID(f"{study}.1.1"))
    Catalog(engine).index([StoredInstance(ref, UID("1.2.840"), "ff", 1, Path("x"), "A", at)])


def route(engine: sa.Engine, study: str, mismatch: Mismatch | None = None) -> None:
    catalog, uid = Catalog(engine), UID(study)
    catalog.mark_routed(uid, content=catalog.content(uid), explanation=[], mismatch=mismatch)


def end(engine: sa.Engine, study: str, state: JobState, reason: str, name: str = "nodule") -> None:
    ledger = Ledger(engine)
    job = Job(f"{name} {study}", UID(study), name, "any", {}, NOW, NOW, ())
    ledger.open(job)
    ledger.move(job.id, JobState.READING)
    refusal = {"out_of_scope": {"reason": reason, "code": "wrong-body-part"}}
    result = json.dumps(refusal) if state is JobState.OUT_OF_SCOPE else ""
    assert ledger.report(job, (), Outcome(state, result, reason, 1.0))


def reasons(engine: sa.Engine, criteria: Filter | None = None) -> dict[str, UnreadReason]:
    page = UnreadStudies(engine).page(criteria or Filter(), count=50)
    return {row.study_instance_uid: row.reason for row in page}


def test_each_study_without_a_result_stands_in_the_list_with_its_reason_and_a_read_study_does_not(
    engine: sa.Engine,
) -> None:
    for number, study in enumerate(("1", "2", "3", "4", "5", "6")):
        receive(engine, study, number)
    route(engine, "1", MISMATCH)
    route(engine, "2", replace(MISMATCH, reason=UnreadReason.SET_ASIDE, route=""))
    for study, state, words in (
        ("3", JobState.OUT_OF_SCOPE, "no chest"),
        ("4", JobState.FAILED, "weights missing"),
        ("5", JobState.REPORTED, ""),
    ):
        route(engine, study)
        end(engine, study, state, words)
    Announcements(engine).announce(Announcement(UID("7"), NOW, NOW, reason="no answer"))
    assert reasons(engine) == {
        "1": UnreadReason.NO_ROUTE,
        "2": UnreadReason.SET_ASIDE,
        "3": UnreadReason.DECLINED,
        "4": UnreadReason.FAILED,
        "6": UnreadReason.AWAITED,
        "7": UnreadReason.NOT_FETCHED,
    }
    (row,) = UnreadStudies(engine).of_study(UID("1"))
    assert (row.route, row.attribute, row.expected, row.value) == ("chest", "Modality", "CT", "MR")
    (declined,) = UnreadStudies(engine).of_study(UID("3"))
    assert (declined.words, declined.attribute) == ("no chest", "wrong-body-part")
    assert UnreadStudies(engine).of_study(UID("5")) == ()


def test_the_newest_stands_first_and_pages_are_cut_by_the_database(engine: sa.Engine) -> None:
    for number in range(5):
        receive(engine, str(number), number)
    unread = UnreadStudies(engine)
    pages = [unread.page(Filter(), count=2, offset=offset) for offset in (0, 2, 4)]
    assert [[row.study_instance_uid for row in page] for page in pages] == [["4", "3"], ["2", "1"], ["0"]]


def test_filters_and_tallies_tell_the_same_numbers(engine: sa.Engine) -> None:
    for number, (name, attribute) in enumerate(itertools.product(("chest", "spine"), ("Modality", "Rows", "Rows"))):
        receive(engine, str(number), number)
        route(engine, str(number), replace(MISMATCH, route=name, attribute=attribute))
    unread = UnreadStudies(engine)
    tallies = unread.tallies(Filter())
    assert [(tally.route, tally.attribute, tally.count) for tally in tallies] == [
        *(("chest", "Rows", 2), ("spine", "Rows", 2), ("chest", "Modality", 1), ("spine", "Modality", 1))
    ]
    assert reasons(engine, Filter(route="spine", attribute="Rows")).keys() == {"4", "5"}
    assert reasons(engine, Filter(reason="failed")) == {}
    span = Filter(since=NOW + timedelta(minutes=1), before=NOW + timedelta(minutes=3))
    assert reasons(engine, span).keys() == {"1", "2"}
    assert sum(tally.count for tally in unread.tallies(span)) == 2


def test_a_row_names_the_routes_that_read_its_study_and_studies_are_counted_once(engine: sa.Engine) -> None:
    for number, study in enumerate(("1", "2", "3")):
        receive(engine, study, number)
    route(engine, "1", MISMATCH)
    for study in ("2", "3"):
        route(engine, study)
        for name in ("nodule", "spine"):
            end(engine, study, JobState.OUT_OF_SCOPE, "no chest", name)
    end(engine, "3", JobState.REPORTED, "", "pneumonia")
    unread = UnreadStudies(engine)
    read_by = {(row.study_instance_uid, row.route): row.read_by for row in unread.page(Filter(), count=50)}
    of_third = {("3", name): ("pneumonia",) for name in ("nodule", "spine")}
    assert read_by == {("1", "chest"): (), ("2", "nodule"): (), ("2", "spine"): (), **of_third}
    assert unread.counts(Filter()) == Counts(rows=5, studies=3, unread_studies=2)
    assert unread.counts(Filter(route="spine")) == Counts(rows=2, studies=2, unread_studies=1)
    assert unread.counts(Filter(route="absent")) == Counts(0, 0, 0)


def test_a_self_test_up_to_the_routes_does_not_count_among_what_was_not_read(engine: sa.Engine) -> None:
    patients = PatientIndex(engine, Naming.HIDDEN)
    for study, modality in (("1", "OT"), ("2", "DX"), ("3", "OT")):
        receive(engine, study)
        route(engine, study, MISMATCH)
        patients.write(UID(study), Labels(modalities=modality, is_synthetic=study != "3"))
    assert reasons(engine).keys() == {"2", "3"}
    assert sum(tally.count for tally in UnreadStudies(engine).tallies(Filter())) == 2
    (row,) = UnreadStudies(engine).of_study(UID("1"))
    assert row.reason is UnreadReason.NO_ROUTE


def test_a_study_that_a_route_takes_at_last_leaves_the_list(engine: sa.Engine) -> None:
    receive(engine, "1")
    route(engine, "1", MISMATCH)
    route(engine, "1")
    assert reasons(engine) == {}


def test_the_intake_keeps_the_nearest_route_and_the_condition_that_failed(tmp_path: Path) -> None:
    bench = intake_bench(tmp_path)
    far = Route(name="far", handler="any", modality=("CT",))
    near = Route(name="near", handler="any", modality=("DX",), tags={"Rows": ">=256"})
    bench.settings = bench.settings.model_copy(update={"routes": (far, near)})
    bench.restart()
    read(bench)
    (row,) = UnreadStudies(bench.engine).page(Filter(), count=10)
    assert row.study_instance_uid == STUDY
    assert (row.reason, row.route) == (UnreadReason.NO_ROUTE, "near")
    assert (row.attribute, row.expected, row.value) == ("Rows", ">=256", "8")


def test_a_node_without_routes_says_so_of_each_study(tmp_path: Path) -> None:
    bench = intake_bench(tmp_path)
    bench.settings = bench.settings.model_copy(update={"routes": ()})
    bench.restart()
    read(bench)
    (row,) = UnreadStudies(bench.engine).page(Filter(), count=10)
    assert (row.attribute, row.expected, row.value) == ("routes.toml", "a route", "none")


def read(bench: IntakeBench) -> None:
    bench.send(1, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))


def test_the_migration_tells_of_earlier_studies_what_the_intake_would_have_kept(tmp_path: Path) -> None:
    bench = intake_bench(tmp_path)
    near = Route(name="near", handler="any", modality=("DX",), tags={"Rows": ">=256"})
    bench.settings = bench.settings.model_copy(update={"routes": (near,)})
    bench.restart()
    read(bench)
    (row,) = UnreadStudies(bench.engine).page(Filter(), count=10)
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
    with bench.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0009")
    database.migrate(bench.engine)
    assert UnreadStudies(bench.engine).page(Filter(), count=10) == (row,)
