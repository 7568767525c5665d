"""The story of one job: headers, selection, reading, documents. It runs in the reader process."""

import dataclasses
import time

from ainode.node import headers, reports
from ainode.node.domain import Handler, OutOfScope, Reading, Request, Result, Study, refs


def read(request: Request, handler: Handler) -> Reading:
    """Take one study from its files to its documents."""
    started = time.monotonic()
    study = headers.study(tuple(headers.instance(file.path, sha256=file.sha256) for file in request.files))
    answer = answered(study, handler)
    sources = {instance.ref.sop_instance_uid: instance.path for instance in study.instances}
    match answer:
        case Result():
            documents = reports.documents(answer, sources, request.context)
        case OutOfScope() if request.report_out_of_scope:
            documents = reports.documents_out_of_scope(answer, sources, request.context)
        case _:
            documents = ()
    return Reading(answer, documents, reports.result_json(answer, request.context), time.monotonic() - started)


def answered(study: Study, handler: Handler) -> Result | OutOfScope:
    """Return what the handler says of the study; a refusal that names no image is of all of them."""
    selection = handler.select(study)
    answer = selection if isinstance(selection, OutOfScope) else handler.read(selection)
    if isinstance(answer, OutOfScope) and not answer.evidence:
        return dataclasses.replace(answer, evidence=refs(study.instances))
    return answer
