"""The page of what failed and is tried no more by itself, and what of it is tried again."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from ainode.node.console.entry.access import Operator, Viewer
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.domain import DocumentKind
from ainode.node.jobs.retries import retry
from ainode.node.keeping.dead_letters import DeadLetter, DeadLetters, Documents
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.notices import Notices
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex, naming

_LETTERS: Final = 50
_MOST_RETRIED: Final = 1_000
_NOUNS: Final = {
    DocumentKind.STRUCTURED_REPORT: ("report", "reports"),
    DocumentKind.SECONDARY_CAPTURE: ("capture", "captures"),
    DocumentKind.PRESENTATION_STATE: ("presentation state", "presentation states"),
    DocumentKind.SEGMENTATION_FRACTIONAL: ("segmentation", "segmentations"),
    DocumentKind.SEGMENTATION_LABELMAP: ("label map", "label maps"),
    DocumentKind.PDF: ("PDF", "PDFs"),
    DocumentKind.ASSESSMENT: ("addendum", "addenda"),
    DocumentKind.OBJECT: ("object of a program", "objects of programs"),
    DocumentKind.MESSAGE: ("HL7 message", "HL7 messages"),
    DocumentKind.BUNDLE: ("FHIR transaction", "FHIR transactions"),
}


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    routes, page = APIRouter(), _LettersPage(parts)
    routes.add_api_route("/system/failures", page.show)
    routes.add_api_route("/system/failures", page.retry, methods=["POST"])
    routes.add_api_route("/system/failures/notices", page.tell_again, methods=["POST"])
    return routes


def documents_words(documents: Documents) -> str:
    """Return documents in words, such as `report, 3 captures, addendum`."""
    return ", ".join(
        _NOUNS[kind][0] if count == 1 else f"{count} {_NOUNS[kind][1]}" for kind, count in documents.items()
    )


class _LettersPage:
    """Shows what was given up, and has it tried again."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._letters = parts, DeadLetters(parts.engine)
        self._notices = Notices(parts.engine)
        self._index = PatientIndex(parts.engine, naming(parts.settings) or Naming.HIDDEN)

    def show(
        self,
        request: Request,
        _: Viewer,
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
        retried: Annotated[int, Query(ge=0)] = 0,
    ) -> Response:
        """Return what failed and is tried no more, and what is tried again."""
        letters = self._letters.page(count=_LETTERS + 1, offset=(page - 1) * _LETTERS)
        retries = self._letters.retries(count=_LETTERS)
        studies = {letter.study_instance_uid for letter in letters} | {item.study_instance_uid for item in retries}
        labels = self._index.shown(studies)
        address = "/console/system/failures?page="
        return render(
            request,
            "failures.html",
            letters=letters[:_LETTERS],
            retries=retries,
            notices=self._notices.failed(count=_LETTERS),
            notice_count=self._notices.failed_count(),
            labels_of=lambda study: labels.get(study, Labels()),
            words=documents_words,
            total=self._letters.count(),
            retried=retried,
            newer=f"{address}{page - 1}" if page > 1 else "",
            older=f"{address}{page + 1}" if len(letters) > _LETTERS else "",
        )

    def retry(
        self,
        visit: Operator,
        job: Annotated[str, Form(max_length=64)] = "",
    ) -> Response:
        """Try one job again, or every job of the dead letters; the dispatcher takes up what waits."""
        letters: Sequence[DeadLetter] = () if job else self._letters.page(count=_MOST_RETRIED)
        chosen = dict.fromkeys(letter.job for letter in letters) if not job else (job,)
        count = self._retried(chosen, Instruction(datetime.now(UTC), visit.person))
        return RedirectResponse(f"/console/system/failures?retried={count}", 303)

    def tell_again(
        self,
        _: Operator,
        notice: Annotated[str, Form(max_length=64)] = "",
    ) -> Response:
        """Send one notification again, or all that were given up."""
        self._notices.retry(datetime.now(UTC), notice)
        return RedirectResponse("/console/system/failures", 303)

    def _retried(self, jobs: Iterable[str], instruction: Instruction) -> int:
        """Return how many of the jobs are tried again; a job of which nothing failed any more is left alone."""
        count = 0
        for job in jobs:
            try:
                retry(self._parts.settings, self._parts.ledger, job, instruction)
            except LookupError:
                continue
            count += 1
        return count
