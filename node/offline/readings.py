"""Reading without a network: files in, documents and reports in a folder out. `ainode read`, `explain`, `replay`."""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from ainode.node.deciding import router
from ainode.node.domain import (
    UID,
    DocumentKind,
    File,
    OutOfScope,
    Reading,
    Request,
    Study,
)
from ainode.node.errors import ConfigError
from ainode.node.identity import document_context
from ainode.node.jobs.requests import request_of
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.offline.conversion import PictureKind
from ainode.node.offline.inputs import Wish, studies
from ainode.node.reading import pipeline, registry
from ainode.node.reading.weights import ModelEnvironment, environment
from ainode.node.reports import readable_files
from ainode.node.routes import Check, Route, RouteDecision
from ainode.node.settings import Settings


def fitted(wish: Wish, handler: str | None) -> Wish:
    """Return a wish with what a handler's module says of itself, `TIME_POINTS` and `PICTURES`, both optional."""
    if not handler:
        return wish
    module = registry.module(handler)
    kind = PictureKind(getattr(module, "PICTURES", PictureKind.PHOTOGRAPH))
    return dataclasses.replace(wish, picture_kind=kind, time_points=getattr(module, "TIME_POINTS", 1))


def routes_for(study: Study, settings: Settings, handler: str | None) -> tuple[Route, ...]:
    """Return the routes that match, or one without conditions for the handler that was asked for."""
    if handler:
        return (Route(name=handler, handler=handler, report_out_of_scope=True),)
    return tuple(route for route in settings.routes if router.chosen(study, route).series)


def read(study: Study, route: Route, settings: Settings, models: ModelEnvironment) -> Reading:
    """Return what a route's handler says of a study; documents carry the age of its oldest file, so reruns agree."""
    created = datetime.fromtimestamp(min(one.path.stat().st_mtime for one in study.instances), UTC)
    context = document_context(settings, route, host=platform.node(), created=created)
    request = Request(
        study_instance_uid=study.study_instance_uid,
        files=_taken(study, route, settings),
        context=context,
        report_out_of_scope=route.report_out_of_scope,
        priors=tuple(file for prior in study.priors for file in _taken(prior, route, settings)),
        locations=study.locations,
    )
    return pipeline.read(request, registry.handler(route.handler, models))


def _taken(study: Study, route: Route, settings: Settings) -> tuple[File, ...]:
    taken = router.chosen(study, route) if route in settings.routes else study
    return tuple(File(one.path, one.sha256) for one in taken.instances)


def subfolder(study: Study, route: Route, readings: Sequence[tuple[Study, Route]]) -> Path:
    """Return where below the output a reading's files go: a folder per study and per route, where there are several."""
    by_study = study.study_instance_uid if len({one.study_instance_uid for one, _ in readings}) > 1 else ""
    by_route = route.name if sum(one is study for one, _ in readings) > 1 else ""
    return Path(by_study) / by_route


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
    # One by one: what cannot be set on a page must not cost the files before it.
    for name, content in chain([("result.json", reading.summary.encode())], readable_files(reading)):
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
        lines.append(f"  job {job.id} by {job.handler}: {job.state} {job.explanation}".rstrip())
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
    documents = ledger.documents(job.id)
    # The kinds that were made then, whatever the destinations ask for by now.
    optional = tuple(kind for kind in DocumentKind if kind.is_optional and kind in {one.kind for one in documents})
    request = dataclasses.replace(request, context=dataclasses.replace(request.context, optional=optional))
    reading = pipeline.read(request, registry.handler(job.handler, environment(settings, weights)))
    before, after = json.loads(job.result), json.loads(reading.summary)
    lines = [f"study {study}, route {job.route}, job {job.id}"]
    lines += _differences(before.get("scores", {}), after.get("scores", {}))
    old = {one.ref.sop_instance_uid: one.sha256 for one in documents}
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
