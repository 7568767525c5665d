"""A handler with its networks in memory, in step with the manifests. It lives in the reader process."""

import dataclasses

from ainode.node.domain import Handler, Needs, OnEarly, Preparing, Reading, Request, nothing_early
from ainode.node.errors import ConfigError, WeightsReplaced
from ainode.node.reading import registry
from ainode.node.reading.confinement import Bounds, confine
from ainode.node.reading.weights import HandlerWeights, ModelEnvironment


class LoadedHandler:
    """Reads with the weights that the manifests list now, and states on each reading which are for demonstration."""

    def __init__(self, name: str, environment: ModelEnvironment, bounds: Bounds | None = None) -> None:
        """Import nothing yet; with `bounds`, the process is to be confined before its first question."""
        self._name, self._environment, self._bounds = name, environment, bounds
        self._handler: Handler | None = None
        self._weights: HandlerWeights | None = None

    @property
    def is_built(self) -> bool:
        """Whether the handler's module was imported and its `build` returned."""
        return self._handler is not None

    def confine(self) -> None:
        """Confine this process once, if its handler is of others: then networks are kept in a folder of the handler.

        Raises: ConfigError.
        """
        if self._bounds:
            folder = self._environment.cache / self._name
            try:
                confine(folder, self._bounds, self._environment.data)
            except OSError as error:
                raise ConfigError(
                    f"handler {self._name!r}: it cannot be confined to {folder}: {error.strerror}"
                ) from error
            self._environment, self._bounds = dataclasses.replace(self._environment, cache=folder), None

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

    def read(self, request: Request, on_early: OnEarly = nothing_early) -> Reading:
        """Return what the handler answers.

        Raises: WeightsReplaced (worth another try), WeightsError, or an error of the handler.
        """
        # The encoders take a second to import, which the answer on the handler's needs does not wait for.
        from ainode.node.reading import pipeline  # noqa: PLC0415

        handler, weights = self._current()

        def tell(early: Reading) -> None:
            if self._listed(handler) == weights:  # else the reading is refused, and says so
                on_early(dataclasses.replace(early, demonstration_weights=weights.demonstration))

        reading = pipeline.read(request, handler, tell)
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
