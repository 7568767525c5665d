"""The command `ainode explain`: which route takes a study, in lines of text; of files, or of a received study."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ainode.node.deciding import router
from ainode.node.deciding.explanations import changes, completed, nearest_mismatch
from ainode.node.deciding.stored_study import ANY_ROUTE, ReadableStudy, stored_study
from ainode.node.domain import UID, counted
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.data_folder import refuse_another
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.unread import Mismatch, UnreadReason, UnreadStudies, UnreadStudy
from ainode.node.offline.explaining import PIXELS, explanation_of
from ainode.node.offline.readings import unread_lines
from ainode.node.routes import NOT_KEPT, OF_EVERY_IMAGE, Check, RouteDecision, mismatch_sentence
from ainode.node.settings import Settings


def explanation(path: Path, settings: Settings) -> list[str]:
    """Return the lines that say which series below a path each route chooses, and whether its handler reads them."""
    explained = explanation_of([path], settings)
    lines = [*unread_lines(explained.unread)]
    for study in explained.studies:
        lines.append(f"study {study.study_instance_uid}, {counted(study.instance_count, 'instance')}")
        if mismatch := nearest_mismatch(study.decisions):
            lines.append(_summary(mismatch, len({decision.route for decision in study.decisions})))
        for decision in study.decisions:
            lines += _decision_lines(decision)
        for statement in study.statements:
            mark = "FAIL" if statement.are_looks_refused else "ok  "
            lines.append(f"  {statement.handler} {statement.sentence}")
            lines += [f"      {mark} {PIXELS}: {text}" for text in statement.looks]
    return lines


def _summary(mismatch: Mismatch | UnreadStudy, route_count: int) -> str:
    """Return why no route takes a study, by the route that came farthest."""
    if mismatch.reason is UnreadReason.REJECTED:
        return f"  not read: {mismatch.value}"
    sentence = mismatch_sentence(mismatch.route, mismatch.attribute, mismatch.expected, mismatch.value)
    nearest = f"; of {route_count} routes this came nearest" if mismatch.route and route_count > 1 else ""
    return f"  not read: {sentence}{nearest}"


def _decision_lines(decision: RouteDecision) -> list[str]:
    """Return lines for the decision on a series, for each condition of the route, and for what held of every image."""
    lines = [f"  series {decision.series_instance_uid}", f"    {router.explained(decision)}"]
    usual = [check for check in decision.checks if check.passed and check.expected in OF_EVERY_IMAGE]
    for check in decision.checks:
        if check in usual:
            continue
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"      {mark} {check.attribute}: expected {check.expected}, found {check.found}")
    if usual:
        lines.append(f"      ok   asked of every image: {', '.join(check.expected for check in usual)}")
    return lines


def stored_explanation(study_instance_uid: str, settings: Settings) -> list[str]:
    """Return the lines of the stored explanation of a received study, and the state of each of its jobs.

    The values that the catalog does not keep are read from the files of the study.
    Raises: LookupError if the node never routed the study; ConfigError if the files are in another folder.
    """
    engine, study = database.existing(settings.database_url), UID(study_instance_uid)
    refuse_another(engine, settings.data)
    catalog, jobs = Catalog(engine), Ledger(engine).jobs(study=study)
    rows = catalog.explanation(study)
    if rows is None and not jobs:
        count = len(catalog.instances(study))
        state = (
            f"{counted(count, 'instance')} came, and the node waits for the last one"
            if count
            else "the node has none of it"
        )
        raise LookupError(f"study {study}: not routed here: {state}; give a path, or ask again when more has arrived")
    lines = [f"study {study}"]
    if rows is None:
        lines.append("  the files, and why each route matched or not, were removed after [node] retention_days")
    # Of these, that no route took the study; what became of a job stands below.
    unread = (entry for entry in UnreadStudies(engine).of_study(study) if entry.expected)
    route_count = len({row["route"] for row in rows or ()} - {ANY_ROUTE})
    lines += [_summary(entry, route_count) for entry in unread]
    decisions = _decisions_of_files(catalog.instances(study), settings)
    for row in rows or ():
        checks = tuple(Check(**check) for check in row["checks"])
        stored = RouteDecision(row["route"], UID(row["series_instance_uid"]), checks)
        lines += _decision_lines(completed(stored, decisions))
    if not decisions and any(NOT_KEPT in line for line in lines):
        lines.append("  values that are not kept are in the files of the study, which are gone or cannot be read")
    if rows is not None and catalog.is_routed(study):
        lines += _change_lines(study, rows, decisions, settings)
    for job in jobs:
        lines.append(f"  job {job.id} by {job.handler}: {job.state} {job.explanation}".rstrip())
    return lines


def _change_lines(
    study: UID, rows: Sequence[Mapping[str, Any]], decisions: Sequence[RouteDecision], settings: Settings
) -> Iterator[str]:
    """Yield what routes.toml says otherwise now than when the study was routed, and what has it read by that."""
    routes = {ANY_ROUTE, *(route.name for route in settings.routes)}
    for name in dict.fromkeys(row["route"] for row in rows if row["route"] not in routes):
        yield f"  route {name} is not in routes.toml any more"
    changed = changes(rows, decisions)
    if not changed:
        return
    yield "  since the study was routed, routes.toml has changed; it says now:"
    for decision in changed:
        yield from _decision_lines(decision)
    if any(decision.matched for decision in changed):
        yield (
            "  a study that comes again unchanged is not read by that: "
            f"`ainode read-again {study}` has the node do it, once it works with this routes.toml (`ainode reload`)"
        )


def _decisions_of_files(stored: Sequence[StoredInstance], settings: Settings) -> tuple[RouteDecision, ...]:
    """Return what the routes decide on the files of a study now; nothing if no file can be read."""
    readable = stored_study(stored, {}, router.keywords(settings.routes)) if stored else None
    return router.decide(readable.study, settings.routes) if isinstance(readable, ReadableStudy) else ()
