"""The reader processes of a node: one for each handler that a route names, or as many as the operator allows."""

import hashlib
import logging
from collections.abc import Callable, Iterable

from ainode.node.domain import OnEarly, Reading, Request, nothing_early
from ainode.node.errors import HandlerStarting, NodeError
from ainode.node.reading import family
from ainode.node.reading.inquiry import Inquiry
from ainode.node.reading.pool import Pool
from ainode.node.reading.reader import ReaderState
from ainode.node.reading.verification import verified
from ainode.node.reading.weights import HandlerWeights, ModelEnvironment
from ainode.node.reading.workplace import remove_left_workplaces
from ainode.node.settings import ReaderTable

log = logging.getLogger(__name__)


class Readers:
    """Hands each question to the reader process of its handler."""

    def __init__(
        self,
        handlers: Iterable[str],
        models: ModelEnvironment,
        limits: ReaderTable,
        on_known: Callable[[str], None],
        process: str = "",
    ) -> None:
        """Start no process yet; `on_known` gets the name of a handler whose weights became known, or failed to.

        `process` tells the readers of several processes on one machine apart.
        """
        self._models = models
        self.mark = f"{hashlib.sha256(f'{models.weights.site.absolute()}{process}'.encode()).hexdigest()[:16]}."
        """how the marks of the readers of this data folder begin"""
        self._pools = {name: Pool(name, models, limits, mark=self.mark) for name in handlers}
        self._inquiries = {name: Inquiry(name, pool.needs, on_known) for name, pool in self._pools.items()}

    def kill_leftovers(self) -> None:
        """Kill what the readers of a killed node had started, and remove the images that these gave to programs.

        The node that calls holds the lock of the data folder.
        """
        if count := family.kill_marked(self.mark):
            log.warning("killed: %d processes of readers of a node that died", count, extra={"action": "leftovers"})
        remove_left_workplaces()

    def read(self, handler: str, request: Request, on_early: OnEarly = nothing_early) -> Reading:
        """Return the reading of one request; wait while other requests occupy the handler's processes.

        `on_early` gets the urgent part of the reading first.

        Raises: as `Reader.read`; BrokenSeries if a file of the study is not what was received.
        """
        with verified(request) as refuse_changed:

            def tell(early: Reading) -> None:
                refuse_changed()
                on_early(early)

            return self._pools[handler].read(request, tell)

    def weights(self, handler: str) -> HandlerWeights:
        """Return the weights of a handler; none while the handler is not ready, and the reading states why.

        Raises: HandlerStarting at once, while the handler has not told which weights it reads with.
        """
        try:
            return self._models.weights.of_handler(self._inquiries[handler].needs().weights)
        except HandlerStarting:
            raise
        except NodeError as error:
            log.warning("handler not ready: %s", error, extra={"action": "not_ready", "handler": handler})
            return HandlerWeights()

    def known_weights(self, handler: str) -> HandlerWeights | None:
        """Return the weights of a handler that has told of them, None otherwise; no process is started."""
        inquiry = self._inquiries.get(handler)
        needs = inquiry.answer() if inquiry else None
        try:
            return self._models.weights.of_handler(needs.weights) if needs else None
        except NodeError:  # the weights are missing: the check of the routes says so
            return None

    def weights_bytes(self, handler: str) -> int:
        """Ask a handler for its weights now, and return the size of their files; 0 of a handler that is not ready."""
        needs = self._inquiries[handler].ask()
        try:
            return sum(self._models.weights.entry(name).size_bytes for name in needs.weights) if needs else 0
        except NodeError:  # the weights are missing: the check of the routes says so
            return 0

    def prepare(self, handler: str, is_unwanted: Callable[[], bool]) -> None:
        """Have a process of a handler load its networks, unless that is unwanted once one is free.

        Raises: as `Pool.prepare`.
        """
        self._pools[handler].prepare(is_unwanted)

    def states(self) -> tuple[ReaderState, ...]:
        """Return what each reader does."""
        return tuple(state for pool in self._pools.values() for state in pool.states())

    def kill_unused(self) -> None:
        """Kill each process that has answered nothing for `idle_s` of [reader]."""
        for pool in self._pools.values():
            pool.kill_if_unused()

    def reading_count(self) -> int:
        """Return how many processes read a study."""
        return sum(state.is_reading for state in self.states())

    def kill_idle(self) -> None:
        """Kill each process that reads no study; a process that reads a study ends with the node."""
        for pool in self._pools.values():
            pool.kill_unless_reading()
