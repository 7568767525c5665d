"""A node tests its routes with synthetic studies: a changed answer is told, and nothing reaches a real destination."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from pydicom.uid import Comprehensive3DSRStorage
from support import free_port
from support.node import RunningNode, configured, running, self_tests_of
from typer.testing import CliRunner

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.commands.cli import app
from ainode.node.console.system.route_tests import RouteTests
from ainode.node.domain import SELF_TEST_PATIENT_ID, SELF_TEST_PEER, UID, JobState
from ainode.node.errors import HandlerError
from ainode.node.keeping.notices import Notices
from ainode.node.keeping.statistics import Period, Statistics
from ainode.node.proving import golden, self_test
from ainode.node.proving.nightly import KIND, Nightly
from ainode.node.settings import Peer, Settings, load

ROUTE = "spine of adults"
HANDLER = """
from dataclasses import replace
from functools import partial
from pathlib import Path

from ainode.node.domain import SyntheticStudy
from ainode.node.testing import noise
from support.handler import Obedient, result

ANSWER = Path(__file__).with_name("answer")


class Changing(Obedient):
    def read(self, selection):
        return replace(result(selection), scores={"probability": float(ANSWER.read_text())})

    def demonstration(self, seed):
        return SyntheticStudy((noise(320, 320, seed=seed, BodyPartExamined="TSPINE"),))


def build(environment):
    return Changing()
"""
ROUTES = f"""
[[route]]
name = "{ROUTE}"
handler = "tested_site.changing"
modality = ["DX"]
body_part = ["SPINE"]
destinations = ["pacs"]

[[route]]
name = "bones"
handler = "tested_site.changing"
body_part = ["EXTREMITY"]
destinations = ["pacs"]
"""


@dataclass
class Site:
    """A node with an archive, and a model whose answer a test may change."""

    node: RunningNode
    pacs: testing.EmbeddedArchive
    folder: Path

    @property
    def settings(self) -> Settings:
        return load(self.node.config).with_self_test()

    def answer(self, number: float) -> None:
        (self.folder / "tested_site" / "answer").write_text(str(number))

    def test(self, route: str = ROUTE) -> tuple[golden.RouteRecord, str]:
        return self_test.tested(self.settings, route)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("self tests")
    (folder / "tested_site").mkdir()
    (folder / "tested_site" / "changing.py").write_text(HANDLER)
    peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())
    table = self_tests_of(ROUTE, "bones", more="limit_s = 120\n")
    alerts = f'[[notification]]\nname = "drop"\nto = "folder"\nfolder = "{folder}"\non = ["alert", "present"]\n'
    node = configured(folder / "node", peers=[peer], routes=ROUTES, more=table + alerts, silence_s=0.5)
    node.before = folder
    with (
        testing.EmbeddedArchive(folder / "pacs", peer.port) as pacs,
        running(node),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.syspath_prepend(str(folder))
        made = Site(node, pacs, folder)
        made.answer(0.81)
        golden_record, words = made.test()
        assert golden_record.is_passed, golden_record.problem
        assert words == "read for the first time: this answer is the golden one from now on"
        yield made


@pytest.fixture(autouse=True)
def golden_answer(site: Site) -> None:
    site.answer(0.81)


def test_the_same_answer_and_every_object_pass_and_reach_no_archive(site: Site) -> None:
    record, words = site.test()
    assert (record.is_passed, words) == (True, "the golden answer, and every object")
    assert record.golden is not None
    assert record.golden.documents == {"SR": 1}
    assert golden.record_of(site.settings, ROUTE) == record
    study = UID(testing.uid(f"self-test of route {ROUTE}"))
    jobs = site.node.ledger.jobs(study=study)
    assert {job.destinations for job in jobs} == {(SELF_TEST_PEER,)}
    assert jobs[-1].state is JobState.REPORTED
    assert {delivery.destination for job in jobs for delivery in site.node.ledger.deliveries(job.id)} == {
        SELF_TEST_PEER
    }
    assert not [
        uid
        for job in jobs
        for d in site.node.ledger.documents(job.id)
        if (uid := d.ref.sop_instance_uid) in site.pacs.stored
    ]


def test_a_study_of_a_patient_goes_to_the_archive_as_before(site: Site, tmp_path: Path) -> None:
    image = testing.noise(320, 320, seed=9, BodyPartExamined="TSPINE", NumberOfStudyRelatedInstances="1")
    paths = testing.write([image], tmp_path, study="of a patient")
    assert not [
        answer.error for answer in send(Link(site.node.peer, "MODALITY"), [*map(Outgoing.of, paths)]) if answer.error
    ]
    job, deliveries = site.node.read(testing.uid("of a patient"))
    assert (job.destinations, {item.destination for item in deliveries}) == (("pacs",), {"pacs"})
    assert {item.document.ref.sop_instance_uid for item in deliveries} <= set(site.pacs.stored)


def test_a_first_answer_whose_documents_did_not_arrive_is_no_golden_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = golden.record_of(site.settings, ROUTE)
    golden.forget(site.settings, ROUTE)
    refusing = partial(testing.EmbeddedArchive, refuse=[Comprehensive3DSRStorage])
    monkeypatch.setattr(self_test.testing, "EmbeddedArchive", refusing)
    record, words = site.test()
    golden.keep(site.settings, kept)
    assert (record.golden, record.is_passed) == (None, False)
    assert "1 document of job" in words
    assert "did not arrive" in words


def test_a_route_that_does_not_take_the_study_of_its_handler_fails_at_once(site: Site) -> None:
    record, words = site.test("bones")
    assert not record.is_passed
    assert "the route did not take the synthetic study of its own handler" in words


def test_a_test_that_a_person_begins_shows_its_way_reaches_no_archive_and_runs_alone(site: Site) -> None:
    tests, stored = RouteTests(site.settings), [*site.pacs.stored]
    since, problem = tests.begin(ROUTE)
    assert problem == ""
    assert tests.begin("bones")[1] == f"the self-test of route {ROUTE} runs just now; wait for its end"
    assert tests.outcome(ROUTE, since).state == "waiting"
    site.node.until(lambda: tests.outcome(ROUTE, since).is_over, within_s=240)
    assert (tests.outcome(ROUTE, since).state, tests.outcome(ROUTE, since).detail) == (
        "done",
        "the same, and every object arrived",
    )
    assert site.pacs.stored == stored
    assert tests.outcome(ROUTE, datetime.now(UTC)).state == "not run"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_test_that_a_fault_of_the_node_ends_is_over_and_another_may_begin() -> None:
    tests, unsendable = RouteTests(Settings()), lambda: None
    since, _ = tests.begin(unsendable)  # type: ignore[arg-type] - no process can be asked about it
    await_tests()
    outcome = tests.outcome(unsendable, since)  # type: ignore[arg-type]
    assert (outcome.state, outcome.detail[:41]) == ("failed", "the test was ended by a fault of the node")
    assert tests.begin("bones")[1] == ""
    await_tests()


def await_tests() -> None:
    for thread in threading.enumerate():
        if thread.name == "self-test":
            thread.join(60)


def test_a_test_waits_for_the_end_of_another(site: Site, tmp_path: Path) -> None:
    with ExitStack() as other:
        other.enter_context(testing.EmbeddedArchive(tmp_path / "of another test", site.settings.self_test.port))
        end = threading.Timer(2.0, other.close)
        end.start()
        record, words = site.test()
        end.join()
    assert (record.is_passed, words) == (True, "the golden answer, and every object")


def test_a_test_beside_another_that_does_not_end_leaves_the_record_alone(site: Site, tmp_path: Path) -> None:
    settings = site.settings
    table = settings.self_test.model_copy(update={"limit_s": 1.0})
    kept = golden.record_of(settings, ROUTE)
    with (
        testing.EmbeddedArchive(tmp_path / "of another test", settings.self_test.port),
        pytest.raises(HandlerError, match="another self-test runs"),
    ):
        self_test.tested(settings.model_copy(update={"self_test": table}), ROUTE)
    assert golden.record_of(settings, ROUTE) == kept


def test_a_receiver_that_does_not_answer_fails_the_test(site: Site) -> None:
    settings = site.settings
    dead = settings.model_copy(update={"node": settings.node.model_copy(update={"port": free_port()})})
    kept = golden.record_of(settings, ROUTE)
    record, words = self_test.tested(dead, ROUTE)
    golden.keep(settings, kept)
    assert (record.is_passed, "the receiver of the node did not take the study" in words) == (False, True)


def test_the_night_alerts_people_of_what_failed_and_of_nothing_else(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.answer(0.4)
    nightly = Nightly(site.settings, site.node.engine, lambda: datetime.now(UTC), lambda: None)
    with caplog.at_level(logging.INFO):
        nightly.test_all()
    actions = [(record.levelname, record.__dict__.get("action")) for record in caplog.records]
    assert actions.count(("ERROR", "self_test_failed")) == 2
    site.node.until(lambda: len(list(site.folder.glob("*.json"))) >= 2, within_s=120)
    bodies = [json.loads(path.read_text()) for path in site.folder.glob("*.json")]
    assert {body["kind"] for body in bodies if "kind" in body} == {KIND}
    assert not [body for body in bodies if body.get("verdict")], "a synthetic study is no news"
    assert any("probability: 0.81 before, 0.4 now" in body["words"] for body in bodies)
    assert Notices(site.node.engine).failed_count() == 0


def test_the_command_tests_a_route_at_once_says_what_was_before_and_ends_with_1_after_a_failure(site: Site) -> None:
    done = CliRunner().invoke(app, ["self-test", ROUTE, "--config", str(site.node.config)])
    assert (done.exit_code, "the golden answer, and every object" in done.output) == (0, True), done.output
    site.answer(0.4)
    done = CliRunner().invoke(app, ["self-test", ROUTE, "--config", str(site.node.config)])
    assert (done.exit_code, f"{ROUTE}: FAILED after" in done.output) == (1, True), done.output
    record = golden.record_of(site.settings, ROUTE)
    assert record.problem == "probability: 0.81 before, 0.4 now"
    assert golden.state(site.settings) == "failed"
    assert record.golden is not None
    assert record.golden.numbers["probability"] == 0.81
    done = CliRunner().invoke(app, ["self-test", "hips", "--config", str(site.node.config)])
    assert "[self_test] routes does not name 'hips'" in str(done.exception)


def test_the_figures_of_a_model_say_how_many_studies_were_made_up(site: Site) -> None:
    site.test()
    now = datetime.now(UTC)
    counts = Statistics(site.node.engine).handlers(Period(now.replace(year=2020), now.replace(year=now.year + 1)))
    (count,) = [item for item in counts if item.handler == "tested_site.changing"]
    # The route reads the study that was made for the other route, too.
    assert (count.made_up, count.answers - count.made_up) == (2, 1)
    assert SELF_TEST_PATIENT_ID not in site.node.log.read_text()
