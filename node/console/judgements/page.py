"""What persons say of answers: the models they agree with least, the list, and the list as CSV and as documents."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from ainode.node.audit.messages import Subject, exported, study_subject, table_subject
from ainode.node.console.assistant.client import Assistant
from ainode.node.console.csv_rows import csv_blocks
from ainode.node.console.days import midnight, today_of, zone_of
from ainode.node.console.entry.access import Reader, Visit
from ainode.node.console.judgements.addenda import Addenda
from ainode.node.console.judgements.judging import OPINIONS, Judging, reason_words
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.console.questions import Day, ListQuestion, Long, PageNumber, Short, moments
from ainode.node.errors import CannotRender
from ainode.node.keeping.agreement import agreements
from ainode.node.keeping.intervals import wilson
from ainode.node.keeping.judgements import Filter, Judgements, KeptJudgement

_PAGE: Final = 50
_COLUMNS: Final = (
    *("judgement", "judged_at", "person", "opinion", "presence_instead", "measurement", "value", "label", "reason"),
    *("comment", "is_replaced", "finding", "statement", "presence", "route", "model", "version"),
    *("study_instance_uid", "job", "document_uid", "addendum_uid"),
)


class Question(ListQuestion):
    """What an address asks for."""

    passing = frozenset({"months", "page"})
    route: Long = ""
    model: Annotated[str, Field(max_length=200)] = ""
    opinion: Short = ""
    person: Long = ""
    since: Day = ""
    until: Day = ""
    months: Annotated[int, Field(ge=1, le=13)] = 1
    page: PageNumber = 1


def router(parts: Parts) -> APIRouter:
    """Return the routes of the pages, and of the form on the page of a study."""
    addenda = Addenda(parts.settings, parts.ledger, Judgements(parts.engine), Assistant(parts.settings))
    parts.endings.append(addenda.stop)
    routes, pages = APIRouter(), JudgementPages(parts, addenda)
    routes.add_api_route("/judgements", pages.show)
    routes.add_api_route("/judgements.csv", pages.csv)
    routes.add_api_route("/judgements/{number}.dcm", pages.document)
    routes.add_api_route("/studies/{study}/jobs/{job}/judgements", Judging(parts, addenda).judge, methods=["POST"])
    return routes


class JudgementPages:
    """The list of judgements."""

    def __init__(self, parts: Parts, addenda: Addenda) -> None:
        self._parts, self._addenda, self._judgements = parts, addenda, Judgements(parts.engine)
        self._zone = zone_of(parts.settings)
        self._reasons = parts.settings.console.codes.codes().reasons

    def show(self, request: Request, question: Annotated[Question, Query()], _: Reader) -> Response:
        """Return the models by agreement in this month, and the judgements that the address asks for."""
        criteria, offset = self._criteria(question), (question.page - 1) * _PAGE
        rows = self._judgements.page(criteria, count=_PAGE + 1, offset=offset)
        today = today_of(self._zone)
        figures = agreements(self._judgements.current(self._since(today, question.months)), self._zone)
        is_part = "hx-request" in request.headers
        month = f"{today:%Y-%m}"
        return render(
            request,
            "_judgements.html" if is_part else "judgements.html",
            question=question,
            rows=rows[:_PAGE],
            deliveries=self._parts.ledger.outbox.of_documents(row.addendum_uid for row in rows if row.addendum_uid),
            total=self._judgements.count(criteria),
            offset=offset,
            has_more=len(rows) > _PAGE,
            this_month=[item for item in figures if item.month == month],
            earlier=[item for item in figures if item.month != month],
            month=month,
            share=share,
            routes=[route.name for route in self._parts.settings.routes],
            models=self._judgements.models(),
            persons=self._judgements.persons(),
            opinions=OPINIONS,
            reason=lambda value: reason_words(self._reasons, value),
        )

    def csv(self, request: Request, question: Annotated[Question, Query()], visit: Reader) -> Response:
        """Return the judgements that the address asks for, with UIDs and nothing else of a patient."""
        self._record(visit, table_subject(request.url.path))
        lines = csv_blocks(_COLUMNS, _cells(self._judgements.all(self._criteria(question))))
        headers = {"Content-Disposition": 'attachment; filename="judgements.csv"', "Cache-Control": "no-store"}
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)

    def document(self, number: Annotated[int, Path(ge=1, le=2**31 - 1)], visit: Reader) -> Response:
        """Return a judgement as Structured Report, sent or not."""
        entry = self._judgements.numbered(number)
        if entry is None:
            raise HTTPException(404, f"there is no judgement {number}; load the page Judgements again")
        try:
            content = self._addenda.document(entry).content
        except CannotRender as error:
            raise HTTPException(503, str(error)) from error
        files = {"files": f"judgement-{number}.dcm"}
        self._record(visit, study_subject(entry.study_instance_uid, {}, files))
        headers = {
            "Content-Disposition": f'attachment; filename="judgement-{number}.dcm"',
            "Cache-Control": "no-store",
        }
        return Response(content, media_type="application/dicom", headers=headers)

    def _record(self, visit: Visit, subject: Subject) -> None:
        self._parts.web.record(exported(visit.person, visit.address, subject))

    def _since(self, today: date, months: int) -> datetime:
        """Return the begin of this month, or of an earlier one where the page shows several."""
        number = today.year * 12 + today.month - months
        return midnight(date(number // 12, number % 12 + 1, 1), self._zone)

    def _criteria(self, question: Question) -> Filter:
        since, before = moments(question.since, question.until, self._zone)
        return Filter(
            route=question.route,
            model=question.model,
            opinion=question.opinion,
            person=question.person,
            since=since,
            before=before,
        )


def share(hits: int, n: int) -> str:
    """Return a proportion in words with its 95 % interval, such as `80 % (38 to 96, n = 5)`; a dash for no case."""
    if not n:
        return "-"
    value, low, high = wilson(hits, n)
    return f"{100 * value:.0f} % ({100 * low:.0f} to {100 * high:.0f}, n = {n})"


def _cells(entries: Iterator[KeptJudgement]) -> Iterator[Sequence[Any]]:
    for entry in entries:
        judgement, correction = entry.judgement, entry.judgement.correction
        yield (
            *(entry.id, entry.judged_at.isoformat(timespec="seconds"), judgement.person, judgement.opinion.value),
            *(correction.presence or "", correction.measurement, correction.value, correction.label),
            *(judgement.reason, judgement.comment, int(entry.is_replaced), judgement.finding),
            *(entry.statement, entry.presence, entry.route, entry.model, entry.version),
            *(entry.study_instance_uid, judgement.job, entry.report_uid, entry.addendum_uid),
        )
