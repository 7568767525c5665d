"""Which precision `[reader] precision = "auto"` gives the networks of handlers on this machine."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ainode.node.domain.handler import Preparing
from ainode.node.errors import NodeError
from ainode.node.reading import registry
from ainode.node.reading.boundary import boundary
from ainode.node.reading.precisions import choices
from ainode.node.reading.weights import ModelEnvironment


def choice_rows(models: ModelEnvironment, handlers: Iterable[str]) -> Iterator[Sequence[object]]:
    """Yield a row for each network that has a choice, measured now; networks that run in f32 alone have none."""
    with tempfile.TemporaryDirectory() as folder:
        measured = replace(models, cache=Path(folder), precision="auto")
        for name in handlers:
            # The table of the model says why it cannot be loaded.
            with suppress(NodeError), boundary(name, "in prepare()", NodeError):
                handler = registry.handler(name, measured)
                if isinstance(handler, Preparing):
                    handler.prepare()
        for choice in choices(Path(folder)):
            yield choice.row
