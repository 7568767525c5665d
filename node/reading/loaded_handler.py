"""A handler with its networks in memory, in step with the manifests. It lives in the reader process."""

import dataclasses

from ainode.node.domain import Handler, Needs, Preparing, Reading, Request
from ainode.node.errors import WeightsReplaced
from ainode.node.reading import registry
from ainode.node.reading.weights import HandlerWeights, ModelEnvironment


class LoadedHandler:
    """Reads with the weights that the manifests list now, and states on each reading which are for demonstration."""

    def __init__(self, name: str, environment: ModelEnvironment) -> None:
        self._name, self._environment = name, environment
        self._handler: Handler | None = None
        self._weights: HandlerWeights | None = None

    @property
    def is_built(self) -> bool:
        """Whether the handler's module was imported and its `build` returned."""
        return self._handler is not None

    def needs(self) -> Needs:
        """Return what the handler needs before it can read a study; no network is loaded.

        Raises: ConfigError.
        """
        return registry.needs(self._name, self._built())

    def prepare(self) -> Needs:
        """Load what the first reading would load, where the handler can; return what the handler needs.

        Raises: ConfigError, or an error of the handler.
        """
        handler, _ = self._current()
        if isinstance(handler, Preparing):
            handler.prepare()
        return self.needs()

    def read(self, request: Request) -> Reading:
        """Return what the handler answers.

        Raises: WeightsReplaced (worth another try), WeightsError, or an error of the handler.
        """
        # The encoders take a second to import, which the answer on the handler's needs does not wait for.
        from ainode.node.reading import pipeline  # noqa: PLC0415

        handler, weights = self._current()
        reading = pipeline.read(request, handler)
        if self._listed(handler) != weights:
            raise WeightsReplaced(
                f"study {request.study_instance_uid}: the weights of {self._name} were replaced during the reading; "
                "`ainode retry` reads again"
            )
        return dataclasses.replace(reading, demonstration_weights=weights.demonstration)

    def _current(self) -> tuple[Handler, HandlerWeights]:
        """Return the handler, built anew if its networks were loaded from other weights; and the weights."""
        handler = self._built()
        weights = self._listed(handler)
        if self._weights not in {None, weights}:
            self._handler = None
            handler = self._built()
        self._weights = weights
        return handler, weights

    def _built(self) -> Handler:
        self._handler = self._handler or registry.handler(self._name, self._environment)
        return self._handler

    def _listed(self, handler: Handler) -> HandlerWeights:
        return self._environment.weights.of_handler(registry.needs(self._name, handler).weights)
