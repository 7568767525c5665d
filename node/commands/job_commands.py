"""The commands about jobs: `jobs`, `retry`, `deliver`. A command imports its modules when it runs."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ainode.node.domain import counted
from ainode.node.terminal import Config, settings_of, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ainode.node.keeping.ledger import Ledger
    from ainode.node.keeping.records import Delivery, Job
    from ainode.node.settings import Settings

_TITLES = ("job", "state", "route/peer", "kind", "study/document", "why/took/proof")

jobs_app = typer.Typer()


def _ledger(settings: "Settings") -> "Ledger":
    from ainode.node.keeping import database
    from ainode.node.keeping.ledger import Ledger

    return Ledger(database.existing(settings.database_url))


def _course(job: "Job") -> str:
    """Return why a job has no answer; else the answer, how long its parts took, and why nobody gets its documents."""
    from ainode.node.offline.readings import headline

    if job.reason:
        return job.explanation
    parts = {"read": job.seconds, **job.overheads} if job.seconds else job.overheads
    durations = [f"{part} {seconds:.1f} s" for part, seconds in parts.items()]
    answer = [headline(job.result)] if job.result else []
    silence = job.withheld or ("" if job.destinations else "the route sends nothing")
    return "; ".join(filter(None, (*answer, *durations, silence)))


@jobs_app.command()
def jobs(
    study: Annotated[str, typer.Argument(help="Study Instance UID; all studies if left out")] = "",
    failed: Annotated[
        bool,
        typer.Option("--failed", help="only failed jobs, and jobs of which a delivery failed or its last attempt did"),
    ] = False,
    config: Config = None,
) -> None:
    """List jobs and the delivery of each document, and what cannot be read."""
    from ainode.node.domain import UID

    settings = settings_of(config)
    ledger = _ledger(settings)
    rows: list[tuple[object, ...]] = []
    for job in ledger.jobs(study=UID(study) if study else None):
        deliveries = ledger.deliveries(job.id)
        if failed and not _is_in_trouble(job, deliveries):
            continue
        rows.append((job.id, job.state, job.route, "", job.study_instance_uid, _course(job)))
        rows += map(_delivery_row, deliveries)
    if failed:
        print(table(_TITLES, rows) if rows else "no job failed, and no delivery")
        return
    for past_job in ledger.history(UID(study) if study else None):
        removal = f"{past_job.reason} documents removed {past_job.removed_at:%Y-%m-%d}".strip()
        rows.append((past_job.id, past_job.state, past_job.route, "", past_job.study_instance_uid, removal))
    rows += _problem_rows(settings, study)
    print(table(_TITLES, rows))
    print("\n".join(_routeless_lines(settings, study)), end="")


def _is_in_trouble(job: "Job", deliveries: "Sequence[Delivery]") -> bool:
    """Return whether a job failed, one of its deliveries did, or the last attempt of a delivery under way did."""
    from ainode.node.domain import DeliveryState, JobState

    if job.state in {JobState.FAILED, JobState.SUPERSEDED}:
        return job.state is JobState.FAILED
    return any(
        delivery.state is DeliveryState.FAILED or (delivery.error and delivery.state is not DeliveryState.CONFIRMED)
        for delivery in deliveries
    )


def _delivery_row(delivery: "Delivery") -> tuple[object, ...]:
    time = delivery.confirmed_at
    proof = f"{time:%Y-%m-%d %H:%M:%S}Z by {delivery.proof}" if time else ""
    document = delivery.document
    cells = ("", delivery.state, delivery.destination, document.kind, document.ref.sop_instance_uid)
    return (*cells, "; ".join(filter(None, (proof, delivery.explanation))))


def _problem_rows(settings: "Settings", study: str) -> list[tuple[object, ...]]:
    """Return a row for each study with a problem, and for the damaged files, which name no study."""
    from ainode.node.domain import UID
    from ainode.node.keeping import database
    from ainode.node.keeping.catalog import Catalog

    problems = Catalog(database.existing(settings.database_url)).problems(UID(study) if study else None)
    rows: list[tuple[object, ...]] = [("", "problem", "", "", uid, problem) for uid, problem in problems.items()]
    damaged = settings.data / "spool" / "damaged"
    if not study and damaged.exists() and (count := len(list(damaged.iterdir()))):
        rows.append(
            ("", "damaged", "", "", counted(count, "file"), f"see {damaged}; send their studies again, remove them")
        )
    return rows


def _routeless_lines(settings: "Settings", study: str) -> list[str]:
    """Return how many studies matched no route, and what says why; nothing where each study matched one."""
    from ainode.node.domain import UID
    from ainode.node.keeping import database
    from ainode.node.keeping.unread import Filter, UnreadReason, UnreadStudies

    unread = UnreadStudies(database.existing(settings.database_url))
    criteria = Filter(reason=UnreadReason.NO_ROUTE)
    count = sum(tally.count for tally in unread.tallies(criteria))
    newest = unread.page(criteria, count=1)
    if study:
        newest = tuple(row for row in unread.of_study(UID(study)) if row.reason is UnreadReason.NO_ROUTE)
        count = len(newest)
    if not newest:
        return []
    uid = newest[0].study_instance_uid
    subject = f"study {uid}" if study else f"{counted(count, 'study', 'studies')}, the newest {uid}:"
    words = "matches no route" if study else "no route matches, so there is no job"
    page = "the page Not read of the console lists all such studies"
    return [f"{subject} {words}; `ainode explain {uid}` says why, {page}", ""]


@jobs_app.command()
def retry(job: str, config: Config = None) -> None:
    """Repeat a failed job or its failed deliveries, or deliver the documents that the route withheld and now allows."""
    from ainode.node.jobs.retries import retry as retried
    from ainode.node.keeping.job_events import Instruction

    settings = settings_of(config)
    destinations = retried(settings, _ledger(settings), job, Instruction(datetime.now(UTC)))
    print(f"job {job}: " + ", ".join(f"to {name}" if name else "reading" for name in destinations) + " tried again")


@jobs_app.command()
def deliver(
    job: str,
    destination: Annotated[str, typer.Argument(help="name of a [[peer]]; every destination if left out")] = "",
    config: Config = None,
) -> None:
    """Ask the destinations of a job which documents they still have, and send the missing ones again, byte for byte."""
    from ainode.node.jobs.retries import deliver as delivered
    from ainode.node.keeping.job_events import Instruction

    settings = settings_of(config)
    destinations = delivered(settings, _ledger(settings), job, Instruction(datetime.now(UTC)), destination)
    print(
        f"job {job}: the node asks {', '.join(destinations)} and sends what is missing; `ainode jobs` shows the outcome"
    )
