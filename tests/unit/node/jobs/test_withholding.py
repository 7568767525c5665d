"""The weights of an answer decide whether its documents leave, and the route alone releases them later."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import a_file, instance_ref
from support.rows import read

from ainode.node.diagnosis.checks import check_lines, route_lines
from ainode.node.domain import (
    SELF_TEST_PEER,
    UID,
    Algorithm,
    Code,
    DocumentKind,
    JobState,
    OutOfScope,
    Reading,
    Result,
    WeightsStatus,
)
from ainode.node.jobs.requests import route_of
from ainode.node.jobs.withholding import addressed, released
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.reading import registry
from ainode.node.reading.weights import WeightsEntry, environment
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import NodeTable, Peer, Settings, load

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NAMES = ("model/network",)
LIVE = Route("chest", "ct_tumor", destinations=("archive",))
SHADOW = replace(LIVE, mode=RouteMode.SHADOW)
ALLOWED = replace(LIVE, allow_demonstration=True)
RESULT = Result(
    UID("1.2"), Algorithm("model", "1", "ff", WeightsStatus.RESEARCH), "Task", Code("1", "99", "x"), (), (), (), ()
)


def settings_with(folder: Path, *routes: Route) -> Settings:
    archive = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=1)
    return Settings(node=NodeTable(data=folder, min_free_bytes=0), peers=(archive,), routes=routes)


def reported(
    ledger: Ledger,
    route: Route,
    demonstration: tuple[str, ...],
    *,
    answer: Result | OutOfScope = RESULT,
    withheld: str = "",
) -> Job:
    """Return a job after its answer was held against the route and one document of it was kept."""
    destinations = () if withheld else route.live_destinations
    content = {UID("1.2.3"): "00"}
    ledger.open(Job("a", UID("1.2"), route.name, route.handler, content, NOW, NOW, destinations, withheld=withheld))
    reading = Reading(answer, (), "{}", 0.0, demonstration_weights=demonstration)
    job = addressed(ledger.job("a"), reading, route, ledger)
    state = JobState.REPORTED if isinstance(answer, Result) else JobState.OUT_OF_SCOPE
    document = KeptDocument("a", instance_ref(a_file()), DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")
    read(ledger, job, [document], Outcome(state, "{}", "", 1.0))
    return ledger.job("a")


@pytest.mark.parametrize("answer", [RESULT, OutOfScope("no chest", "wrong-body-part")], ids=["result", "out of scope"])
def test_an_answer_of_demonstration_weights_is_withheld_though_its_job_was_opened_with_others(
    ledger: Ledger, answer: Result | OutOfScope
) -> None:
    job = reported(ledger, LIVE, NAMES, answer=answer)
    assert (job.destinations, ledger.deliveries("a")) == ((), ())
    for part in (*NAMES, "'chest'", "allow_demonstration = true", "routes.toml", "`ainode retry JOB`"):
        assert part in job.withheld


@pytest.mark.parametrize(
    ("route", "demonstration"), [(LIVE, ()), (ALLOWED, NAMES)], ids=["other weights by now", "allowed by now"]
)
def test_a_job_that_was_opened_as_withheld_leaves_where_its_answer_may(
    ledger: Ledger, route: Route, demonstration: tuple[str, ...]
) -> None:
    job = reported(ledger, route, demonstration, withheld="demonstration weights")
    assert (job.destinations, job.withheld) == (("archive",), "")
    assert len(ledger.deliveries("a")) == 1


def test_the_study_of_a_self_test_is_neither_withheld_nor_released_to_an_archive(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.open(Job("a", UID("1.2"), "chest", "ct_tumor", {UID("1.2.3"): "00"}, NOW, NOW, (SELF_TEST_PEER,)))
    job = addressed(ledger.job("a"), Reading(RESULT, (), "{}", 0.0, demonstration_weights=NAMES), LIVE, ledger)
    assert (job.destinations, job.withheld) == ((SELF_TEST_PEER,), "")
    document = KeptDocument("a", instance_ref(a_file()), DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")
    read(ledger, job, [document], Outcome(JobState.REPORTED, "{}", "", 1.0))
    assert released(settings_with(tmp_path, ALLOWED), ledger, ledger.job("a")) == ()
    assert {delivery.destination for delivery in ledger.deliveries("a")} == {SELF_TEST_PEER}


@pytest.mark.parametrize("demonstration", [(), NAMES], ids=["other weights", "demonstration weights"])
def test_a_job_of_a_shadow_stays_one_whatever_its_route_is_when_the_job_is_read(
    ledger: Ledger, tmp_path: Path, demonstration: tuple[str, ...]
) -> None:
    """Once withheld, `ainode retry` would send what was never meant to leave."""
    opened = Job("a", UID("1.2"), "chest", "ct_tumor", {UID("1.2.3"): "00"}, NOW, NOW, (), mode=RouteMode.SHADOW)
    assert ledger.open(opened)
    reading = Reading(RESULT, (), "{}", 0.0, demonstration_weights=demonstration)
    route = route_of(opened, settings_with(tmp_path, LIVE))
    job = addressed(ledger.job("a"), reading, route, ledger)
    assert (job, job.mark) == (ledger.job("a"), "shadow")
    assert (job.withheld, job.destinations) == ("", ())


def test_a_job_of_a_live_route_is_withheld_though_the_route_is_a_shadow_when_the_job_is_read(
    ledger: Ledger, tmp_path: Path
) -> None:
    opened = Job("a", UID("1.2"), "chest", "ct_tumor", {UID("1.2.3"): "00"}, NOW, NOW, ("archive",))
    assert ledger.open(replace(opened, mode=RouteMode.LIVE))
    reading = Reading(RESULT, (), "{}", 0.0, demonstration_weights=NAMES)
    job = addressed(ledger.job("a"), reading, route_of(ledger.job("a"), settings_with(tmp_path, SHADOW)), ledger)
    assert (job.mode, job.destinations, bool(job.withheld)) == (RouteMode.LIVE, (), True)


def test_a_shadow_has_no_reason_to_withhold_and_sends_nothing(ledger: Ledger) -> None:
    job = reported(ledger, SHADOW, NAMES)
    assert (job.withheld, ledger.deliveries("a")) == ("", ())


def test_why_documents_are_withheld_is_in_the_log(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    reported(ledger, LIVE, NAMES)
    (record,) = caplog.records
    assert "allow_demonstration = true" in record.getMessage()
    assert (vars(record)["action"], vars(record)["job"], vars(record)["route"]) == ("withheld", "a", "chest")


def test_a_release_needs_the_key_whatever_weights_have_replaced_those_of_the_answer(
    ledger: Ledger, tmp_path: Path
) -> None:
    """What was made with demonstration weights stays so after a site has imported its own under their names."""
    job = reported(ledger, LIVE, NAMES)
    models, source = environment(settings_with(tmp_path)), tmp_path / "trained"
    source.write_text("weights")
    for name in registry.handler("ct_tumor", models).weights():
        file = Path(f"{name.replace('/', '_')}.bin")
        entry = WeightsEntry(name, file, "", 0, "own", "ct_tumor", "1", WeightsStatus.SITE, "own")
        models.weights.add(source, entry)
    with pytest.raises(LookupError, match="allow_demonstration = true"):
        released(settings_with(tmp_path, LIVE), ledger, job)
    assert ledger.deliveries("a") == ()
    assert released(settings_with(tmp_path, ALLOWED), ledger, job) == ("archive",)
    assert [delivery.destination for delivery in ledger.deliveries("a")] == ["archive"]


@pytest.mark.parametrize(
    "route", [replace(ALLOWED, mode=RouteMode.SHADOW), replace(ALLOWED, destinations=())], ids=["shadow", "nowhere"]
)
def test_a_release_to_nowhere_is_refused(ledger: Ledger, tmp_path: Path, route: Route) -> None:
    job = reported(ledger, LIVE, NAMES)
    with pytest.raises(LookupError, match="nothing is sent: give the route destinations"):
        released(settings_with(tmp_path, route), ledger, job)
    assert ledger.job("a").withheld


def test_a_route_to_nowhere_is_told_that_it_needs_destinations_beside_the_key() -> None:
    nowhere = replace(LIVE, destinations=())
    assert "allow_demonstration = true and destinations in the route" in nowhere.withholding_reason(NAMES)
    assert "allow_demonstration = true in the route" in LIVE.withholding_reason(NAMES)


@pytest.mark.parametrize(
    ("route", "state", "remark"),
    [
        (Route("a", "support.handler", destinations=("archive",)), "ready", ""),
        (Route("a", "support.handler"), "ready", "it sends nothing: no destinations"),
        (
            Route("a", "support.handler", destinations=("archive",), mode=RouteMode.SHADOW),
            "shadow",
            'its documents stay in the node: mode = "shadow"',
        ),
    ],
    ids=["live", "nowhere", "shadow"],
)
def test_a_ready_route_that_sends_nothing_says_why(tmp_path: Path, route: Route, state: str, remark: str) -> None:
    (line,) = [line for line in check_lines(settings_with(tmp_path, route)) if line[0] == "route a"]
    assert line[1:] == (state, remark)


def test_a_release_of_no_documents_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    ledger.open(Job("a", UID("1.2"), "chest", "ct_tumor", {}, NOW, NOW, (), withheld="demonstration weights"))
    read(ledger, ledger.job("a"), [], Outcome(JobState.OUT_OF_SCOPE, "{}", "no chest", 1.0))
    with pytest.raises(LookupError, match="no documents: no chest"):
        released(settings_with(tmp_path, ALLOWED), ledger, ledger.job("a"))


@pytest.mark.parametrize("allowed", [False, True], ids=["without the key", "with the key"])
@pytest.mark.parametrize("handler", registry.names())
def test_every_shipped_handler_answers_live_as_its_manifest_and_its_route_say(
    ledger: Ledger, tmp_path: Path, handler: str, *, allowed: bool
) -> None:
    (shipped,) = [route for route in load().routes if route.handler == handler]
    assert not shipped.allow_demonstration
    route = replace(shipped, destinations=("archive",), allow_demonstration=allowed)
    settings = settings_with(tmp_path, route)
    models = environment(settings)
    weights = models.weights.of_handler(registry.handler(handler, models).weights())
    statuses = {name: models.weights.entry(name).status for name in weights.names}
    demonstration = {name for name, status in statuses.items() if status is WeightsStatus.DEMONSTRATION}
    stays = bool(demonstration) and not allowed

    job = reported(ledger, route, weights.demonstration)
    assert len(ledger.deliveries("a")) == (0 if stays else 1)
    (line,) = route_lines(settings)
    (short_line,) = [line for line in check_lines(settings) if line[0] == f"route {route.name}"]
    assert short_line[1] == line[1]
    assert ("config/README.md, Routes, and `ainode weights list`" in short_line[2]) is bool(demonstration)
    assert len(short_line[2]) < 150
    seen = {models.weights.entry(name).training_data for name in demonstration}
    assert all(data in line[2] for data in seen)
    if stays:
        assert line[1] == "shadow"
        assert line[2].startswith(f"{job.withheld}. They have seen: ")
        assert job.withheld.startswith("not ready for patients: ")
        command = f"`ainode train {weights.demonstration[0].split('/')[0]}`"
        for part in (*demonstration, f"{route.name!r}", "allow_demonstration = true", command):
            assert part in job.withheld
    else:
        assert job.withheld == ""
        assert line[1] != "shadow"
        assert line[2].startswith("with demonstration weights, which have seen: ") is bool(demonstration)


def test_a_handler_without_weights_is_not_affected(tmp_path: Path) -> None:
    models = environment(settings_with(tmp_path))
    weights = models.weights.of_handler(registry.handler("support.handler", models).weights())
    assert LIVE.withholding_reason(weights.demonstration) == ""


def test_lung_tumor_weights_are_for_demonstration(tmp_path: Path) -> None:
    models = environment(Settings(node=NodeTable(data=tmp_path)))
    assert models.weights.entry("ct_tumor/lung").status is WeightsStatus.DEMONSTRATION
