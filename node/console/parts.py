"""The parts of the node that the pages use, and the parts of their addresses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import sqlalchemy as sa
from fastapi import HTTPException, Path

from ainode.node.console.rendering.client import Rendering
from ainode.node.domain import UID_PATTERN
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.logs import RecentLines
from ainode.node.reading.readers import Readers
from ainode.node.receiving.receptions import Receptions
from ainode.node.settings import Settings
from ainode.node.web.api import Dependencies

StudyUid = Annotated[str, Path(pattern=rf"^{UID_PATTERN}$")]
InstanceUid = Annotated[str, Path(pattern=rf"^{UID_PATTERN}$")]
JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


@dataclass(frozen=True, slots=True)
class Parts:
    """Handed to every page; a page changes the node through these alone."""

    web: Dependencies
    """what the machines' interface uses: doorway, tokens, liveness, readiness, audit trail"""
    engine: sa.Engine
    readers: Readers
    rendering: Rendering = field(default_factory=Rendering)
    """decodes files in a process of its own"""
    endings: list[Callable[[], None]] = field(default_factory=list)
    """what a page wants done when the node stops"""
    receptions: Receptions = field(default_factory=Receptions)
    """which associations are open, and which callers were refused"""
    recent_lines: RecentLines = field(default_factory=RecentLines)
    """the last lines of the log"""
    request_reload: Callable[[], None] | None = None
    """has the node look at its configuration again; None where the program does not do that, as in a demonstration"""

    def stop(self) -> None:
        """End what the pages have started."""
        self.rendering.stop()
        for end in self.endings:
            end()

    @property
    def settings(self) -> Settings:
        """Return the settings of the node."""
        return self.web.settings

    @property
    def catalog(self) -> Catalog:
        """Return the index of instances and studies."""
        return self.web.catalog

    @property
    def ledger(self) -> Ledger:
        """Return jobs, documents and deliveries."""
        return self.web.ledger

    @property
    def announcements(self) -> Announcements:
        """Return the announced studies."""
        return self.web.announcements

    def reading(self, study: str, job: str) -> Job:
        """Return a job of the study that was read.

        Raises: HTTPException 404.
        """
        try:
            row = self.ledger.job(job)
        except LookupError as error:
            raise HTTPException(
                404, f"job {job} is not here, or its documents were removed; send the study again"
            ) from error
        if row.study_instance_uid != study or not row.result:
            raise HTTPException(404, f"study {study} has no reading {job}; see the page of the study")
        return row
