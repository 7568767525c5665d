"""Earlier answers: searched by route, score, verdict, date and study, page by page, or all of them as CSV."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, Field

from ainode.node.audit.messages import exported, table_subject
from ainode.node.console.csv_rows import csv_blocks
from ainode.node.console.days import zone_of
from ainode.node.console.entry.access import Viewer
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.console.questions import Day, ListQuestion, Long, PageNumber, moments
from ainode.node.keeping.answer_search import REFUSED, UNDECIDED, Answer, AnswerFilter, AnswerSearch

_PAGE: Final = 50
PRESENCES: Final = {
    "present": "present",
    "indeterminate": "indeterminate",
    "absent": "absent",
    UNDECIDED: "read, no verdict",
    REFUSED: "declined",
}
"""how an address names an answer, and the words for people"""
_COLUMNS: Final = (
    *(
        "job",
        "study_instance_uid",
        "route",
        "handler",
        "model",
        "version",
        "weights_sha256",
        "weights_status",
        "presence",
    ),
    *("probability", "threshold", "headline", "code", "seconds", "at", "is_superseded"),
)
_SCORE: Final = re.compile(r"(0?|1)(\.\d*)?")


def _probability(text: str) -> str:
    """Return a text that is a probability, or none.

    Raises: ValueError.
    """
    digits = text.strip().replace(",", ".")
    if not _SCORE.fullmatch(digits) or (digits.strip(".") and float(digits) > 1):
        raise ValueError("a probability is a number from 0 to 1, such as 0.8")
    return digits


_Score = Annotated[str, Field(max_length=10), AfterValidator(_probability)]


class Question(ListQuestion):
    """The conditions that an address names, as a person typed them."""

    study: Long = ""
    route: Long = ""
    weights: Long = ""
    presence: Literal["", "present", "indeterminate", "absent", "none", "refused"] = ""
    code: Long = ""
    low: _Score = ""
    high: _Score = ""
    since: Day = ""
    until: Day = ""
    page: PageNumber = 1

    def answer_filter(self, zone: ZoneInfo | None) -> AnswerFilter:
        """Return the filter; the last day is included.

        Raises: HTTPException for a date that is none, and for a range of probabilities that ends before it begins.
        """
        low, high = _number(self.low), _number(self.high)
        since, until = moments(self.since, self.until, zone)
        if low is not None and high is not None and low > high:
            raise HTTPException(422, f"no probability is from {low:g} to {high:g}; exchange the two")
        return AnswerFilter(
            study=self.study.strip(),
            route=self.route,
            weights_sha256=self.weights,
            presence=self.presence,
            code=self.code,
            low=low,
            high=high,
            since=since,
            until=until,
        )


def _number(text: str) -> float | None:
    return float(text) if text.strip(".") else None


def router(parts: Parts) -> APIRouter:
    """Return the routes of the pages."""
    routes, search = APIRouter(), AnswerSearch(parts.engine)
    zone = zone_of(parts.settings)

    @routes.get("/answers")
    def answers(request: Request, _: Viewer, question: Annotated[Question, Query()]) -> Response:
        """Return a page of the answers; htmx gets the part that a condition changes."""
        offset = (question.page - 1) * _PAGE
        rows, count = search.page(question.answer_filter(zone), offset=offset, limit=_PAGE)
        is_part = "hx-request" in request.headers
        return render(
            request,
            "_answers.html" if is_part else "answers.html",
            question=question,
            rows=rows,
            count=count,
            span=f"{offset + 1} to {offset + len(rows)} of {count}" if rows else "",
            newer=question.address(page=question.page - 1) if question.page > 1 else "",
            older=question.address(page=question.page + 1) if offset + len(rows) < count else "",
            route_names=() if is_part else search.values("route"),
            codes=() if is_part else search.values("code"),
            presences=PRESENCES,
        )

    @routes.get("/answers.csv")
    def table(request: Request, visit: Viewer, question: Annotated[Question, Query()]) -> Response:
        """Return every answer of the search as CSV, without any patient attribute."""
        parts.web.record(exported(visit.person, visit.address, table_subject(request.url.path)))
        lines = csv_blocks(_COLUMNS, _cells(search.every(question.answer_filter(zone))))
        name = f"answers-{datetime.now(UTC).astimezone(zone):%Y-%m-%d}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)

    return routes


def _cells(answers: Iterator[Answer]) -> Iterator[list[object]]:
    for answer in answers:
        cells = {name: getattr(answer, name) for name in _COLUMNS}
        cells |= {"at": answer.at.astimezone(UTC).isoformat(timespec="seconds"), "seconds": round(answer.seconds, 3)}
        yield [cells[name] for name in _COLUMNS]
