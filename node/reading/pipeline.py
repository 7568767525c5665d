"""The story of one job: headers, selection, reading, documents. It runs in the reader process."""

import dataclasses
import time
from collections.abc import Iterable, Iterator

from ainode.node.domain import (
    UID,
    Document,
    File,
    Handler,
    Instance,
    Looking,
    OnEarly,
    OutOfScope,
    Reading,
    Request,
    Result,
    Selection,
    Study,
    is_urgent,
    nothing_early,
    refs,
)
from ainode.node.encoding import headers
from ainode.node.identity import is_ours
from ainode.node.imaging.naming import with_names
from ainode.node.imaging.patients import TWO_PATIENTS, patient_contradiction, patient_notes
from ainode.node.imaging.subjects import NO_PATIENT, subject_reason
from ainode.node.reading.acquired_images import missing_images
from ainode.node.reading.attachments import attached_documents
from ainode.node.reading.image_notes import image_notes
from ainode.node.reading.left_out_images import left_out_images
from ainode.node.reading.plain import plain
from ainode.node.reading.unplaced import unplaced
from ainode.node.reports import compose, text


def read(request: Request, handler: Handler, on_early: OnEarly = nothing_early) -> Reading:
    """Take one study from its files to its documents; `verification.verified` holds the files against their digests.

    `on_early` gets the part of an urgent answer that listeners and people get, before anything is drawn.
    """
    started = time.monotonic()
    study = _study(request)
    refusal = request.refusal or patient_contradiction(study.instances)
    notes = (*request.notes, *patient_notes(study.instances))
    answer = _two_patients(study, refusal) if refusal else _with_notes(answer_of(study, handler), notes)
    if isinstance(answer, Result):
        parameters = (*unplaced(answer, study), *missing_images(answer, study), *image_notes(answer, study))
        answer = _with_parameters(answer, parameters)
    else:
        answer = dataclasses.replace(answer, words=with_names(answer.reason, study))
    instances = (instance for item in (study, *study.priors) for instance in item.instances)
    sources = {instance.ref.sop_instance_uid: instance.path for instance in instances}
    context = dataclasses.replace(request.context, source_series_numbers=_series_numbers(study))
    answered = time.monotonic()
    summary = text.result_json(answer, request.context)
    attached: tuple[Document, ...] = ()
    if isinstance(answer, Result) and answer.attachments:  # what does not fit ends the job before anything leaves
        attached = attached_documents(answer, study.instances, context)
        answer = dataclasses.replace(answer, attachments=())  # the documents have their bytes
    if isinstance(answer, Result) and is_urgent(answer, request.urgent):
        bare = dataclasses.replace(answer, captures=(), segmented=None)
        messages = compose.early_documents(answer, sources, context)
        on_early(Reading(bare, messages, summary, answered - started, is_early=True))
    match answer:
        case Result():
            documents = (*attached, *compose.documents(answer, sources, context))
        case OutOfScope() if request.report_out_of_scope and not refusal:
            documents = compose.documents_out_of_scope(answer, sources, context)
        case _:
            documents = ()
    ended = time.monotonic()
    return Reading(answer, documents, summary, ended - started, compose_seconds=ended - answered)


def _series_numbers(study: Study) -> frozenset[int]:
    """Return the Series Numbers of the study's series, without those of ainode."""
    first_instances = (series.instances[0] for series in study.series)
    numbers = (instance.header.get("SeriesNumber") for instance in first_instances if not is_ours(instance))
    return frozenset(number for number in numbers if isinstance(number, int))


def _two_patients(study: Study, refusal: str) -> OutOfScope:
    """Return the answer on a study of several patients, of which no document can say whose it is."""
    return OutOfScope(refusal, TWO_PATIENTS, refs(study.instances))


def _with_notes(answer: Result | OutOfScope, notes: tuple[str, ...]) -> Result | OutOfScope:
    """Return the answer with notes on its inputs, such as the reason for a missing prior."""
    if not notes:
        return answer
    if isinstance(answer, OutOfScope):
        return dataclasses.replace(answer, reason=" ".join((f"{answer.reason.removesuffix('.')}.", *notes)))
    return _with_parameters(answer, tuple((f"note {number}", note) for number, note in enumerate(notes, start=1)))


def _with_parameters(result: Result, parameters: tuple[tuple[str, str], ...]) -> Result:
    """Return the result with what the node has to say of it, behind what the handler says."""
    algorithm = result.algorithm
    return dataclasses.replace(
        result, algorithm=dataclasses.replace(algorithm, parameters=(*algorithm.parameters, *parameters))
    )


def _study(request: Request) -> Study:
    """Return the study with its priors, oldest first; priors without a date keep the order of their files."""
    by_study: dict[UID, list[Instance]] = {}
    for instance in _instances(request.priors):
        by_study.setdefault(instance.ref.study_instance_uid, []).append(instance)
    priors = sorted(map(headers.study, by_study.values()), key=_age)
    current = headers.study(_instances(request.files))
    return dataclasses.replace(
        current,
        priors=tuple(priors),
        locations=request.locations,
        wanted_candidates=request.wanted_candidates,
    )


def _age(prior: Study) -> tuple[str, ...]:
    """Return the sort key of a prior: date, time, UID. `priors.rules` sorts by the same key."""
    first = prior.instances[0]
    date = first.text("StudyDate")
    return (date, first.text("StudyTime"), prior.study_instance_uid) if date else ("",)


def _instances(files: Iterable[File]) -> Iterator[Instance]:
    return (headers.instance(file.path, sha256=file.sha256) for file in files)


def answer_of(study: Study, handler: Handler) -> Result | OutOfScope:
    """Return the handler's answer on the study; a refusal without evidence gets every image as evidence.

    Raises: HandlerError if the handler returns anything but nouns of the domain; what the handler raises.
    """
    about = f"study {study.study_instance_uid}"
    answer: Result | OutOfScope
    selection = selection_of(study, handler)
    if isinstance(selection, Selection):
        answer = plain(handler.read(selection), (Result, OutOfScope), f"{about}: read()")
        if isinstance(answer, Result):
            answer = _with_parameters(answer, left_out_images(selection, study))
    else:
        answer = plain(selection, (OutOfScope,), f"{about}: select()")
    if isinstance(answer, OutOfScope) and not answer.evidence:
        return dataclasses.replace(answer, evidence=refs(study.instances))
    return answer


def selection_of(study: Study, handler: Handler) -> Selection | OutOfScope:
    """Return what the handler selects, after its look at a few pixels where the handler takes one.

    Phantoms and animals are refused whatever the handler selects.
    Raises: BrokenSeries if an image cannot be decoded; HandlerError if the look returns no noun of the domain.
    """
    selection = handler.select(study)
    if not isinstance(selection, Selection):
        return selection
    if refusal := _other_subject(selection):
        return refusal
    if not isinstance(handler, Looking):
        return selection
    answer = handler.look(selection)
    if isinstance(answer, Selection):
        return answer
    return plain(answer, (OutOfScope,), f"study {study.study_instance_uid}: look()")


def _other_subject(selection: Selection) -> OutOfScope | None:
    """Return the refusal of a selected image that is of no human patient; None if all can be."""
    for instance in selection.instances:
        if reason := subject_reason(instance):
            return OutOfScope(f"instance {instance.ref.sop_instance_uid}: {reason}", NO_PATIENT, (instance.ref,))
    return None
