"""Files of the spool that no event tells of: what a crash left, and the whole spool where the catalog was lost.

They are indexed a batch at a time, so that the intake takes up what arrives meanwhile.
"""

import logging
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from ainode.node.deciding.indexing import Indexing
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.spool import Spool

log = logging.getLogger(__name__)
_BATCH: Final = 100
# An event comes within seconds of its file; of an older file no event will come.
_EVENT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a start took up again."""

    instances: int
    """instances that had been answered and not indexed, and those of a catalog that was lost"""
    studies: int
    """studies that had not been routed"""
    set_aside: int
    """damaged files"""


class Leftovers:
    """Finds the files, and indexes them a batch at a time."""

    def __init__(self, spool: Spool, catalog: Catalog, indexing: Indexing) -> None:
        self._spool, self._catalog, self._indexing = spool, catalog, indexing
        self._paths: deque[Path] = deque()
        self.instance_count = 0
        """files that were indexed"""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to be indexed."""
        return not self._paths

    def list_all(self) -> None:
        """List what an earlier process left, and the kept files of studies that the catalog does not list."""
        lost = self._spool.unlisted(self._catalog.studies())
        if lost:
            message = "the catalog lists no study of %d kept files: they are indexed again"
            log.warning(message, len(lost), extra={"action": "catalog_rebuilt"})
        self._paths.extend((*self._spool.unindexed(), *lost))

    def list_old(self, now: datetime) -> None:
        """List what has waited for its event too long; a time in the future is that of a clock that was set back."""
        paths = self._spool.unindexed()
        self._paths.extend(path for path in paths if abs((now - _modified_at(path)).total_seconds()) > _EVENT_S)

    def index_batch(self) -> None:
        """Index the next files.

        Raises: a fault that waiting mends; then the same files come next.
        """
        batch = list(islice(self._paths, _BATCH))
        files = [(file, _modified_at(path)) for path in batch if (file := self._indexing.read(path))]
        self._indexing.index(files)
        self.instance_count += len(files)
        for _ in batch:
            self._paths.popleft()


def _modified_at(path: Path) -> datetime:
    """Return when a file was written, which a move leaves as it is; now, if the file is gone."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return datetime.now(UTC)
