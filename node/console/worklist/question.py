"""What the address of the worklist asks for: filters that can be shared, without a word of a patient."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import HTTPException, Query

from ainode.node.console.days import day, midnight
from ainode.node.console.memos import Memos
from ainode.node.keeping.worklist import Criteria, DocumentsState, EntryState

DOCUMENTS_WORDS: Final = {
    DocumentsState.OPEN: "not confirmed yet",
    DocumentsState.FAILED: "delivery failed",
}
_FILTERS: Final = ("state", "documents", "route", "destination", "study", "search", "since", "until")
_Short = Annotated[str, Query(max_length=16)]
_Long = Annotated[str, Query(max_length=64)]
_Day = Annotated[str, Query(max_length=10)]


@dataclass(frozen=True, slots=True)
class Question:
    """The fields of an address; '' leaves nothing out."""

    state: str = ""
    documents: str = ""
    route: str = ""
    destination: str = ""
    study: str = ""
    search: str = ""
    """the identifier of a text that somebody searched for"""
    since: str = ""
    until: str = ""
    page: int = 1
    memo: str = ""
    """the identifier of what the last action did"""

    @property
    def is_open(self) -> bool:
        """Return whether nothing is filtered."""
        return not any(getattr(self, name) for name in _FILTERS)

    def criteria(self, zone: ZoneInfo | None, searches: Memos) -> Criteria:
        """Return the filter; days are those of the node, the last day included.

        Raises: HTTPException for a date or state that is none, and for a search that was forgotten.
        """
        text = searches.text(self.search) if self.search else ""
        if text is None:
            raise HTTPException(410, "the node has forgotten what was searched for; search again")
        since, until = day(self.since), day(self.until)
        return Criteria(
            state=_state(self.state),
            documents=DocumentsState(self.documents) if self.documents in set(DocumentsState) else None,
            route=self.route,
            destination=self.destination,
            study=self.study,
            text=text,
            since=midnight(since, zone) if since else None,
            before=midnight(until + timedelta(days=1), zone) if until else None,
        )

    def address(self, **changes: str | int) -> str:
        """Return the address with other fields; a changed filter begins with the first page."""
        fields = {**{name: getattr(self, name) for name in _FILTERS}, **changes}
        return f"?{urlencode({name: value for name, value in fields.items() if value})}"


def question(  # noqa: PLR0913 - the fields of an address
    *,
    state: _Short = "",
    documents: _Short = "",
    route: _Long = "",
    destination: _Long = "",
    study: _Long = "",
    search: _Short = "",
    since: _Day = "",
    until: _Day = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    memo: _Short = "",
) -> Question:
    """Return the question of an address; a dependency of the page."""
    return Question(state, documents, route, destination, study.strip(), search, since, until, page, memo)


def _state(text: str) -> EntryState | None:
    if text and text not in set(EntryState):
        raise HTTPException(422, f"no row has the state {text!r}; choose a state of the list")
    return EntryState(text) if text else None
