"""Reading without a network: files in, documents and reports in a folder out. `ainode read`, `explain`, `replay`."""

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ainode.node import database, headers, pipeline, registry, router
from ainode.node.catalog import Catalog
from ainode.node.domain import (
    UID,
    Check,
    DocumentKind,
    File,
    Instance,
    OutOfScope,
    Reading,
    Request,
    Route,
    RouteDecision,
    Study,
)
from ainode.node.errors import CannotUnderstand, ConfigError
from ainode.node.identity import document_context
from ainode.node.jobs import request_of
from ainode.node.ledger import Ledger
from ainode.node.reports import readable
from ainode.node.settings import Settings
from ainode.node.weights import ModelEnvironment, environment, sha256_of


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is no DICOM instance, and why."""

    path: Path
    why: str


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files, and every file below the folders."""
    for path in paths:
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.is_file())
        else:
            yield path


def studies(paths: Iterable[Path], settings: Settings) -> tuple[tuple[Study, ...], tuple[Refused, ...]]:
    """Return the studies that lie in files and folders, and the files that are none of DICOM."""
    found: dict[UID, list[Instance]] = {}
    refused = []
    for path in files(paths):
        try:
            instance = headers.instance(path, sha256=sha256_of(path), keywords=router.keywords(settings.routes))
        except (CannotUnderstand, OSError) as error:
            refused.append(Refused(path, str(error)))
        else:
            found.setdefault(instance.ref.study_instance_uid, []).append(instance)
    return tuple(headers.study(tuple(instances)) for instances in found.values()), tuple(refused)


def routes_for(study: Study, settings: Settings, handler: str | None) -> tuple[Route, ...]:
    """Return the routes that match, or one without conditions for the handler that was asked for."""
    if handler:
        return (Route(name=handler, handler=handler, report_out_of_scope=True),)
    return tuple(route for route in settings.routes if router.chosen(study, route).series)


def read(study: Study, route: Route, settings: Settings, models: ModelEnvironment) -> Reading:
    """Return what a route's handler says of a study; documents carry the age of its oldest file, so reruns agree."""
    created = datetime.fromtimestamp(min(one.path.stat().st_mtime for one in study.instances), UTC)
    context = document_context(settings, route, host=platform.node(), created=created)
    taken = router.chosen(study, route) if route in settings.routes else study
    kept = tuple(File(one.path, one.sha256) for one in taken.instances)
    request = Request(study.study_instance_uid, kept, context, route.report_out_of_scope)
    return pipeline.read(request, registry.handler(route.handler, models))


def save(reading: Reading, out: Path) -> tuple[Path, ...]:
    """Write documents, result.json, report.txt and report.pdf; return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    counts = dict.fromkeys(DocumentKind, 0)
    for document in reading.documents:
        counts[document.kind] += 1
        path = out / f"{document.kind}-{counts[document.kind]}.dcm"
        path.write_bytes(document.content)
        written.append(path)
    texts = (("result.json", reading.summary.encode()), *readable(reading))
    for name, content in texts:
        (out / name).write_bytes(content)
        written.append(out / name)
    return tuple(written)


def verdict(reading: Reading) -> str:
    """Return the answer in one line."""
    return reading.answer.reason if isinstance(reading.answer, OutOfScope) else headline(reading.summary)


def headline(summary: str) -> str:
    """Return the first score of a result.json as text."""
    scores = json.loads(summary).get("scores", {}) if summary else {}
    return ", ".join(f"{name} {value:.3f}" for name, value in list(scores.items())[:1]) or "no score"


def explained(path: Path, settings: Settings) -> list[str]:
    """Return why each series below `path` is read by a route or not, and what its handler says of it."""
    found, refused = studies([path], settings)
    lines = [f"{one.path}: {one.why}" for one in refused]
    for study in found:
        lines.append(f"study {study.study_instance_uid}, {len(study.instances)} instances")
        for decision in router.decide(study, settings.routes):
            lines += _told(decision)
        for route in routes_for(study, settings, None):
            answer = registry.handler(route.handler, environment(settings)).select(router.chosen(study, route))
            said = f"declines: {answer.reason}" if isinstance(answer, OutOfScope) else "reads it"
            lines.append(f"  {route.handler} {said}")
    return lines


def _told(decision: RouteDecision) -> list[str]:
    lines = [f"  series {decision.series_instance_uid}", f"    {router.explained(decision)}"]
    for check in decision.checks:
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"      {mark} {check.attribute}: expected {check.expected}, found {check.found}")
    return lines


def remembered(study: str, settings: Settings) -> list[str]:
    """Return the stored explanation of a received study, and what became of its jobs.

    Raises: LookupError if the node never routed it.
    """
    engine = database.connect(settings.database_url)
    decisions = Catalog(engine).explanation(UID(study))
    if decisions is None:
        raise LookupError(f"study {study}: not routed here; give a path, or see `ainode jobs`")
    lines = [f"study {study}"]
    for row in decisions:
        checks = tuple(Check(**check) for check in row["checks"])
        lines += _told(RouteDecision(row["route"], UID(row["series_instance_uid"]), checks))
    for job in Ledger(engine).jobs(study=UID(study)):
        lines.append(f"  job {job.id} by {job.handler}: {job.state} {job.reason}".rstrip())
    return lines


def replayed(study: str, settings: Settings, weights: Path | None) -> tuple[bool, list[str]]:
    """Read the last job of a study again, send nothing; return whether all is equal, and a line per difference.

    Raises: LookupError if there is no finished job of that study.
    """
    engine = database.connect(settings.database_url)
    ledger, catalog = Ledger(engine), Catalog(engine)
    done = [job for job in ledger.jobs(study=UID(study)) if job.result]
    if not done:
        raise LookupError(f"study {study}: nothing was read here; see `ainode jobs`")
    job = done[-1]
    routes = {route.name: route for route in settings.routes}
    if job.route not in routes:
        raise ConfigError(f"route {job.route!r} of that job is no longer in routes.toml")
    request = request_of(job, routes[job.route], settings, catalog)
    reading = pipeline.read(request, registry.handler(job.handler, environment(settings, weights)))
    before, after = json.loads(job.result), json.loads(reading.summary)
    lines = [f"study {study}, route {job.route}, job {job.id}"]
    lines += _differences(before.get("scores", {}), after.get("scores", {}))
    old = {one.ref.sop_instance_uid: one.sha256 for one in ledger.documents(job.id)}
    new = {one.ref.sop_instance_uid: hashlib.sha256(one.content).hexdigest() for one in reading.documents}
    lines.append(
        f"documents: {sum(old.get(uid) == digest for uid, digest in new.items())} of {len(new)} byte-identical"
    )
    return old == new, lines


def _differences(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    return [
        f"  {name}: {before.get(name, float('nan')):.6f} -> {after.get(name, float('nan')):.6f}"
        for name in {**before, **after}
    ]
