"""What a trial does, step by step: synthetic study or files, conversion, a reading per study and route, the outcome.

`trial.json` in the folder of the trial has the outcome. Its paths are relative to the folder.
"""

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from ainode.node import testing
from ainode.node.deciding import router
from ainode.node.deciding.explanations import nearest_mismatch, remedies
from ainode.node.disk import refuse_full
from ainode.node.domain import OutOfScope, Reading, Result, Study
from ainode.node.errors import ConfigError, HandlerError, PointRefused, ReportError
from ainode.node.keeping.saliency import FILE_NAME, saliency_file
from ainode.node.offline import inputs, upload_answer
from ainode.node.offline import readings as offline
from ainode.node.offline.inputs import Inputs
from ainode.node.offline.kinds import FileKind, format_of
from ainode.node.offline.options import PointKind, ReadOptions
from ainode.node.offline.trial_question import CONTENT, SLOTS, Stage, TrialQuestion
from ainode.node.offline.zip_files import Bounds
from ainode.node.reading import registry
from ainode.node.reading.weights import environment
from ainode.node.routes import Route, mismatch_sentence
from ainode.node.settings import Settings

Step = Mapping[str, str | int]
# An archive of a CT unpacks to two or three times its size.
_UNPACKED_PER_PACKED: Final = 4
_ALONE: Final = frozenset({FileKind.NRRD, FileKind.NIFTI, FileKind.ZIP})
"""the kinds of files that are a study, or several, by themselves"""
_MAX_UNREAD: Final = 50
_SEED: Final = 0
_CONVERTED: Final = "converted"
_PART_REFUSED: Final = "wrong-body-part"
"""the code of a refusal of every handler that asks for a body part"""


def steps(question: TrialQuestion) -> Iterator[Step]:
    """Do a trial, and yield each step when it begins.

    Raises: NodeError.
    """
    folder, settings, options = question.folder, question.settings, question.options
    refuse_full(folder, settings.node.min_free_bytes)
    yield _step(Stage.CONVERTING)
    if options.is_example:
        _write_example(options.handler, folder, settings)
    dates = _dates(folder)
    try:
        readable = _inputs(dates, question)
    except PointRefused:  # the images are shown, so that a person points again without another upload
        looked_at = dataclasses.replace(options, points=(), is_look=True)
        _write_content(_inputs(dates, dataclasses.replace(question, options=looked_at)), [], dates, question)
        raise
    handler = options.handler or None
    tasks = [
        (study, route)
        for study in readable.studies
        for route in (() if options.is_look else offline.routes_for(study, settings, handler))
    ]
    entries = []
    for number, (study, route) in enumerate(tasks, start=1):
        yield _step(Stage.READING, number, len(tasks))
        entries.append(_read(study, route, number, question, readable))
    _write_content(readable, entries, dates, question)
    yield _step(Stage.DONE)


def _write_content(
    readable: Inputs,
    entries: Sequence[Mapping[str, object]],
    dates: Sequence[tuple[Path, int]],
    question: TrialQuestion,
) -> None:
    """Write what a page shows of a trial."""
    folder = question.folder
    content = {
        "studies": [_study_entry(study, dates, question) for study in _all_studies(readable.studies)],
        "readings": entries,
        "unread": [
            {"path": _relative(file.path, folder), "reason": file.reason.replace(f"{folder}/", "")}
            for file in readable.unread[:_MAX_UNREAD]
        ],
        "unread_count": len(readable.unread),
    }
    (folder / CONTENT).write_text(json.dumps(content, indent=2), "utf-8")


def _step(stage: Stage, number: int = 0, count: int = 0) -> Step:
    return {"stage": stage.value, "number": number, "count": count}


def _write_example(handler: str, folder: Path, settings: Settings) -> None:
    """Write the synthetic study of a handler and its priors, as if a person had uploaded them."""
    example = registry.handler(handler, environment(settings)).demonstration(_SEED)
    # The current study is the last: of more priors than there are slots, the oldest are left out.
    for slot, synthetic in zip(SLOTS, (*example.priors, example)[-len(SLOTS) :], strict=False):
        study = f"example of {handler}, seed {_SEED}, {slot}"
        testing.write(synthetic.images, folder / slot, study=study, positions_mm=synthetic.positions_mm)


def _dates(folder: Path) -> list[tuple[Path, int]]:
    """Return what is read together, and the number of its date from 1."""
    return [(path, number) for number, slot in enumerate(SLOTS, start=1) for path in _paths(folder / slot)]


def _inputs(dates: Sequence[tuple[Path, int]], question: TrialQuestion) -> Inputs:
    """Return the studies in the uploaded files.

    Raises: ConfigError if there is none, with the reason of the first file; BrokenSeries.
    """
    folder, options, web = question.folder, question.options, question.settings.web
    if len({number for _, number in dates}) > 1 and not options.handler and not options.is_look:
        raise ConfigError("several dates are compared by one model; choose the model")
    points = dict(enumerate(options.points, start=1))
    room_bytes = shutil.disk_usage(folder).free - question.settings.node.min_free_bytes
    read_options = ReadOptions(
        points_of_paths=tuple(points.get(number) for _, number in dates),
        point_kind=PointKind.INDEX if options.is_index else PointKind.MM,
        body_part=options.body_part,
        zip_bounds=Bounds(min(_UNPACKED_PER_PACKED * web.max_upload_bytes, room_bytes), web.max_upload_files),
    )
    handler = None if options.is_look else options.handler or None
    readable = inputs.input_studies(
        [path for path, _ in dates],
        folder / _CONVERTED,
        options=offline.options_for(handler, read_options, question.settings.models),
        settings=question.settings,
    )
    if not readable.studies:
        lines = [line.replace(f"{folder}/", "") for line in offline.unread_lines(readable.unread)]
        raise ConfigError("; ".join(lines) or "nothing was uploaded; choose a file")
    return readable


def _paths(slot: Path) -> list[Path]:
    """Return what of a date is read together: each volume or archive by itself, the other files as one folder."""
    files = sorted(slot.iterdir()) if slot.exists() else []
    alone = [file for file in files if format_of(file).kind in _ALONE]
    if not alone:
        return [slot] if files else []
    return files


def _all_studies(studies: Sequence[Study]) -> Iterator[Study]:
    """Yield each study behind its priors, the oldest first, each with its own locations."""
    for study in studies:
        counts = Counter(chain.from_iterable(map(_frames, (*study.priors, study))))
        rest = study.locations
        for prior in study.priors:
            # The frame of a location of an earlier study is of this study alone (`refuse_shared_frames`).
            frames = {frame for frame in _frames(prior) if counts[frame] == 1}
            own = tuple(location for location in rest if location.frame_of_reference_uid in frames)
            rest = tuple(location for location in rest if location not in own)
            yield dataclasses.replace(prior, locations=own)
        yield dataclasses.replace(study, priors=(), locations=rest)


def _frames(study: Study) -> frozenset[str]:
    return frozenset(instance.text("FrameOfReferenceUID") for instance in study.instances) - {""}


def _study_entry(study: Study, dates: Sequence[tuple[Path, int]], question: TrialQuestion) -> Mapping[str, object]:
    """Return what a page needs of a study: its date, its files by series, and what becomes of it once it is kept.

    No patient attribute is among it.
    """
    folder, first_path = question.folder, study.instances[0].path
    places = (
        number
        for position, (path, number) in enumerate(dates)
        if first_path.is_relative_to(path) or first_path.is_relative_to(folder / _CONVERTED / str(position))
    )
    return {
        "study_instance_uid": study.study_instance_uid,
        "date": next(places, 1),
        **_routing(study, question),
        "locations": [dataclasses.asdict(location) for location in study.locations],
        "series": [
            {
                "series_instance_uid": series.instances[0].ref.series_instance_uid,
                "modality": series.instances[0].text("Modality"),
                "files": {
                    instance.ref.sop_instance_uid: _relative(instance.path, folder) for instance in series.instances
                },
            }
            for series in study.series
        ],
    }


def _routing(study: Study, question: TrialQuestion) -> Mapping[str, object]:
    """Return which routes would take a study that the node received; where none would, why, and what would help."""
    decisions = router.decide(study, question.settings.routes)
    routes = list(dict.fromkeys(decision.route for decision in decisions if decision.matched))
    # Who chose a model is told of the routes of this model.
    of_model = {route.name for route in question.settings.routes if route.handler == question.options.handler}
    decisions_of_model = [decision for decision in decisions if decision.route in of_model]
    mismatch = None if routes else nearest_mismatch(decisions_of_model or decisions)
    if mismatch is None:
        return {"routes": routes}
    return {
        "why_no_route": mismatch_sentence(mismatch.route, mismatch.attribute, mismatch.expected, mismatch.value),
        "remedies": list(remedies(map(dataclasses.asdict, decisions))),
        "wants_body_part": mismatch.attribute == "BodyPartExamined" and _is_unnamed(study, question),
    }


def _read(study: Study, route: Route, number: int, question: TrialQuestion, readable: Inputs) -> dict[str, object]:
    """Read a study by a route, save the documents, and return what a page needs of the reading."""
    folder, settings = question.folder, question.settings
    entry: dict[str, object] = {
        "study_instance_uid": study.study_instance_uid,
        "prior_uids": [prior.study_instance_uid for prior in study.priors],
        "route": route.name,
        "handler": route.handler,
        "folder": f"result/{number}",
        "points": [list(location.position_mm) for location in study.locations],
        "error": "",
    }
    try:
        reading = offline.read(
            study, route, settings, environment(settings), readable.notes(study), report_out_of_scope=True
        )
        result = folder / "result" / str(number)
        paths = offline.save(reading, result)
        if isinstance(reading.answer, Result) and (content := saliency_file(reading.answer.captures)):
            (result / FILE_NAME).write_bytes(content)
    except (HandlerError, ReportError) as error:  # the other readings go on
        return entry | {"error": str(error).replace(f"{folder}/", "")}
    if question.options.has_upload_answer:
        upload_answer.write(folder, study, reading)
    return entry | _outcome(reading, paths) | {"wants_body_part": _wants_body_part(study, reading, question)}


def _wants_body_part(study: Study, reading: Reading, question: TrialQuestion) -> bool:
    """Return whether files that are not DICOM were refused for a body part that nobody named."""
    is_refused = isinstance(reading.answer, OutOfScope) and reading.answer.code == _PART_REFUSED
    return is_refused and _is_unnamed(study, question)


def _is_unnamed(study: Study, question: TrialQuestion) -> bool:
    """Return whether the files of a study were no DICOM, and nobody named their body part."""
    # What was unpacked as DICOM lies one folder deeper.
    is_converted = study.instances[0].path.parent.parent == question.folder / _CONVERTED
    return is_converted and not question.options.body_part


def _outcome(reading: Reading, paths: Sequence[Path]) -> dict[str, object]:
    documents = zip(reading.documents, paths, strict=False)
    return {
        "answer": offline.verdict(reading),
        "is_refusal": offline.is_refusal(reading),
        "seconds": reading.seconds,
        "files": [path.name for path in paths],
        "documents": [
            {"name": path.name, "kind": document.kind.value, **dataclasses.asdict(document.ref)}
            for document, path in documents
        ],
    }


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
