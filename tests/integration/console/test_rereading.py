"""A study that was read is read once more beside its first reading, in a process of its own."""

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from integration.console.conftest import Browser
from support.web_bench import Bench

from ainode.node import testing
from ainode.node.console.study.rereadings import Rereading, Rereadings
from ainode.node.domain import JobState
from ainode.node.jobs.requests import request_of
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.reading.reader import Reader
from ainode.node.reading.verification import verified
from ainode.node.reading.weights import environment
from ainode.node.routes import Route
from ainode.node.settings import Settings

ROUTE = Route(name="spine", handler="support.handler")


@pytest.fixture(scope="module")
def settings(bench: Bench) -> Settings:
    return bench.settings.model_copy(update={"routes": (ROUTE,)})


@pytest.fixture(scope="module")
def job(bench: Bench, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job that was read; its first score is changed, as if other weights had answered."""
    header = {"BodyPartExamined": "TSPINE", "SeriesDescription": "read"}
    (path,) = testing.write([testing.noise(512, 512, **header)], tmp_path_factory.mktemp("read"), study="read")
    assert bench.store(bench.tokens.add("modality"), path.read_bytes()).status_code == 200
    bench.take(later=timedelta(seconds=30))
    job = replace(bench.opened[0], handler=ROUTE.handler)
    assert bench.ledger.open(job)
    bench.ledger.move(job.id, JobState.READING)
    reader = Reader(job.handler, environment(settings), settings.reader)
    request = request_of(job, ROUTE, settings, bench.catalog)
    with verified(request):
        reading = reader.read(request)
    reader.kill_unless_reading()
    kept = []
    for document in reading.documents:
        path = bench.folder / f"{document.ref.sop_instance_uid}.dcm"
        path.write_bytes(document.content)
        kept.append(KeptDocument(job.id, document.ref, document.kind, path, _sha256(document.content)))
    summary = reading.summary.replace('"probability": 0.81', '"probability": 0.5')
    assert summary != reading.summary
    assert bench.ledger.report(job, kept, Outcome(JobState.REPORTED, summary, "", reading.seconds))
    return bench.ledger.job(job.id)


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def ended(rereadings: Rereadings, entry: Rereading) -> Rereading:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        current = rereadings.entry(entry.id)
        assert current
        if current.is_over:
            return current
        time.sleep(0.05)
    raise TimeoutError


def test_a_reading_once_more_makes_the_same_bytes_and_shows_another_score(
    bench: Bench, settings: Settings, job: Job
) -> None:
    rereadings = Rereadings(settings, bench.ledger, bench.catalog, "")
    entry = ended(rereadings, rereadings.begin(job, None, "erika"))
    assert not entry.problem
    assert entry.comparison
    assert entry.comparison.is_same
    assert all(is_identical for _, is_identical in entry.comparison.documents)
    assert [score for score in entry.comparison.scores if score[1] != score[2]] == [("probability", 0.5, 0.81)]
    assert bench.ledger.job(job.id) == job


def test_a_study_whose_route_is_gone_says_so_and_the_next_is_read(bench: Bench, settings: Settings, job: Job) -> None:
    rereadings = Rereadings(settings, bench.ledger, bench.catalog, "")
    lost = ended(rereadings, rereadings.begin(replace(job, route="gone"), None, "erika"))
    assert "no longer in routes.toml" in lost.problem
    assert ended(rereadings, rereadings.begin(job, None, "erika")).comparison


def test_only_an_operator_has_a_study_read_once_more_and_only_with_configured_weights(
    viewer: Browser, operator: Browser, job: Job
) -> None:
    address = f"/console/studies/{job.study_instance_uid}/jobs/{job.id}/rereadings"
    assert viewer.post(address).status_code == 403
    assert operator.post(address, {"weights": "/etc"}).status_code == 422
    assert operator.post(address, {"csrf": "forged"}).status_code == 403
    begun = operator.post(address)
    assert begun.status_code == 303
    page = viewer.get(begun.headers["Location"])
    assert page.status_code == 200
    assert "Nothing of this reading is sent or kept" in page.text
