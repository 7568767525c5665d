"""The reader processes of a node, one for each handler that a route names."""

import logging
from collections.abc import Iterable

from ainode.node.domain import Reading, Request
from ainode.node.errors import NodeError
from ainode.node.reading import registry
from ainode.node.reading.reader import Reader
from ainode.node.reading.weights import HandlerWeights, ModelEnvironment
from ainode.node.settings import ReaderTable

log = logging.getLogger(__name__)


class Readers:
    """Hands each request to the reader process of its handler."""

    def __init__(self, handlers: Iterable[str], models: ModelEnvironment, limits: ReaderTable) -> None:
        self._models = models
        self._readers = {name: Reader(name, models, limits) for name in handlers}

    def read(self, handler: str, request: Request) -> Reading:
        """Return the reading of one request; wait while another request occupies the handler's process."""
        return self._readers[handler].read(request)

    def weights(self, handler: str) -> HandlerWeights:
        """Return the weights of a handler; none while the handler is not ready, and the reading states why."""
        try:
            return self._models.weights.of_handler(registry.handler(handler, self._models).weights())
        except NodeError as error:
            log.warning("handler not ready: %s", error, extra={"action": "not_ready", "handler": handler})
            return HandlerWeights()

    def kill_unused(self) -> None:
        """Kill each process that has read no study for `idle_s` of [reader]."""
        for reader in self._readers.values():
            reader.kill_if_unused()

    def kill_idle(self) -> None:
        """Kill each process that reads no study; a process that reads a study ends with the node."""
        for reader in self._readers.values():
            reader.kill_unless_reading()
