"""What a person takes away of a reading: documents, result.json, report.txt, report.pdf, and all of them as one ZIP.

A file that names the patient needs a reader; what names no patient is for whoever looks. A document leaves only if it
still has the bytes that were made; the audit trail names person, study and files.
"""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from ainode.node.audit.messages import exported, study_subject
from ainode.node.console.answers import ShownDocument, answer_of
from ainode.node.console.documents import (
    document_of,
    opened,
    picture,
    rendered,
    taken_document,
    taken_text,
    taken_zip,
    tree,
)
from ainode.node.console.entry.access import Reader, Viewer, Visit
from ainode.node.console.parts import InstanceUid, JobId, Parts, StudyUid
from ainode.node.domain import UID, JobState
from ainode.node.keeping.records import Job


def router(parts: Parts) -> APIRouter:
    """Return the routes of the files."""
    files, routes = StudyFiles(parts), APIRouter(prefix="/studies/{study}/jobs/{job}")
    routes.add_api_route("/documents/{uid}.dcm", files.document)
    routes.add_api_route("/documents/{uid}.png", files.picture)
    routes.add_api_route("/documents/{uid}/tree", files.tree)
    routes.add_api_route("/result.json", files.result)
    routes.add_api_route("/report.txt", files.text)
    routes.add_api_route("/report.pdf", files.pdf)
    routes.add_api_route("/all.zip", files.everything)
    return routes


class StudyFiles:
    """The files of the readings of a study."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def document(self, study: StudyUid, job: JobId, uid: InstanceUid, visit: Reader) -> Response:
        """Return a document as it was made."""
        document = self._document(study, job, uid)
        answer = taken_document(document)
        self._record(visit, study, [document], document.file_name)
        return answer

    def picture(self, study: StudyUid, job: JobId, uid: InstanceUid, _: Viewer) -> Response:
        """Return the pixels of a capture as PNG, for the page."""
        return picture(self._parts.rendering, self._document(study, job, uid))

    def tree(self, request: Request, study: StudyUid, job: JobId, uid: InstanceUid, _: Viewer) -> Response:
        """Return a structured report, item by item."""
        return tree(request, self._parts.rendering, self._document(study, job, uid))

    def result(self, study: StudyUid, job: JobId, visit: Viewer) -> Response:
        """Return the result.json of a job."""
        content = self._parts.reading(study, job).result.encode()
        self._record(visit, study, [], "result.json")
        return taken_text("result.json", content)

    def text(self, study: StudyUid, job: JobId, visit: Viewer) -> Response:
        """Return the report.txt of a job, in the words of `ainode read`."""
        content = self._text(self._parts.reading(study, job))
        self._record(visit, study, [], "report.txt")
        return taken_text("report.txt", content)

    def pdf(self, study: StudyUid, job: JobId, visit: Reader) -> Response:
        """Return the report.pdf of a job, as `ainode read` makes one: it names the patient."""
        documents = _printed(self._documents(study, job))
        content = self._pdf(self._parts.reading(study, job), documents)
        self._record(visit, study, documents, "report.pdf")
        return taken_text("report.pdf", content)

    def everything(self, study: StudyUid, job: JobId, visit: Reader) -> Response:
        """Return all files of a job as one ZIP."""
        documents, row = self._documents(study, job), self._parts.reading(study, job)
        texts = {
            "result.json": row.result.encode(),
            "report.txt": self._text(row),
        }
        if documents or row.state is not JobState.OUT_OF_SCOPE:  # a refusal without a report has nothing to print
            texts["report.pdf"] = self._pdf(row, _printed(documents))
        name = f"study-{study}-{row.id[:8]}.zip"
        answer = taken_zip(name, texts, documents, row.finished_at or row.queued_at)
        self._record(visit, study, documents, ", ".join((name, *texts)))
        return answer

    def _documents(self, study: str, job: str) -> tuple[ShownDocument, ...]:
        return answer_of(self._parts.reading(study, job), self._parts.ledger.documents(job), ()).documents

    def _document(self, study: str, job: str, uid: str) -> ShownDocument:
        return document_of(self._documents(study, job), uid)

    def _text(self, job: Job) -> bytes:
        return rendered(lambda: self._parts.rendering.text(job.result))

    def _pdf(self, job: Job, documents: Sequence[ShownDocument]) -> bytes:
        for document in documents:
            opened(document).close()
        files = [(str(shown.document.kind), shown.document.path) for shown in documents]
        return rendered(lambda: self._parts.rendering.pdf(job.result, files))

    def _record(self, visit: Visit, study: str, documents: Sequence[ShownDocument], files: str) -> None:
        """Write into the audit trail who takes which files of a study where."""
        counts: dict[str, int] = {}
        for shown in documents:
            sop_class = shown.document.ref.sop_class_uid
            counts[sop_class] = counts.get(sop_class, 0) + 1
        subject = study_subject(UID(study), counts, {"files": files})
        self._parts.web.record(exported(visit.person, visit.address, subject))


def _printed(documents: Sequence[ShownDocument]) -> list[ShownDocument]:
    """Return what a report.pdf shows: the first capture, and the last DICOM object, which names the patient."""
    objects = [shown for shown in documents if not shown.document.kind.is_message]
    captures = [shown for shown in objects if shown.is_capture][:1]
    return [*captures, *(shown for shown in objects[-1:] if shown not in captures)]
