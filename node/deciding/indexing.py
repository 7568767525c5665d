"""From the spool to the catalog: commit a batch of instances, then move their files."""

from collections.abc import Sequence
from datetime import datetime

from ainode.node.domain import UID
from ainode.node.encoding.same_content import same_data_set
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.spool import Spool, Spooled, content_sha256


class Indexing:
    """Indexes the files of the spool."""

    def __init__(self, spool: Spool, catalog: Catalog) -> None:
        self._spool, self._catalog = spool, catalog

    def index_leftovers(self, now: datetime) -> None:
        """Index the files that were answered and not indexed before a crash."""
        for spooled in self._spool.unindexed():
            self.index([(spooled, now)])

    def index(self, arrivals: Sequence[tuple[Spooled, datetime]]) -> frozenset[UID]:
        """Commit the arrivals to the catalog, then move their files; return those of the studies that wait for routing.

        A file that is gone was indexed before, and a known data set in another encoding is removed.
        """
        present = [(spooled, at) for spooled, at in arrivals if spooled.path.exists()]
        versions = self._catalog.versions(spooled.ref.sop_instance_uid for spooled, _ in present)
        moves: list[tuple[Spooled, StoredInstance]] = []
        for spooled, at in present:
            stored = self._stored(spooled, at)
            indexed = versions.get((spooled.ref.study_instance_uid, spooled.ref.sop_instance_uid))
            if indexed and _is_encoded_anew(spooled, stored, indexed):
                spooled.path.unlink()
            else:
                moves.append((spooled, stored))
        if moves:
            self._catalog.index([stored for _, stored in moves])
        for spooled, stored in moves:
            self._spool.keep(spooled.path, spooled.ref, stored.sha256)
        return frozenset(self._catalog.unrouted({spooled.ref.study_instance_uid for spooled, _ in arrivals}))

    def _stored(self, spooled: Spooled, at: datetime) -> StoredInstance:
        sha256 = content_sha256(spooled.path)
        return StoredInstance(
            ref=spooled.ref,
            transfer_syntax_uid=spooled.transfer_syntax_uid,
            sha256=sha256,
            size_bytes=spooled.size_bytes,
            path=self._spool.kept_path(spooled.ref, sha256),
            calling_ae_title=spooled.calling_ae_title,
            received_at=at,
        )


def _is_encoded_anew(spooled: Spooled, stored: StoredInstance, indexed: StoredInstance) -> bool:
    """Return whether other bytes hold the data set that is indexed already."""
    if indexed.sha256 == stored.sha256 or not indexed.path.exists():
        return False
    return same_data_set(spooled.path, indexed.path)
