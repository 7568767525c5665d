"""The tasks of an assistant, in a process of their own: each returns what JSON holds."""

import base64
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Final

from ainode.node.console.assistant.changed_routes import compared
from ainode.node.console.assistant.client import ANSWER, REASON, Task
from ainode.node.deciding import router
from ainode.node.deciding.explanations import completed
from ainode.node.deciding.stored_study import ReadableStudy, stored_study
from ainode.node.diagnosis.checks import Line, route_lines
from ainode.node.domain import UID, AssessmentRequest, Document
from ainode.node.errors import NodeError
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.offline import zip_files
from ainode.node.offline.explaining import StudyExplanation, explanation_of
from ainode.node.offline.kinds import FileKind, format_of
from ainode.node.offline.zip_files import Bounds
from ainode.node.routes import Check, RouteDecision
from ainode.node.settings import Settings

# As [web] max_upload_files says in config/node.toml.
_UNPACKED_PER_PACKED: Final = 4


def answer(task: Task) -> bytes:
    """Return the answer of a task, or the reason why there is none."""
    try:
        return ANSWER + json.dumps(_TASKS[task.name](task.settings, **task.arguments)).encode()
    except NodeError as error:
        return REASON + str(error).encode()


def _explained(settings: Settings, folder: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Return why uploaded files would be read or not; `names` has the caller's name of each file."""
    paths = list(_unpacked(map(Path, names), Path(folder), _bounds(settings, Path(folder))))
    explained = explanation_of(paths, settings)
    words = {str(path): name for path, name in zip(paths, names.values(), strict=True)}
    return {
        "studies": list(map(_plain_study, explained.studies)),
        "unread": [
            {"name": _named(str(file.path), words), "reason": _named(file.reason, words)} for file in explained.unread
        ],
    }


def _bounds(settings: Settings, folder: Path) -> Bounds:
    """Return what the archives of a stranger may unpack to together, the room on the disk at most."""
    room_bytes = shutil.disk_usage(folder).free - settings.node.min_free_bytes
    web = settings.web
    return Bounds(min(_UNPACKED_PER_PACKED * web.max_upload_bytes, room_bytes), web.max_upload_files)


def _unpacked(paths: Iterable[Path], folder: Path, bounds: Bounds) -> Iterator[Path]:
    """Yield files, and in the place of each ZIP archive the folder with its files."""
    for path in paths:
        if format_of(path).kind is FileKind.ZIP:
            unpacked = zip_files.unpack(path, folder / "unpacked" / path.name, bounds)
            bounds = zip_files.remaining(bounds, unpacked)
            yield unpacked
        else:
            yield path


def _named(text: str, words: Mapping[str, str]) -> str:
    """Return a text with the names of the caller in the place of the node's paths, as `study.zip/000001`."""
    for path, name in words.items():
        text = text.replace(path, name)
    return text


def _plain_study(study: StudyExplanation) -> dict[str, Any]:
    return {
        "uid": study.study_instance_uid,
        "instance_count": study.instance_count,
        "decisions": [asdict(decision) for decision in study.decisions],
        "statements": [asdict(statement) for statement in study.statements],
    }


def _stored(settings: Settings, study: str, decisions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the decisions that the catalog keeps of a study, with the values that only its files have."""
    stored = Catalog(database.existing(settings.database_url)).instances(UID(study))
    readable = stored_study(stored, {}, router.keywords(settings.routes)) if stored else None
    current = router.decide(readable.study, settings.routes) if isinstance(readable, ReadableStudy) else ()
    return [asdict(completed(_decision(row), current)) for row in decisions]


def _decision(row: Mapping[str, Any]) -> RouteDecision:
    """Return the decision that the catalog keeps as plain values."""
    checks = tuple(Check(**check) for check in row["checks"])
    return RouteDecision(row["route"], UID(row["series_instance_uid"]), checks)


def _changed(settings: Settings, path: str, study_count: int, seconds: float) -> dict[str, Any]:
    """Return what a changed routes.toml would have changed for the newest studies."""
    return compared(settings, Path(path), study_count=study_count, limit_s=seconds)


def _ready(settings: Settings) -> list[Line]:
    """Return a line for each route: its name, whether it is ready, and the reason or the remedy."""
    return list(route_lines(settings))


def _assessed(_: Settings, request: AssessmentRequest) -> dict[str, Any]:
    """Return the documents of a judgement, each with its four UIDs; the first is for archives, others for listeners."""
    from ainode.node.reports.assessment import assessment  # noqa: PLC0415 - no other task needs highdicom
    from ainode.node.reports.judged_messages import judged_messages  # noqa: PLC0415

    documents = (assessment(request), *judged_messages(request))
    return {"documents": list(map(_encoded, documents))}


def _encoded(document: Document) -> dict[str, Any]:
    return {
        "kind": document.kind,
        "ref": list(astuple(document.ref)),
        "content": base64.b64encode(document.content).decode(),
        "destination": document.destination,
    }


def _called(function: str) -> Callable[..., Any]:
    """Return a task that calls other systems; the others need none of its libraries."""

    def task(settings: Settings, **arguments: object) -> object:
        from ainode.node.console.assistant import trials  # noqa: PLC0415 - composes documents: a second to import

        return getattr(trials, function)(settings, **arguments)

    return task


_TASKS: Final[Mapping[str, Callable[..., Any]]] = {
    "explain": _explained,
    "stored": _stored,
    "changed": _changed,
    "ready": _ready,
    "assess": _assessed,
    **{name: _called(name) for name in ("echo", "doctor", "send", "self_test")},
}
