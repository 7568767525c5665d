"""The story of one job: headers, selection, reading, documents. It runs in the reader process."""

import dataclasses
import time
from collections.abc import Iterable, Iterator

from ainode.node import reports
from ainode.node.domain import UID, File, Handler, Instance, OutOfScope, Reading, Request, Result, Study, refs
from ainode.node.encoding import headers


def read(request: Request, handler: Handler) -> Reading:
    """Take one study from its files to its documents."""
    started = time.monotonic()
    study = _study(request)
    answer = _noted(answered(study, handler), request.notes)
    sources = {one.ref.sop_instance_uid: one.path for point in (study, *study.priors) for one in point.instances}
    match answer:
        case Result():
            documents = reports.documents(answer, sources, request.context)
        case OutOfScope() if request.report_out_of_scope:
            documents = reports.documents_out_of_scope(answer, sources, request.context)
        case _:
            documents = ()
    return Reading(answer, documents, reports.result_json(answer, request.context), time.monotonic() - started)


def _noted(answer: Result | OutOfScope, notes: tuple[str, ...]) -> Result | OutOfScope:
    """Return an answer that says how its inputs were found, such as why there are no priors."""
    if not notes:
        return answer
    if isinstance(answer, OutOfScope):
        return dataclasses.replace(answer, reason=" ".join((f"{answer.reason.removesuffix('.')}.", *notes)))
    parameters = (
        *answer.algorithm.parameters,
        *((f"note {number}", note) for number, note in enumerate(notes, start=1)),
    )
    return dataclasses.replace(answer, algorithm=dataclasses.replace(answer.algorithm, parameters=parameters))


def _study(request: Request) -> Study:
    """Return the study with its priors, oldest first, in the order of the files where no date is known."""
    by_study: dict[UID, list[Instance]] = {}
    for one in _instances(request.priors):
        by_study.setdefault(one.ref.study_instance_uid, []).append(one)
    priors = sorted(map(headers.study, by_study.values()), key=_age)
    current = headers.study(_instances(request.files))
    return dataclasses.replace(current, priors=tuple(priors), locations=request.locations)


def _age(prior: Study) -> tuple[str, ...]:
    """Return what orders dated studies, as `prior_rules` does when it looks for the newest."""
    first = prior.instances[0]
    date = first.text("StudyDate")
    return (date, first.text("StudyTime"), prior.study_instance_uid) if date else ("",)


def _instances(files: Iterable[File]) -> Iterator[Instance]:
    return (headers.instance(file.path, sha256=file.sha256) for file in files)


def answered(study: Study, handler: Handler) -> Result | OutOfScope:
    """Return what the handler says of the study; a refusal that names no image is of all of them."""
    selection = handler.select(study)
    answer = selection if isinstance(selection, OutOfScope) else handler.read(selection)
    if isinstance(answer, OutOfScope) and not answer.evidence:
        return dataclasses.replace(answer, evidence=refs(study.instances))
    return answer
