"""Weights that become demonstration weights while a job waits, and handlers that ship."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ainode.node.domain import UID, Algorithm, Code, JobState, OutOfScope, Reading, Result, WeightsStatus
from ainode.node.jobs.withholding import held_against_weights
from ainode.node.keeping import database
from ainode.node.keeping.ledger import Job, Ledger
from ainode.node.reading import registry
from ainode.node.reading.readers import Readers
from ainode.node.reading.weights import HandlerWeights, environment
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import NodeTable, ReaderTable, Settings, load

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NAMES = ("model/network",)
LIVE = Route("chest", "a_handler", destinations=("archive",))


def an_answer(status: WeightsStatus) -> Result:
    return Result(UID("1.2"), Algorithm("model", "1", "ff", status), "Task", Code("1", "99", "one"), (), (), (), ())


def reported(folder: Path, route: Route, weights: HandlerWeights, answer: Result | OutOfScope) -> Job:
    """Return a job that was opened with destinations, after its answer was held against the weights of today."""
    engine = database.connect(f"sqlite:///{folder / 'catalog.sqlite'}")
    database.migrate(engine)
    ledger = Ledger(engine)
    job = Job("a", UID("1.2"), route.name, route.handler, {UID("1.2.3"): "00"}, NOW, NOW, route.destinations)
    ledger.open(job)
    held_against_weights(job, Reading(answer, (), "{}", 0.0), route, weights, ledger)
    stored = ledger.job("a")
    engine.dispose()
    return stored


@pytest.mark.parametrize("demonstration", [NAMES, ()], ids=["still in the manifest", "replaced again since"])
def test_an_answer_of_demonstration_weights_is_withheld_though_its_job_was_opened_with_others(
    demonstration: tuple[str, ...], tmp_path: Path
) -> None:
    job = reported(tmp_path, LIVE, HandlerWeights(NAMES, "ff", demonstration), an_answer(WeightsStatus.DEMONSTRATION))
    assert job.destinations == ()
    assert "allow_demonstration = true" in job.withheld


@pytest.mark.parametrize(
    ("route", "weights", "status"),
    [
        (replace(LIVE, allow_demonstration=True), HandlerWeights(NAMES, "ff", NAMES), WeightsStatus.DEMONSTRATION),
        (LIVE, HandlerWeights(NAMES, "ff", ()), WeightsStatus.RESEARCH),
        (LIVE, HandlerWeights((), "ff", ()), WeightsStatus.DEMONSTRATION),
    ],
    ids=["the route allows them", "research weights", "a handler without weights"],
)
def test_every_other_answer_leaves(
    route: Route, weights: HandlerWeights, status: WeightsStatus, tmp_path: Path
) -> None:
    job = reported(tmp_path, route, weights, an_answer(status))
    assert (job.destinations, job.withheld) == (("archive",), "")
    assert job.state is JobState.WAITING


@pytest.mark.parametrize("handler", registry.names())
def test_every_shipped_handler_is_withheld_as_the_manifest_says(handler: str, tmp_path: Path) -> None:
    (route,) = [replace(route, destinations=("archive",)) for route in load().routes if route.handler == handler]
    models = environment(Settings(node=NodeTable(data=tmp_path)))
    weights = Readers([handler], models, ReaderTable()).weights(handler)
    assert weights.names
    statuses = {name: models.weights.entry(name).status for name in weights.names}
    demonstration = [name for name, status in statuses.items() if status is WeightsStatus.DEMONSTRATION]
    reason = route.withholding_reason(weights.demonstration)
    assert bool(reason) == bool(demonstration)
    assert all(name in reason for name in demonstration)
    assert replace(route, allow_demonstration=True).withholding_reason(weights.demonstration) == ""
    assert replace(route, mode=RouteMode.SHADOW).withholding_reason(weights.demonstration) == ""


def test_lung_tumor_weights_are_for_demonstration(tmp_path: Path) -> None:
    models = environment(Settings(node=NodeTable(data=tmp_path)))
    assert models.weights.entry("ct_tumor/lung").status is WeightsStatus.DEMONSTRATION
