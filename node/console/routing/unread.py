"""Why not: the studies that were not read, why, and how many of each reason."""

from typing import Annotated, Final
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response

from ainode.node.console.days import zone_of
from ainode.node.console.entry.access import Viewer
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.console.questions import Day, ListQuestion, Long, PageNumber, Short, moments
from ainode.node.keeping.patient_index import PatientIndex, naming
from ainode.node.keeping.unread import Filter, Tally, UnreadReason, UnreadStudies, UnreadStudy
from ainode.node.keeping.worklist import Criteria, Worklist
from ainode.node.routes import mismatch_sentence

WORDS: Final = {
    UnreadReason.NO_ROUTE: ("no route matched", "warn"),
    UnreadReason.SET_ASIDE: ("files unusable", "bad"),
    UnreadReason.REJECTED: ("rejected by a note", "warn"),
    UnreadReason.DECLINED: ("declined: not for the model", "warn"),
    UnreadReason.FAILED: ("failed", "bad"),
    UnreadReason.CANCELLED: ("cancelled", "warn"),
    UnreadReason.AWAITED: ("not complete yet", "busy"),
    UnreadReason.NOT_FETCHED: ("announced, nothing came", "busy"),
}
"""a reason in words, and the color of its badge"""
_PAGE: Final = 50
_MOST_TALLIES: Final = 12


class Question(ListQuestion):
    """What an address asks for."""

    reason: Short = ""
    route: Long = ""
    attribute: Long = ""
    since: Day = ""
    until: Day = ""
    page: PageNumber = 1

    def criteria(self, zone: ZoneInfo | None) -> Filter:
        """Return the filter; days are those of the node, the last day included.

        Raises: HTTPException for a date that is none.
        """
        since, before = moments(self.since, self.until, zone)
        return Filter(
            reason=self.reason if self.reason in set(UnreadReason) else "",
            route=self.route,
            attribute=self.attribute,
            since=since,
            before=before,
        )


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    routes, unread, worklist = APIRouter(), UnreadStudies(parts.engine), Worklist(parts.engine)
    patients = PatientIndex(parts.engine, naming(parts.settings))
    zone = zone_of(parts.settings)
    route_names = [route.name for route in parts.settings.routes]

    @routes.get("/unread")
    def studies(
        request: Request,
        question: Annotated[Question, Query()],
        _: Viewer,
    ) -> Response:
        """Return the list; htmx gets the part that a filter changes."""
        criteria = question.criteria(zone)
        offset = (question.page - 1) * _PAGE
        rows = unread.page(criteria, count=_PAGE + 1, offset=offset)
        tallies = unread.tallies(criteria)
        counts = unread.counts(criteria)
        is_part = "hx-request" in request.headers
        return render(
            request,
            "_unread.html" if is_part else "unread.html",
            question=question,
            rows=rows[:_PAGE],
            labels=patients.shown(row.study_instance_uid for row in rows),
            tallies=tallies[:_MOST_TALLIES],
            further=sum(tally.count for tally in tallies[_MOST_TALLIES:]),
            counts=counts,
            span=f"{offset + 1} to {offset + len(rows[:_PAGE])} of {counts.rows} rows" if rows else "",
            newer=question.address(page=question.page - 1) if question.page > 1 else "",
            older=question.address(page=question.page + 1) if len(rows) > _PAGE else "",
            route_names=route_names,
            words=WORDS,
            sentence=sentence,
            condition=condition,
            is_empty_node=not rows and not worklist.page(Criteria(), count=1),
        )

    return routes


def sentence(row: UnreadStudy) -> str:
    """Return why a study was not read, as one sentence for a person."""
    if row.reason is UnreadReason.REJECTED:
        return row.value
    if row.expected:
        return mismatch_sentence(row.route, row.attribute, row.expected, row.value)
    if row.words:
        return row.words
    return {
        UnreadReason.AWAITED: "more images may come, or the node has not routed the study yet",
        UnreadReason.NOT_FETCHED: "the node waits for the first image",
    }.get(row.reason, "the node kept no reason")


def condition(tally: Tally) -> str:
    """Return the condition that failed in a group of studies, or the code of a refusal in words; '' without either."""
    return f"{tally.attribute}: wanted {tally.expected}" if tally.expected else tally.attribute.replace("-", " ")
