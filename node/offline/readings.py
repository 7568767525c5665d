"""The commands `ainode read`, `explain` and `replay`: read files without a network, write documents into a folder."""

import dataclasses
import json
import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ainode.node.deciding import router
from ainode.node.deciding.explanations import NOT_KEPT, completed
from ainode.node.deciding.stored_study import ReadableStudy, stored_study
from ainode.node.domain import (
    UID,
    DocumentKind,
    File,
    OutOfScope,
    Reading,
    Request,
    Study,
    counted,
    probability_text,
)
from ainode.node.errors import ConfigError
from ainode.node.identity import document_context
from ainode.node.imaging.patients import patient_contradiction
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.ledger import Ledger
from ainode.node.offline.conversion import PictureKind
from ainode.node.offline.explaining import PIXELS, explanation_of
from ainode.node.offline.inputs import UnreadFile
from ainode.node.offline.options import ReadOptions
from ainode.node.offline.replays import comparison, replayed_request
from ainode.node.reading import pipeline, registry
from ainode.node.reading.boundary import boundary
from ainode.node.reading.verification import verified
from ainode.node.reading.weights import ModelEnvironment, environment
from ainode.node.reports import report_pdf, report_text
from ainode.node.routes import Check, Route, RouteDecision
from ainode.node.settings import Settings


def options_for(handler: str | None, options: ReadOptions) -> ReadOptions:
    """Return options with the `TIME_POINTS` and the `PICTURES` of the module of a handler; both are optional there."""
    if not handler:
        return options
    module = registry.module(handler)
    kind = PictureKind(getattr(module, "PICTURES", PictureKind.PHOTOGRAPH))
    return dataclasses.replace(options, picture_kind=kind, time_points=getattr(module, "TIME_POINTS", 1))


def routes_for(study: Study, settings: Settings, handler: str | None) -> tuple[Route, ...]:
    """Return the routes that match a study; with a handler, a single route to the handler, without conditions."""
    if handler:
        return (Route(name=handler, handler=handler, report_out_of_scope=True),)
    return tuple(route for route in settings.routes if router.chosen(study, route).series)


def read(
    study: Study,
    route: Route,
    settings: Settings,
    models: ModelEnvironment,
    notes: tuple[str, ...] = (),
    *,
    report_out_of_scope: bool = False,
) -> Reading:
    """Return the reading of a study by the handler of a route.

    With `report_out_of_scope`, a refusal has a document even where the route wants none.
    The documents are dated by the oldest file of the study, so that a second reading has the same bytes.
    """
    created = datetime.fromtimestamp(min(instance.path.stat().st_mtime for instance in study.instances), UTC)
    context = document_context(settings, route, host=platform.node(), created=created)
    request = Request(
        study_instance_uid=study.study_instance_uid,
        files=_files_to_read(study, route, settings),
        context=context,
        report_out_of_scope=report_out_of_scope or route.report_out_of_scope,
        priors=tuple(file for prior in study.priors for file in _files_to_read(prior, route, settings)),
        locations=study.locations,
        notes=notes,
        refusal=patient_contradiction(study.instances),
        wanted_candidates=route.wanted_candidates,
    )
    return _reading(request, route.handler, models)


def _reading(request: Request, handler: str, models: ModelEnvironment) -> Reading:
    """Return the reading of a request in this process.

    Raises: ConfigError if the handler raises an error of another type than NodeError.
    """
    built_handler = registry.handler(handler, models)
    with verified(request), boundary(handler, f"while reading study {request.study_instance_uid}", ConfigError):
        return pipeline.read(request, built_handler)


def _files_to_read(study: Study, route: Route, settings: Settings) -> tuple[File, ...]:
    """Return the files of a study that a route chooses; a route outside of routes.toml chooses all files."""
    chosen = router.chosen(study, route) if route in settings.routes else study
    return tuple(File(instance.path, instance.sha256, instance.ref.sop_instance_uid) for instance in chosen.instances)


def subfolder(study: Study, route: Route, readings: Sequence[tuple[Study, Route]]) -> Path:
    """Return the folder of a reading, below the output folder.

    Several studies have a folder each, several routes of one study too.
    """
    studies = [other_study for other_study, _ in readings]
    study_folder = study.study_instance_uid if len({other.study_instance_uid for other in studies}) > 1 else ""
    route_folder = route.name if sum(other is study for other in studies) > 1 else ""
    return Path(study_folder) / route_folder


def save(reading: Reading, out: Path) -> tuple[Path, ...]:
    """Write the documents, result.json, report.txt and report.pdf of a reading; return their paths.

    The documents of an earlier reading in the folder are removed: they may be of another patient.
    """
    out.mkdir(parents=True, exist_ok=True)
    _remove_documents(out)
    paths = []
    counts = dict.fromkeys(DocumentKind, 0)
    for document in reading.documents:
        counts[document.kind] += 1
        path = out / f"{document.kind}-{counts[document.kind]}.dcm"
        path.write_bytes(document.content)
        paths.append(path)
    # Each file is written before the next is made: a report.pdf that fails leaves the other files.
    for name, content in _readable_files(reading):
        (out / name).write_bytes(content)
        paths.append(out / name)
    return tuple(paths)


def _readable_files(reading: Reading) -> Iterator[tuple[str, bytes]]:
    yield "result.json", reading.summary.encode()
    yield "report.txt", report_text(reading.answer).encode()
    yield "report.pdf", report_pdf(reading.answer, reading.documents)


def _remove_documents(folder: Path) -> None:
    """Remove the documents that an earlier `save` left in a folder; the folder has a result.json then."""
    if (folder / "result.json").exists():
        for path in folder.glob("*-*.dcm"):
            kind, _, number = path.stem.rpartition("-")
            if kind in set(DocumentKind) and number.isdigit():
                path.unlink()


def unread_lines(unread: Iterable[UnreadFile]) -> Iterator[str]:
    """Yield a line for each reason why files are not read, with the first file and the number of files."""
    by_reason: dict[str, list[Path]] = {}
    for file in unread:
        by_reason.setdefault(file.reason, []).append(file.path)
    for reason, paths in by_reason.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        yield f"not read: {paths[0]}{more}: {reason}"


def verdict(reading: Reading) -> str:
    """Return the strongest verdict of a reading in words, or the reason why the study is out of scope."""
    return reading.answer.reason if isinstance(reading.answer, OutOfScope) else headline(reading.summary)


def is_refusal(reading: Reading) -> bool:
    """Return whether the model refused the study."""
    return isinstance(reading.answer, OutOfScope)


def headline(summary: str) -> str:
    """Return the strongest verdict of a result.json in words; without a verdict, name and value of the first score."""
    values = json.loads(summary) if summary else {}
    if sentence := values.get("verdict", {}).get("headline"):
        return str(sentence)
    return (
        ", ".join(f"{name} {probability_text(value, 3)}" for name, value in list(values.get("scores", {}).items())[:1])
        or "no score"
    )


def explanation(path: Path, settings: Settings) -> list[str]:
    """Return the lines that say which series below a path each route chooses, and whether its handler reads them."""
    explained = explanation_of([path], settings)
    lines = [*unread_lines(explained.unread)]
    for study in explained.studies:
        lines.append(f"study {study.study_instance_uid}, {counted(study.instance_count, 'instance')}")
        for decision in study.decisions:
            lines += _decision_lines(decision)
        for statement in study.statements:
            mark = "FAIL" if statement.are_looks_refused else "ok  "
            lines.append(f"  {statement.handler} {statement.sentence}")
            lines += [f"      {mark} {PIXELS}: {text}" for text in statement.looks]
    return lines


def _decision_lines(decision: RouteDecision) -> list[str]:
    """Return a line for the decision on a series, and a line for each of its checks."""
    lines = [f"  series {decision.series_instance_uid}", f"    {router.explained(decision)}"]
    for check in decision.checks:
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"      {mark} {check.attribute}: expected {check.expected}, found {check.found}")
    return lines


def stored_explanation(study_instance_uid: str, settings: Settings) -> list[str]:
    """Return the lines of the stored explanation of a received study, and the state of each of its jobs.

    The values that the catalog does not keep are read from the files of the study.
    Raises: LookupError if the node never routed the study.
    """
    engine, study = database.existing(settings.database_url), UID(study_instance_uid)
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
    decisions = _decisions_of_files(catalog.instances(study), settings)
    for row in rows or ():
        checks = tuple(Check(**check) for check in row["checks"])
        stored = RouteDecision(row["route"], UID(row["series_instance_uid"]), checks)
        lines += _decision_lines(completed(stored, decisions))
    if not decisions and any(NOT_KEPT in line for line in lines):
        lines.append("  values that are not kept are in the files of the study, which are gone or cannot be read")
    for job in jobs:
        lines.append(f"  job {job.id} by {job.handler}: {job.state} {job.explanation}".rstrip())
    return lines


def _decisions_of_files(stored: Sequence[StoredInstance], settings: Settings) -> tuple[RouteDecision, ...]:
    """Return what the routes decide on the files of a study now; nothing if no file can be read."""
    readable = stored_study(stored, {}, router.keywords(settings.routes)) if stored else None
    return router.decide(readable.study, settings.routes) if isinstance(readable, ReadableStudy) else ()


def replay(study_instance_uid: str, settings: Settings, weights: Path | None) -> tuple[bool, list[str]]:
    """Read the last job of a study again and send nothing.

    Return whether all documents have the same bytes, and a line for each score, with its old and its new value.

    Raises: LookupError if the study has no finished job; ConfigError if its route was removed.
    """
    engine = database.existing(settings.database_url)
    ledger, catalog = Ledger(engine), Catalog(engine)
    finished = [job for job in ledger.jobs(study=UID(study_instance_uid)) if job.result]
    if not finished:
        raise LookupError(f"study {study_instance_uid}: nothing was read here; see `ainode jobs`")
    job = finished[-1]
    request = replayed_request(job, settings, ledger, catalog)
    compared = comparison(job, ledger.documents(job.id), _reading(request, job.handler, environment(settings, weights)))
    lines = [f"study {study_instance_uid}, route {job.route}, job {job.id}"]
    lines += [
        f"  {name}: {math.nan if old is None else old:.6f} -> {math.nan if new is None else new:.6f}"
        for name, old, new in compared.scores
    ]
    lines.append(f"documents: {compared.identical_count} of {len(compared.documents)} byte-identical")
    return compared.is_same, lines
