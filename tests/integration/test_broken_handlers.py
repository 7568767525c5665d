"""A whole node with a route for each way in which a handler can be broken, beside a route that is well."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import HALF_ANSWER, HANG, PATIENT, RAISE, SYNTAX_ERROR, write_handler
from support.node import RunningNode, configured, running

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import UID, JobState
from ainode.node.keeping.records import Job

TIME_LIMIT_S = 10
BROKEN = {
    "syntax": ({"body": SYNTAX_ERROR}, "SyntaxError while its module was imported"),
    "exits": ({"body": "raise SystemExit(0)"}, "SystemExit while its module was imported"),
    "dies": ({"build": "os._exit(3)"}, "ended with code 3"),
    **{f"{part} raises": ({part: RAISE}, f"ValueError in {part}()") for part in ("build", "weights")},
    **{f"{part} raises": ({part: RAISE}, "ValueError while reading study") for part in ("select", "read")},
}
HANGING = {
    "half an answer": ({"read": HALF_ANSWER}, f"was killed after {TIME_LIMIT_S} s"),
    **{
        f"{part} hangs": ({part: HANG}, f"was killed after {TIME_LIMIT_S} s")
        for part in ("body", "build", "weights", "select", "read")
    },
}
OPEN_STATES = {JobState.WAITING, JobState.READING}


def route(name: str, handler: str) -> str:
    return f'[[route]]\nname = "{name}"\nhandler = "{handler}"\ntags = {{SeriesDescription = "{name}"}}\n'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    faults = {name: statements for name, (statements, _) in {**BROKEN, **HANGING}.items()}
    handlers = {name: write_handler(tmp_path, name.replace(" ", "_"), **fault) for name, fault in faults.items()}
    routes = "".join(route(name, handler) for name, handler in handlers.items()) + route("well", "support.handler")
    limits = f"[reader]\ntime_limit_s = {TIME_LIMIT_S}"
    node = configured(tmp_path / "node", routes=routes, more=limits)
    node.before = tmp_path
    with running(node):
        yield node


def sent(node: RunningNode, folder: Path, name: str, number: int = 0) -> UID:
    """Send a study that the route of that name takes, and that is complete with its one image."""
    image = testing.noise(320, 320, SeriesDescription=name, NumberOfStudyRelatedInstances="1")
    (path,) = testing.write([image], folder / f"{name} {number}", study=f"{name} {number}")
    (answer,) = send(Link(node.peer, "MODALITY"), [Outgoing.of(path)])
    assert answer.error is None
    return UID(testing.uid(f"{name} {number}"))


def settled_jobs(node: RunningNode, studies: list[UID], *, within_s: float) -> list[Job]:
    """Return the job of each study, when every study has a job that is neither waiting nor reading."""

    def settled() -> bool:
        jobs = [node.ledger.jobs(study=study) for study in studies]
        return all(found and found[0].state not in OPEN_STATES for found in jobs)

    node.until(settled, within_s=within_s)
    return [node.ledger.jobs(study=study)[0] for study in studies]


def test_a_broken_handler_costs_its_own_jobs_and_shows_its_reason(node: RunningNode, tmp_path: Path) -> None:
    well = [sent(node, tmp_path, "well")]
    assert settled_jobs(node, well, within_s=120)[0].state is JobState.REPORTED

    # The processes of a dozen handlers that start at once would not all start within the limit.
    broken = {name: sent(node, tmp_path, name) for name in BROKEN}
    jobs = settled_jobs(node, list(broken.values()), within_s=120)
    hanging = {name: sent(node, tmp_path, name) for name in HANGING}
    for (name, (_, reason)), job in zip(BROKEN.items(), jobs, strict=True):
        assert (job.route, job.state) == (name, JobState.FAILED)
        assert reason in job.reason
        assert PATIENT not in job.reason

    well.append(sent(node, tmp_path, "well", 1))
    assert settled_jobs(node, well, within_s=120)[1].state is JobState.REPORTED

    jobs = settled_jobs(node, list(hanging.values()), within_s=400)
    for (name, (_, reason)), job in zip(HANGING.items(), jobs, strict=True):
        assert (job.route, job.state) == (name, JobState.FAILED)
        assert reason in job.reason
    assert PATIENT not in node.log.read_text(encoding="utf-8")


def seconds_to_report(node: RunningNode, folder: Path, numbers: range) -> list[float]:
    """Return how long each study of the healthy route took from its sending to its report."""
    seconds = []
    for number in numbers:
        started = time.monotonic()
        study = sent(node, folder, "well", number)
        settled_jobs(node, [study], within_s=120)
        seconds.append(time.monotonic() - started)
    return seconds


@pytest.mark.long
def test_a_study_of_another_route_is_read_as_soon_as_before_while_handlers_hang(
    node: RunningNode, tmp_path: Path
) -> None:
    seconds_to_report(node, tmp_path, range(3))
    before = statistics.median(seconds_to_report(node, tmp_path, range(3, 18)))
    hanging = [sent(node, tmp_path, name) for name in HANGING]
    node.until(lambda: "handler not ready" in node.log.read_text(encoding="utf-8"), within_s=120)
    during = seconds_to_report(node, tmp_path, range(18, 33))
    states = [job.state for study in hanging for job in node.ledger.jobs(study=study)]
    print(f"median {before:.3f} s, then {statistics.median(during):.3f} s, worst {max(during):.3f} s")  # noqa: T201
    assert OPEN_STATES & set(states)
    assert statistics.median(during) <= 1.5 * before
