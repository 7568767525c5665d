"""Who is told at once that a job has its answer, or that a document arrived; what is told stands in the ledger."""

from datetime import datetime
from typing import Protocol

from ainode.node.keeping.records import Delivery, Job, Outcome


class Witness(Protocol):
    """Is called after the transaction, by the thread that made it, and takes no time."""

    def answered(self, job: Job, outcome: Outcome) -> None:
        """Note that a job has its answer."""

    def arrived(self, delivery: Delivery, at: datetime) -> None:
        """Note that a destination took a document."""


class Nobody:
    """Notes nothing."""

    def answered(self, job: Job, outcome: Outcome) -> None:
        """Do nothing."""

    def arrived(self, delivery: Delivery, at: datetime) -> None:
        """Do nothing."""
