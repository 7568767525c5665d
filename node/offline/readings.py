"""The command `ainode read`: reads files without a network, writes documents into a folder."""

import dataclasses
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ainode.node.deciding import router
from ainode.node.domain import (
    DocumentKind,
    File,
    OutOfScope,
    Reading,
    Request,
    Study,
)
from ainode.node.errors import HandlerError
from ainode.node.identity import document_context
from ainode.node.imaging.patients import patient_contradiction
from ainode.node.offline.conversion import PictureKind
from ainode.node.offline.headlines import headline
from ainode.node.offline.inputs import UnreadFile
from ainode.node.offline.options import ReadOptions
from ainode.node.reading import described, pipeline, registry
from ainode.node.reading.boundary import boundary
from ainode.node.reading.confinement import bounds_of
from ainode.node.reading.reader import Reader
from ainode.node.reading.verification import verified
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.reports.printed import report_pdf
from ainode.node.reports.text import report_text
from ainode.node.routes import Route
from ainode.node.settings import ReaderTable, Settings


def options_for(handler: str | None, options: ReadOptions, models: Path | None) -> ReadOptions:
    """Return options with the `TIME_POINTS` and the `PICTURES` of the module of a handler; both are optional there."""
    if not handler:
        return options
    module = registry.module(handler, models)
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
    """
    request = request_for(study, route, settings, notes, report_out_of_scope=report_out_of_scope)
    return reading_of(request, route.handler, models, settings.reader)


def request_for(
    study: Study,
    route: Route,
    settings: Settings,
    notes: tuple[str, ...] = (),
    *,
    report_out_of_scope: bool = False,
) -> Request:
    """Return what a reading of a study by the handler of a route is asked.

    The documents are dated by the oldest file of the study, so that a second reading has the same bytes.
    """
    created = datetime.fromtimestamp(min(instance.path.stat().st_mtime for instance in study.instances), UTC)
    return Request(
        study_instance_uid=study.study_instance_uid,
        files=_files_to_read(study, route, settings),
        context=document_context(settings, route, host=platform.node(), created=created),
        report_out_of_scope=report_out_of_scope or route.report_out_of_scope,
        priors=tuple(file for prior in study.priors for file in _files_to_read(prior, route, settings)),
        locations=study.locations,
        notes=notes,
        refusal=patient_contradiction(study.instances),
        wanted_candidates=route.wanted_candidates,
    )


def reading_of(request: Request, handler: str, models: ModelEnvironment, limits: ReaderTable) -> Reading:
    """Return the reading of a request: in this process, or in a process of its own by a handler that is confined.

    Raises: HandlerError if the handler raises an error of another type than NodeError; as `Reader.read`.
    """
    if described.is_described(handler, models.models) or bounds_of(handler, limits, models.models):
        reader = Reader(handler, models, limits)
        try:
            with verified(request):
                return reader.read(request)
        finally:
            reader.kill_unless_reading()
    built_handler = registry.handler(handler, models)
    with verified(request), boundary(handler, f"while reading study {request.study_instance_uid}", HandlerError):
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
        path = out / f"{document.kind}-{counts[document.kind]}{document.kind.suffix}"
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
        for path in folder.glob("*-*.*"):
            kind, _, number = path.stem.rpartition("-")
            if kind in set(DocumentKind) and number.isdigit() and path.suffix == DocumentKind(kind).suffix:
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
