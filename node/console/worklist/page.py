"""The worklist: what arrived, what became of it, where the documents are; live, and with what an operator may do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from ainode.node.console.days import zone_of
from ainode.node.console.entry.access import Operator, Viewer, Visit
from ainode.node.console.memos import Memos
from ainode.node.console.pages import Pages, render
from ainode.node.console.parts import Parts
from ainode.node.console.states import STATE_WORDS
from ainode.node.console.updates import Updates, digest_of
from ainode.node.console.worklist.actions import REASONS, Actions, Chosen
from ainode.node.console.worklist.question import DOCUMENTS_WORDS, Question
from ainode.node.keeping.patient_index import Naming, PatientIndex, naming
from ainode.node.keeping.pulse import Pulse
from ainode.node.keeping.worklist import Criteria, Worklist
from ainode.node.keeping.worklist_rows import Row, WorklistRows

_PAGE: Final = 50
_MOST_ROWS: Final = 500
_MOST_TEXT: Final = 200
_EVENTS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
Asked = Annotated[Question, Query()]


@dataclass(frozen=True, slots=True)
class Topic:
    """Rows that somebody watches."""

    criteria: Criteria
    page: int
    is_open: bool
    """whether nothing is filtered"""
    may_act: bool


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    routes, page = APIRouter(), WorklistPage(parts)
    routes.add_api_route("/", page.show)
    routes.add_api_route("/search", page.search, methods=["POST"])
    routes.add_api_route("/worklist/events", page.events)
    routes.add_api_route("/worklist/{action}", page.act, methods=["POST"])
    return routes


class WorklistPage:
    """Shows the list, and does what is asked for."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._pages = parts, Pages(parts.settings)
        shown = naming(parts.settings) or Naming.HIDDEN
        self._has_names = shown is not Naming.HIDDEN
        self._worklist = Worklist(parts.engine)
        self._rows = WorklistRows(parts.engine, PatientIndex(parts.engine, shown))
        self._actions, self._memos = Actions(parts), Memos()
        self._updates = Updates(Pulse(parts.engine), self._content)
        self._zone = zone_of(parts.settings)

    def show(self, request: Request, question: Asked, visit: Viewer) -> Response:
        """Return the list; htmx gets the part that a filter changes."""
        settings = self._parts.settings
        topic = self._topic(question, visit)
        content, total = self._content(topic), self._worklist.count(topic.criteria)
        first, last = (question.page - 1) * _PAGE + 1, min(question.page * _PAGE, total)
        return render(
            request,
            "_worklist.html" if "hx-request" in request.headers else "worklist.html",
            question=question,
            content=content,
            digest=digest_of(content),
            span=f"{first} to {last} of {total}" if last >= first else "",
            newer=question.address(page=question.page - 1) if question.page > 1 else "",
            older=question.address(page=question.page + 1) if last < total else "",
            sought=self._memos.text(question.search) or "" if question.search else "",
            effects=(self._memos.text(question.memo) or "").splitlines() if question.memo else (),
            has_names=self._has_names,
            state_words=STATE_WORDS,
            documents_words=DOCUMENTS_WORDS,
            route_names=_with(question.route, [route.name for route in settings.routes]),
            destinations=_with(question.destination, [peer.name for peer in settings.peers]),
            reasons=REASONS,
        )

    def search(
        self,
        _: Viewer,
        text: Annotated[str, Form(max_length=_MOST_TEXT)] = "",
        address: Annotated[str, Form(max_length=1_000)] = "",
    ) -> Response:
        """Search for a text, which may name a patient and so stands in no address."""
        sought = " ".join(text.split())
        identifier = self._memos.keep(sought) if sought else ""
        return _to(_question_of(address).address(search=identifier))

    def events(self, question: Asked, visit: Viewer) -> Response:
        """Return the rows each time that they change, without an end."""
        topic = self._topic(question, visit)
        content = self._updates.events(topic, question.shown)
        return StreamingResponse(content, media_type="text/event-stream", headers=_EVENTS)

    def act(
        self,
        action: str,
        visit: Operator,
        row: Annotated[Sequence[str], Form()] = (),
        only: Annotated[str, Form()] = "",
        reason: Annotated[str, Form()] = "",
        address: Annotated[str, Form(max_length=1_000)] = "",
    ) -> Response:
        """Do an action to the chosen rows, or to the row whose own button was pressed; show the list again."""
        if action not in self._actions.by_name:
            raise HTTPException(404, "the worklist has no such action; load the worklist again")
        if action == "cancel" and reason not in REASONS:
            raise HTTPException(422, "a reading is cancelled with a reason; choose one of the list")
        try:
            rows = [Chosen.of(text) for text in ([only] if only else row[:_MOST_ROWS])]
        except ValueError as error:
            raise HTTPException(422, "the form names no row of the worklist; load the page again") from error
        effect = self._actions.apply(action, rows, visit, reason) if rows else "No row is chosen: check rows, then act."
        return _to(_question_of(address).address(page=_question_of(address).page, memo=self._memos.keep(effect)))

    def _topic(self, question: Question, visit: Visit) -> Topic:
        criteria = question.criteria(self._zone, self._memos)
        return Topic(criteria, question.page, question.is_open and question.page == 1, visit.may("operator"))

    def _content(self, topic: Topic) -> str:
        """Return the rows as HTML, the same for all who ask the same."""
        entries = self._worklist.page(topic.criteria, count=_PAGE, offset=(topic.page - 1) * _PAGE)
        values: dict[str, Any] = {
            "rows": self._rows.of(entries),
            "may_act": topic.may_act,
            "is_open": topic.is_open,
            "state_words": STATE_WORDS,
            "listeners": {peer.name for peer in self._parts.settings.with_self_test().peers if peer.is_listener},
            "clock": self._clock,
            "natural": natural_action,
        }
        return self._pages.part("_worklist_rows.html", values)

    def _clock(self, moment: datetime | None, beside: datetime) -> str:
        """Return the time of day of a moment, with the day if the day is another than that of a time beside."""
        if moment is None:
            return ""
        local, other = moment.astimezone(self._zone), beside.astimezone(self._zone)
        return f"{local:%H:%M}" if local.date() == other.date() else f"{local:%Y-%m-%d %H:%M}"


def natural_action(row: Row) -> tuple[str, str] | None:
    """Return name and words of what a person would do next to a row; None if nothing is due."""
    if row.entry.state in {"failed", "cancelled"} and row.has_images:
        return "read-again", "Read again"
    if row.entry.state != "withdrawn" and any(place.state == "failed" for place in row.whereabouts):
        return "deliver-again", "Deliver again"
    if row.entry.state == "waiting" and not row.entry.is_urgent:
        return "prioritize", "Read next"
    return None


def _question_of(address: str) -> Question:
    """Return the question of an address that a form carries; what does not belong there is dropped."""
    fields = dict(parse_qsl(address.removeprefix("?")))
    filters = {name: fields.get(name, "") for name in Question.model_fields.keys() - Question.passing}
    page = int(fields["page"]) if fields.get("page", "").isdecimal() else 1
    # The fields are for another address alone, which is checked when the browser comes with it.
    return Question.model_construct(None, **filters, page=page)


def _with(name: str, names: Sequence[str]) -> Sequence[str]:
    """Return names with one more, if it is none of them: a route that is gone from the configuration."""
    return names if not name or name in names else (*names, name)


def _to(address: str) -> Response:
    return RedirectResponse(f"/console/{address}", 303)
