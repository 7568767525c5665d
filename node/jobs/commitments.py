"""Storage commitment in both directions (PS3.4 annex J), behind the receiver.

An archive reports on documents that the node sent: the ledger keeps the report. A sender asks for instances that the
node received: the node reports on an association of its own. Either is a file until that is done.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from ainode.node import logs
from ainode.node.archive import commitment
from ainode.node.archive.dimse import Link
from ainode.node.domain import UID
from ainode.node.domain.pauses import back_off_s
from ainode.node.errors import ConfigError, DatabaseUnavailable, NodeError
from ainode.node.jobs.lanes import Errand, Lane
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.receiving.commitment_files import (
    CommitmentFiles,
    CommitmentRecord,
    CommitmentReport,
    CommitmentRequest,
    load,
)
from ainode.node.receiving.events import CommitmentSaved
from ainode.node.settings import Settings

log = logging.getLogger(__name__)
# PS3.3 C.14.1.1: no such object instance.
_NO_SUCH_INSTANCE: Final = 0x0112
# Pauses while the database or the disk of the node is away.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0


class Commitments:
    """Settles the reports of archives, answers the requests of senders; a lane for the ledger and one for each peer."""

    def __init__(self, settings: Settings, catalog: Catalog, ledger: Ledger, now: Callable[[], datetime]) -> None:
        """List what a crash left; whatever the receiver saves from now on comes as an event."""
        self._settings, self._catalog, self._ledger, self._now = settings, catalog, ledger, now
        self._files = CommitmentFiles(settings.data / "commitments")
        self._leftovers = self._files.paths()
        self._lanes: dict[str, Lane] = {}
        # The first peer of an AE title counts.
        self._peers = {peer.ae_title: peer for peer in reversed(settings.peers) if peer.speaks_dimse}

    def recover(self) -> None:
        """Take up what a crash left; the catalog lists by now what was stored before."""
        for path in self._leftovers:
            try:
                record = load(path)
                requestor = record.calling_ae_title if isinstance(record, CommitmentRequest) else ""
                if requestor and requestor not in self._peers:
                    raise ConfigError(
                        f"{path}: no [[peer]] has the AE title {requestor} any more; restart with one, or remove this"
                    )
            except (NodeError, OSError) as error:
                log.error("commitment: %s", error, extra={"action": "commitment_stranded"})  # noqa: TRY400
            else:
                self.take(CommitmentSaved(path, requestor))

    def take(self, saved: CommitmentSaved) -> None:
        """Take up a file, and return at once."""
        if saved.requestor not in self._lanes:
            self._lanes[saved.requestor] = Lane(f"commitment {saved.requestor}", self._attempt)
        self._lanes[saved.requestor].add(saved.path)

    def stop(self) -> None:
        """Try no more; the next start takes up the files that are left."""
        for lane in self._lanes.values():
            lane.stop()

    def _attempt(self, errand: Errand) -> Errand | None:
        """Make a file's effect durable and remove the file; return the errand of the next attempt, if there is one."""
        try:
            self._carry_out(load(errand.path))
        except FileNotFoundError:
            return None  # an earlier errand of the same file was carried out
        except (DatabaseUnavailable, OSError) as error:
            log.warning("commitment waits: %s", error, extra={"action": "commitment_waits"})
            pause_s = back_off_s(errand.outages, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
            return errand.again(pause_s, outages=1)
        except NodeError as error:
            return self._failed(errand, str(error), is_final=not (error.retry or isinstance(error, ConfigError)))
        except Exception as error:  # noqa: BLE001 - the boundary of a file: its fault must not end the lane
            return self._failed(errand, logs.raised_at(error), is_final=False)
        self._remove(errand.path)
        return None

    def _failed(self, errand: Errand, reason: str, *, is_final: bool) -> Errand | None:
        """Return the next attempt, after the pause of a delivery; give up after the last."""
        retries = self._settings.delivery
        if is_final or errand.failures + 1 >= retries.attempts:
            log.error("commitment given up: %s", reason, extra={"action": "commitment_given_up"})
            self._remove(errand.path)
            return None
        pause_s = back_off_s(errand.failures, first_s=retries.first_wait_s, longest_s=retries.longest_wait_s)
        log.warning("commitment, again in %.0f s: %s", pause_s, reason, extra={"action": "commitment_failed"})
        return errand.again(pause_s, failures=1)

    def _remove(self, path: Path) -> None:
        try:
            self._files.remove(path)
        except OSError as error:  # the next start carries the file out once more
            log.warning("commitment: %s stays: %s", path, error.strerror, extra={"action": "commitment_stays"})

    def _carry_out(self, record: CommitmentRecord) -> None:
        """Write the report of an archive into the ledger, or send the report to a requestor.

        Raises: NodeError, OSError.
        """
        if isinstance(record, CommitmentReport):
            reasons = {uid: f"0x{reason:04X}" for uid, reason in record.failed}
            self._ledger.outbox.settle(record.transaction_uid, record.committed, reasons, self._now())
            return
        node, references = self._settings.node, [commitment.SopReference(*pair) for pair in record.references]
        link = Link(self._peers[record.calling_ae_title], node.ae_title, node.network_timeout_s)
        commitment.report_commitment(link, self._report(record.transaction_uid, references))

    def _report(self, transaction_uid: UID, references: list[commitment.SopReference]) -> commitment.Commitment:
        stored = self._catalog.existing(reference.sop_instance_uid for reference in references)
        return commitment.Commitment(
            transaction_uid,
            tuple(reference for reference in references if reference.sop_instance_uid in stored),
            tuple(
                (reference, _NO_SUCH_INSTANCE) for reference in references if reference.sop_instance_uid not in stored
            ),
        )
