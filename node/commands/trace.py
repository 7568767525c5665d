"""`ainode trace`: the way of one study through the node, from what the node keeps and from its log."""

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from ainode.node.console.study.events import Event
from ainode.node.console.study.timeline import JobCourse, timeline
from ainode.node.console.study.workitems import workitem_events
from ainode.node.domain import UID
from ainode.node.errors import ConfigError
from ainode.node.jobs.leftovers import leftover_words
from ainode.node.keeping.job_events import JobEvents
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job
from ainode.node.keeping.study_records import StudyRecords
from ainode.node.keeping.workitems import Workitems
from ainode.node.offline.headlines import headline


def traced(engine: sa.Engine, study: UID, log: Path | None) -> list[tuple[str, str, str, str]]:
    """Return time, seconds, title and words of each step, oldest first; [] of a study that the node does not know.

    `log` is a log of objects; its lines about the study and its jobs are steps, too.

    Raises: ConfigError if the log cannot be read, or holds no object.
    """
    ledger, records = Ledger(engine), StudyRecords(engine)
    jobs = ledger.jobs(study=study)
    events = JobEvents(engine).of(job.id for job in jobs)
    courses = [
        JobCourse(
            job,
            tuple(map(_without_quotations, ledger.deliveries(job.id))),
            events.get(job.id, ()),
            "" if job.reason else headline(job.result),
            leftovers=leftover_words(ledger, job),
        )
        for job in jobs
    ]
    items = workitem_events(Workitems(engine).of_study(study))
    steps = [*timeline(records.completions(study), records.reception(study), courses, [*items])]
    if log:
        steps += _lines_about(log, {study}, {job.id for job in jobs})
        steps.sort(key=lambda step: (step.at is None, step.at and step.at.timestamp()))
    removed = [
        (f"{past.removed_at:%Y-%m-%d %H:%M:%S}Z", "", f"Documents removed of route {past.route}", past.reason)
        for past in ledger.history(study)
    ]
    return [*map(_row, steps), *removed, *map(_identity, jobs)]


def _without_quotations(delivery: Delivery) -> Delivery:
    """Return the delivery without the archive's own words, which may quote a Patient ID."""
    return replace(delivery, archive_comment="", proof_comment="")


def _row(step: Event) -> tuple[str, str, str, str]:
    at = f"{step.at:%Y-%m-%d %H:%M:%S}Z" if step.at else "-"
    seconds = "" if step.seconds is None else f"{step.seconds:.1f} s"
    title = f"{step.title} ({step.route})" if step.route else step.title
    return at, seconds, title, step.detail


def _identity(job: Job) -> tuple[str, str, str, str]:
    state = "withdrawn" if job.withdrawn_at else job.state
    return "", "", f"job {job.id}", f"route {job.route}, handler {job.handler}, now {state}"


def _lines_about(log: Path, studies: Collection[str], jobs: Collection[str]) -> Iterator[Event]:
    """Yield the lines of a log about a study or its jobs; a line that a restart cut off is left out.

    Raises: ConfigError if the log cannot be read, or no line is an object.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"{log}: cannot be read ({error.strerror}); give the file of the log") from error
    entries = [entry for line in lines if (entry := _object_of(line))]
    if lines and not entries:
        raise ConfigError(f'{log}: no line is a JSON object; set log_format = "json" of [node] and restart the node')
    for entry in entries:
        if entry.get("study_instance_uid") in studies or entry.get("job") in jobs:
            about = entry.get("action", entry.get("logger", ""))
            yield Event(datetime.fromisoformat(entry["time"]), f"log: {about}", entry["words"])


def _object_of(line: str) -> dict[str, str] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    is_of_node = isinstance(entry, dict) and {"time", "words"} <= entry.keys() and _is_time(entry["time"])
    return entry if is_of_node else None


def _is_time(text: object) -> bool:
    try:
        return isinstance(text, str) and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
