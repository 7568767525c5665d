"""What the address of a list asks for, as a person may type or share it."""

from datetime import datetime, timedelta
from typing import Annotated, ClassVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field

from ainode.node.console.days import day, midnight

Short = Annotated[str, Field(max_length=16)]
Long = Annotated[str, Field(max_length=64)]
Day = Annotated[str, Field(max_length=10)]
PageNumber = Annotated[int, Field(ge=1, le=100_000)]


class ListQuestion(BaseModel):
    """The fields of an address; '' leaves nothing out."""

    passing: ClassVar[frozenset[str]] = frozenset({"page"})
    """fields that no other address of the list takes over"""

    def address(self, **changes: str | int) -> str:
        """Return the query of the address with other fields; a changed filter begins with the first page."""
        fields = {**self.model_dump(exclude=set(self.passing)), **changes}
        return f"?{urlencode({name: value for name, value in fields.items() if value})}"


def moments(since: str, until: str, zone: ZoneInfo | None) -> tuple[datetime | None, datetime | None]:
    """Return the first midnight and the last of two days of the node, the last day included; None for ''.

    Raises: HTTPException for a date that is none.
    """
    first, last = day(since), day(until)
    return (
        midnight(first, zone) if first else None,
        midnight(last + timedelta(days=1), zone) if last else None,
    )
