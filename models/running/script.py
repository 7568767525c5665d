"""A TorchScript module of a site's file, whose answer to an input hangs on that input and on nothing before it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ainode.models.errors import CheckpointRefused
from ainode.models.running.script_archive import read_archive
from ainode.models.running.script_memory import may_keep

_LONGEST_REASON = 200


class Script:
    """A TorchScript module that is loaded anew for each study, or each answer, from the bytes that were read once."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        """Load the module once.

        Raises: CheckpointRefused if the archive's code reaches beyond tensors, or torch cannot load it.
        """
        self.path, self._device = path, device
        self._content = read_archive(path)
        self._module = self._loaded()
        self._is_used = False
        self._buffers = {name: buffer.clone() for name, buffer in self._module.named_buffers()}
        weights = {name.rpartition(".")[2] for name, _ in self._module.named_parameters()}
        watched = {name.rpartition(".")[2] for name in self._buffers} - weights
        graph = self.graph  # its values live as long as the graph is held
        self._may_keep = may_keep(graph, watched)

    @property
    def graph(self) -> Any:  # noqa: ANN401 - torch has no type for it
        """The operators of the module in their order, those of its parts among them."""
        return self._module.inlined_graph

    @property
    def frozen_graph(self) -> Any:  # noqa: ANN401
        """The operators of the module with its attributes as constants, without branches that these decide."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                return torch.jit.freeze(self._module, optimize_numerics=False).graph
            except RuntimeError:  # an attribute that the module itself changes cannot be a constant
                return self.graph

    def renew(self) -> None:
        """Begin a study: nothing of an earlier one is left in the module, its code or its constants."""
        if self._is_used:
            self._module = self._loaded()
            self._is_used = False

    def __call__(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - what a module answers
        """Return what the module answers; one that may keep what it saw is loaded anew before.

        Memory that the module asks for and does not fill holds NaN, not what lay there.
        Raises: CheckpointRefused if its buffers are no more what they were.
        """
        if self._may_keep:
            self.renew()
        self._is_used = True
        with torch.no_grad(), _repeatable():
            outputs = self._module(*inputs)
        changed = [name for name, buffer in self._module.named_buffers() if not _is_same(buffer, self._buffers[name])]
        if changed:
            raise CheckpointRefused(
                f"{self.path.name}: keeps what it saw ({changed[0]}), so that the next answer hangs on this image; "
                "export it in evaluation mode: model.eval()"
            )
        return outputs

    def _loaded(self) -> Any:  # noqa: ANN401 - torch has no stubs for it
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torch has deprecated what it still reads
                return torch.jit.load(io.BytesIO(self._content), map_location=self._device).eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[-1][:_LONGEST_REASON]
            raise CheckpointRefused(
                f"{self.path.name}: torch cannot load it: {line}; export it anew by this torch or an older one"
            ) from error


@contextmanager
def _repeatable() -> Iterator[None]:
    """Give random numbers and unfilled memory no past."""
    is_deterministic, is_warning = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng(devices=()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(is_deterministic, warn_only=is_warning)


def _is_same(values: Tensor, before: Tensor) -> bool:
    if values.shape != before.shape or values.dtype != before.dtype:
        return False
    is_float = values.is_floating_point()
    return torch.equal(values, before) or (is_float and torch.allclose(values, before, rtol=0, atol=0, equal_nan=True))
