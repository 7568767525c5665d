"""A handler with its networks in memory, in step with the manifests. It lives in the reader process."""

import dataclasses

from ainode.node.domain import Handler, Reading, Request
from ainode.node.errors import WeightsReplaced
from ainode.node.reading import pipeline, registry
from ainode.node.reading.weights import HandlerWeights, ModelEnvironment


class LoadedHandler:
    """Reads with the weights that the manifests list now, and states on each reading which are for demonstration."""

    def __init__(self, name: str, environment: ModelEnvironment) -> None:
        self._name, self._environment = name, environment
        self._handler: Handler | None = None
        self._weights = HandlerWeights()

    def read(self, request: Request) -> Reading:
        """Return what the handler answers.

        Raises: WeightsReplaced (worth another try), WeightsError, or an error of the handler.
        """
        handler = self._current()
        reading = pipeline.read(request, handler)
        if self._listed(handler) != self._weights:
            raise WeightsReplaced(
                f"study {request.study_instance_uid}: the weights of {self._name} were replaced during the reading; "
                "`ainode retry` reads again"
            )
        return dataclasses.replace(reading, demonstration_weights=self._weights.demonstration)

    def _current(self) -> Handler:
        """Return the handler, built anew if its networks were loaded from other weights."""
        handler = self._handler or registry.handler(self._name, self._environment)
        weights = self._listed(handler)
        if self._handler and weights != self._weights:
            handler = registry.handler(self._name, self._environment)
        self._handler, self._weights = handler, weights
        return handler

    def _listed(self, handler: Handler) -> HandlerWeights:
        return self._environment.weights.of_handler(handler.weights())
