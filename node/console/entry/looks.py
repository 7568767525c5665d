"""Who looked at which study, for the audit trail: a page loads a hundred pictures, and they are one look."""

import re
import time
from collections.abc import Callable
from typing import Final

from ainode.node.audit.messages import Message, Subject, accessed, study_subject, table_subject
from ainode.node.console.entry.access import SAFE_METHODS, Visit

_STUDY: Final = re.compile(r"/console/studies/([0-9.]{1,64})(/.+)?")
# A page that gives a file away records the export itself.
_TAKEN: Final = re.compile(r"/jobs/.+\.(dcm|json|txt|pdf|zip)")
_LISTS: Final = frozenset({"/console/", "/console/unread"})
_SPAN_S: Final = 3_600.0
_MOST: Final = 4_096


class Looks:
    """Records the first look of a person at a part of a study within an hour; the page of a study records each look."""

    def __init__(self, record: Callable[[Message], None], *, has_names: bool) -> None:
        """`has_names` tells whether the lists of studies show patients."""
        self._record, self._has_names = record, has_names
        self._until_s: dict[tuple[str, str], float] = {}

    def note(self, visit: Visit, method: str, path: str) -> None:
        """Note a request that was answered."""
        if method not in SAFE_METHODS:
            return
        if match := _STUDY.fullmatch(path):
            self._note_study(visit, *match.groups(""))
        elif path in _LISTS and self._has_names:
            self._note(visit, path, table_subject(path))

    def _note_study(self, visit: Visit, study: str, part: str) -> None:
        if not _TAKEN.fullmatch(part):
            subject = study_subject(study, {}, {"part": "images, report or header in the console"})
            self._note(visit, study, subject if part else None)

    def _note(self, visit: Visit, name: str, subject: Subject | None) -> None:
        """Record a look that is the first within an hour; None is recorded by its page."""
        now_s = time.monotonic()
        if subject and self._until_s.get((visit.person, name), 0.0) <= now_s:
            self._record(accessed(visit.person, subject))
        if len(self._until_s) >= _MOST:
            self._until_s.clear()
        self._until_s[visit.person, name] = now_s + _SPAN_S
