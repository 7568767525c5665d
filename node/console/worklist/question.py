"""What the address of the worklist asks for: filters that can be shared, without a word of a patient."""

from typing import Annotated, Final
from zoneinfo import ZoneInfo

from fastapi import HTTPException
from pydantic import AfterValidator, Field

from ainode.node.console.memos import Memos
from ainode.node.console.questions import Day, ListQuestion, Long, PageNumber, Short, moments
from ainode.node.keeping.worklist import Criteria, DocumentsState, EntryState

DOCUMENTS_WORDS: Final = {
    DocumentsState.OPEN: "not confirmed yet",
    DocumentsState.FAILED: "delivery failed",
}


class Question(ListQuestion):
    """The fields of an address; '' leaves nothing out."""

    passing = frozenset({"page", "memo", "shown"})
    state: Short = ""
    documents: Short = ""
    route: Long = ""
    destination: Long = ""
    study: Annotated[Long, AfterValidator(str.strip)] = ""
    search: Short = ""
    """the identifier of a text that somebody searched for"""
    since: Day = ""
    until: Day = ""
    page: PageNumber = 1
    memo: Short = ""
    """the identifier of what the last action did"""
    shown: Annotated[str, Field(pattern="^[0-9a-f]{0,16}$")] = ""
    """the digest of the rows that the browser has"""

    @property
    def is_open(self) -> bool:
        """Return whether nothing is filtered."""
        return not any(self.model_dump(exclude=set(self.passing)).values())

    def criteria(self, zone: ZoneInfo | None, searches: Memos) -> Criteria:
        """Return the filter; days are those of the node, the last day included.

        Raises: HTTPException for a date or state that is none, and for a search that was forgotten.
        """
        text = searches.text(self.search) if self.search else ""
        if text is None:
            raise HTTPException(410, "the node has forgotten what was searched for; search again")
        since, before = moments(self.since, self.until, zone)
        return Criteria(
            state=_state(self.state),
            documents=DocumentsState(self.documents) if self.documents in set(DocumentsState) else None,
            route=self.route,
            destination=self.destination,
            study=self.study,
            text=text,
            since=since,
            before=before,
        )


def _state(text: str) -> EntryState | None:
    if text and text not in set(EntryState):
        raise HTTPException(422, f"no row has the state {text!r}; choose a state of the list")
    return EntryState(text) if text else None
