"""The commands about jobs and workitems; they list, retry, read again, deliver. Modules are imported when one runs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ainode.node.domain import JobState, counted
from ainode.node.terminal import Config, settings_of, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ainode.node.keeping.job_pages import JobFilter
    from ainode.node.keeping.ledger import Ledger
    from ainode.node.keeping.records import Delivery, Job
    from ainode.node.keeping.workitems import KeptWorkitem
    from ainode.node.settings import Settings

_TITLES = ("job", "state", "route/peer", "kind", "study/document", "why/took/proof")

jobs_app = typer.Typer()


def _ledger(settings: "Settings") -> "Ledger":
    from ainode.node.keeping import database
    from ainode.node.keeping.ledger import Ledger

    return Ledger(database.existing(settings.database_url))


def _course(job: "Job", ledger: "Ledger", settings: "Settings", deliveries: "Sequence[Delivery]") -> str:
    """Return why a job has no answer; else the answer, how long its parts took, and why nobody gets its documents."""
    from ainode.node.jobs.leftovers import with_leftovers
    from ainode.node.jobs.withholding import sending_commands, silence_reason
    from ainode.node.offline.headlines import headline
    from ainode.node.reading.weights import WITHHELD

    withheld = WITHHELD if job.withheld else ""
    is_gone = job.route not in {route.name for route in settings.routes}
    gone = "routes.toml has its route no more" if is_gone else ""
    if job.reason:
        return "; ".join(filter(None, (with_leftovers(ledger, job.id, job.reason), withheld, gone)))
    parts = {"read": job.seconds, **job.overheads} if job.seconds else job.overheads
    durations = [f"{part} {seconds:.1f} s" for part, seconds in parts.items()]
    answer = [headline(job.result)] if job.result else []
    commands = (f"`{command}` sends its documents" for command in sending_commands(job, settings))
    # A person may have sent what stayed in the node.
    silence = () if deliveries else (silence_reason(job, settings), *commands)
    return "; ".join(filter(None, (*answer, *durations, withheld, *silence, gone)))


@jobs_app.command()
def jobs(
    study: Annotated[str, typer.Argument(help="Study Instance UID; all studies if left out")] = "",
    failed: Annotated[
        bool,
        typer.Option("--failed", help="only failed jobs, and jobs of which a delivery failed or its last attempt did"),
    ] = False,
    state: Annotated[JobState | None, typer.Option(help="only jobs in this state")] = None,
    route: Annotated[str, typer.Option(help="only jobs of this route")] = "",
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME|AGE", help="only jobs queued since then: 2026-03-01, 2026-03-01T08:30, 90m, 36h, 7d"
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=0, help="so many jobs, the newest; 0 is all of them")] = 0,
    page: Annotated[int, typer.Option(min=1, help="with --limit: 2 is the page of older jobs behind the first")] = 1,
    config: Config = None,
) -> None:
    """List jobs and the delivery of each document, and what cannot be read; the newest jobs come last."""
    from ainode.node.commands.times import time_since
    from ainode.node.errors import ConfigError
    from ainode.node.keeping.job_pages import JobFilter

    if page > 1 and not limit:
        raise ConfigError("--page is a page of so many jobs; give --limit, too")
    settings = settings_of(config)
    criteria = JobFilter(study, route, state, time_since(since, datetime.now(UTC)) if since else None)
    chosen, position = _page(settings, criteria, failed=failed, limit=limit, page=page)
    ledger = _ledger(settings)
    rows: list[tuple[object, ...]] = []
    for job in reversed(chosen):
        deliveries = ledger.deliveries(job.id)
        job_state = "withdrawn" if job.withdrawn_at else job.state
        course = _course(job, ledger, settings, deliveries)
        rows.append((job.id, job_state, job.route, "", job.study_instance_uid, course))
        rows += map(_delivery_row, deliveries)
    if failed:
        rows += _workitem_rows(settings, study, is_given_up=True)
        print(table(_TITLES, rows) if rows else "no job failed, and no delivery")
    else:
        if not limit:
            rows += _past_rows(ledger, criteria)
        if criteria.is_of_all and not limit:
            rows += _workitem_rows(settings, study)
            rows += _problem_rows(settings, study)
        print(table(_TITLES, rows))
    print("".join(f"{line}\n" for line in _shortage_lines(settings)), end="")
    if position:
        print(position)
    elif not failed and criteria.is_of_all:
        print("\n".join(_routeless_lines(settings, study)), end="")


def _page(
    settings: "Settings", criteria: "JobFilter", *, failed: bool, limit: int, page: int
) -> "tuple[Sequence[Job], str]":
    """Return the jobs of a page, the newest first, and which of how many these are; '' where they are all."""
    from ainode.node.keeping import database
    from ainode.node.keeping.job_pages import JobPages

    pages, offset = JobPages(database.existing(settings.database_url)), limit * (page - 1)
    if failed:
        ledger = _ledger(settings)
        troubled = [job for job in pages.page(criteria) if _is_in_trouble(job, ledger.deliveries(job.id))]
        chosen, count = troubled[offset : offset + limit if limit else None], len(troubled)
    else:
        chosen, count = list(pages.page(criteria, count=limit or None, offset=offset)), pages.count(criteria)
    if not limit:
        return chosen, ""
    if not chosen:
        return chosen, f"no job on page {page}; {count} in all"
    last = offset + len(chosen)
    older = f"; --page {page + 1} has older ones" if last < count else ""
    return chosen, f"jobs {offset + 1} to {last} of {count}, counted from the newest{older}"


def _past_rows(ledger: "Ledger", criteria: "JobFilter") -> "Iterator[tuple[object, ...]]":
    from ainode.node.domain import UID

    for past_job in ledger.history(UID(criteria.study) if criteria.study else None):
        if criteria.takes(past_job):
            removal = f"{past_job.reason} documents removed {past_job.removed_at:%Y-%m-%d}".strip()
            yield (past_job.id, past_job.state, past_job.route, "", past_job.study_instance_uid, removal)


def _is_in_trouble(job: "Job", deliveries: "Sequence[Delivery]") -> bool:
    """Return whether a job failed, one of its deliveries did, or the last attempt of a delivery under way did."""
    from ainode.node.domain import DeliveryState

    if job.state in {JobState.FAILED, JobState.SUPERSEDED}:
        return job.state is JobState.FAILED
    return any(
        delivery.state is DeliveryState.FAILED or (delivery.error and delivery.state is not DeliveryState.CONFIRMED)
        for delivery in deliveries
    )


def _delivery_row(delivery: "Delivery") -> tuple[object, ...]:
    time = delivery.confirmed_at
    how = "" if delivery.is_replaced else f" by {delivery.proof}"
    proof = f"{time:%Y-%m-%d %H:%M:%S}Z{how}" if time else ""
    document = delivery.document
    cells = (
        "",
        "replaced" if delivery.is_replaced else delivery.state,
        delivery.destination,
        document.kind,
        document.ref.sop_instance_uid,
    )
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


def _shortage_lines(settings: "Settings") -> "Iterator[str]":
    """Yield a line for each handler whose readings wait for a process that is away."""
    from ainode.node.keeping import database
    from ainode.node.keeping.readership import Readership

    for shortage in Readership(database.existing(settings.database_url)).shortages(settings.handlers):
        yield f"{shortage.summary}; {shortage.remedy}"


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


def _workitem_rows(settings: "Settings", study: str, *, is_given_up: bool = False) -> list[tuple[object, ...]]:
    """Return a row for each workitem of a study, or of any study; of those given up alone, with its UID."""
    return [
        (item.uid if is_given_up else "", item.state, item.peer, "workitem", item.study_instance_uid, item.explanation)
        for item in _workitems(settings, study)
        if item.study_instance_uid and item.is_given_up >= is_given_up
    ]


def _workitems(settings: "Settings", study: str) -> "tuple[KeptWorkitem, ...]":
    from ainode.node.domain import UID
    from ainode.node.keeping import database
    from ainode.node.keeping.workitems import Workitems

    workitems = Workitems(database.existing(settings.database_url))
    return workitems.of_study(UID(study)) if study else workitems.all()


@jobs_app.command()
def workitems(
    study: Annotated[str, typer.Argument(help="Study Instance UID; all studies if left out")] = "",
    config: Config = None,
) -> None:
    """List the workitems of worklists that the node claimed, tried to claim, or left to others, and how far each is."""
    titles = ("workitem", "state", "worklist", "study", "claimed", "told", "why")
    rows = [
        (
            item.uid,
            item.state,
            item.peer,
            item.study_instance_uid,
            f"{item.claimed_at:%Y-%m-%d %H:%M:%S}Z" if item.claimed_at else "",
            f"{item.percent} %" if item.percent >= 0 else "",
            item.explanation,
        )
        for item in _workitems(settings_of(config), study)
    ]
    print(table(titles, rows) if rows else "no workitem; a [[peer]] with [peer.worklist] has a worklist")


@jobs_app.command()
def trace(
    study: Annotated[str, typer.Argument(help="Study Instance UID")],
    log: Annotated[
        Path | None, typer.Option(help='a log of the node with log_format = "json", whose lines are added')
    ] = None,
    config: Config = None,
) -> None:
    """Print what happened to a study, from its first image to the proof of its last document, each step with its time.

    Exit 1 if the node knows nothing of the study. No line names the patient, nor repeats an archive's own words.
    """
    from ainode.node.commands.trace import traced
    from ainode.node.domain import UID
    from ainode.node.keeping import database

    settings = settings_of(config)
    rows = traced(database.existing(settings.database_url), UID(study), log)
    print(table(("at", "after", "what", "how"), rows) if rows else f"the node knows nothing of study {study}")
    raise typer.Exit(0 if rows else 1)


@jobs_app.command()
def retry(
    job: Annotated[str, typer.Argument(metavar="JOB|WORKITEM", help="a job, or the UID of a workitem")],
    config: Config = None,
) -> None:
    """Repeat a failed job or its failed deliveries, deliver what the route withheld and now allows.

    A workitem that was given up is claimed again. `read-again` has a study read by routes that were added or changed.
    """
    from ainode.node.domain import is_uid
    from ainode.node.jobs.retries import retry as retried
    from ainode.node.keeping import database
    from ainode.node.keeping.job_events import Instruction
    from ainode.node.keeping.workitems import Workitems

    settings = settings_of(config)
    if "." in job and is_uid(job):
        items = Workitems(database.existing(settings.database_url)).claim_again(job)
        if not items:
            raise LookupError(f"workitem {job}: nothing of it was given up; `ainode workitems` shows its state")
        print(f"workitem {job}: claimed again from " + ", ".join(item.peer for item in items))
        return
    destinations = retried(settings, _ledger(settings), job, Instruction(datetime.now(UTC)))
    print(f"job {job}: " + ", ".join(f"to {name}" if name else "reading" for name in destinations) + " tried again")


@jobs_app.command("read-again")
def read_again(study: Annotated[str, typer.Argument(help="Study Instance UID")], config: Config = None) -> None:
    """Hold a study that the node has against the routes as they are now, as after a route was added or changed.

    What changes nothing is not read anew, and its documents stay. `retry` repeats a reading that failed.
    """
    from ainode.node.domain import UID
    from ainode.node.jobs.retries import route_again
    from ainode.node.keeping import database
    from ainode.node.keeping.announcements import Announcements
    from ainode.node.keeping.catalog import Catalog

    engine = database.existing(settings_of(config).database_url)
    route_again(Catalog(engine), Announcements(engine), UID(study), datetime.now(UTC))
    print(
        f"study {study}: a node that runs holds it against its routes within a minute, another at its start; "
        f"`ainode jobs {study}` shows what is read, `ainode trace {study}` also says if nothing changed"
    )


@jobs_app.command()
def deliver(
    job: str,
    destination: Annotated[str, typer.Argument(help="name of a peer of node.toml; every destination if left out")] = "",
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
