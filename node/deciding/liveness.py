"""Whether the node does its work: what receiver, intake and jobs state of themselves, and the lines of the log."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Liveness:
    """The parts without which no study is read; each returns its fault, '' if there is none."""

    receiver: Callable[[], str]
    intake: Callable[[], str]
    jobs: Callable[[], str]
    missing_receivers: Callable[[], Sequence[str]] = tuple
    """returns a sentence for each receiver that others stand in for, which is no fault"""
    _faulty: set[str] = field(default_factory=set, repr=False)

    def fault(self) -> str:
        """Return why the node does not take up or read studies, '' if it does."""
        return self.receiver() or self.intake() or self.jobs()

    def watch(self) -> None:
        """Log each fault once, and its end."""
        for name, fault_of in (("receiver", self.receiver), ("intake", self.intake), ("jobs", self.jobs)):
            fault = fault_of()
            if fault and name not in self._faulty:
                self._faulty.add(name)
                log.error("%s", fault, extra={"action": f"{name}_down"})
            elif name in self._faulty and not fault:
                self._faulty.discard(name)
                log.info("%s: works again", name, extra={"action": f"{name}_up"})
