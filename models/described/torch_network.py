"""Networks of torch in a site's file: a TorchScript archive, or the weights of an architecture of timm.

A TorchScript archive is code in torch's own language, which torch runs. What it holds as pickles, torch reads by a
reader of its own, which knows tensors, plain values and the classes of the archive, and imports no Python.
Code is code: only a confined process opens such an archive.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ainode.models.described.answer_range import refuse_probabilities
from ainode.models.described.graph_network import GraphNetwork, graph_network
from ainode.models.described.network import NetworkFile, chosen
from ainode.models.described.script_range import script_step, type_of_numbers
from ainode.models.described.whole_numbers import WholeNumbers, whole_numbers
from ainode.models.errors import CheckpointRefused
from ainode.models.running import checkpoints
from ainode.models.running.conversion import graph_of
from ainode.models.running.runtime import Array, Execution, Recipe
from ainode.models.running.script import Script
from ainode.models.running.weight_files import is_script


@dataclass(frozen=True, slots=True)
class ScriptNetwork:
    """A TorchScript module on the CPU."""

    script: Script
    names: tuple[str, ...]
    whole: WholeNumbers | None = None
    """what the input takes, where it takes no fractions"""

    def renew(self) -> None:
        """Begin a study: nothing of an earlier one is left in the module."""
        self.script.renew()

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return the outputs that are read.

        Raises: CheckpointRefused if they are not there, or the module keeps what it saw.
        """
        # A copy, for a script may write into its input.
        fitting = inputs.copy() if self.whole is None else self.whole.of(inputs)
        outputs = self.script(torch.from_numpy(fitting))
        return tuple(
            np.asarray(output.float().numpy(), np.float32) for output in _tensors(outputs, self.names, self.script.path)
        )

    def maps(self, inputs: Array, /) -> None:
        """Return None: the head of a script is not known."""


def script_network(file: NetworkFile, execution: Execution) -> ScriptNetwork:
    """Return the network of a TorchScript archive.

    Raises: CheckpointRefused if the file is no such archive (a pickled model is not opened), or its code reaches files.
    """
    if not is_script(file.path):
        raise CheckpointRefused(
            f"{file.path.name}: is no TorchScript; a pickled model is never opened here. Save it by torch.jit.save "
            "where you trust it, or export it as ONNX"
        )
    if execution.threads:
        torch.set_num_threads(execution.threads)
    script = Script(file.path)
    graph = script.graph  # its values live as long as the graph is held
    whole = whole_numbers(type_of_numbers(graph), file)
    if file.activation != "none":
        frozen = script.frozen_graph
        refuse_probabilities(script_step(frozen, file.outputs[:1]), file.activation, file.path.name)
    return ScriptNetwork(script, file.outputs, whole)


def _tensors(outputs: object, names: tuple[str, ...], path: Path) -> list[Tensor]:
    """Return the tensors of what a module answers, those of the names in their order.

    A name is a key of a dictionary, a field of a named tuple, or a place in a plain tuple, counted from 0.
    Raises: CheckpointRefused.
    """
    if isinstance(outputs, tuple) and len(outputs) == 2 and outputs[0] == {}:  # noqa: PLR2004
        outputs = outputs[1]  # a scripted detector of torchvision answers with its losses first, none where it reads
    if isinstance(outputs, list) and len(outputs) == 1:  # as torchvision's detectors answer a batch
        (outputs,) = outputs
    tensors = _by_name(outputs)
    if not tensors or not all(isinstance(output, Tensor) for output in tensors.values()):
        raise CheckpointRefused("the network answers with no tensors")
    if isinstance(outputs, Tensor) and len(names) == 1:  # one answer has one meaning, whatever its name
        return [outputs]
    if missing := [name for name in names if name not in tensors]:
        form = "" if isinstance(outputs, dict) else "; a tuple has no names, so its outputs are named by their places"
        raise CheckpointRefused(f"the network has no output {missing[0]!r}; it has {', '.join(tensors)}{form}")
    return [list(tensors.values())[number] for number in chosen(list(tensors), names, path)]


def _by_name(outputs: object) -> dict[str, Any]:
    """Return what a module answers by name; {} if it is no form of tensors."""
    if isinstance(outputs, dict):
        return {str(name): output for name, output in outputs.items()}
    if isinstance(outputs, Tensor):
        return {"0": outputs}
    if not isinstance(outputs, list | tuple):
        return {}
    fields = getattr(outputs, "_fields", None) or map(str, range(len(outputs)))
    return dict(zip(fields, outputs, strict=True))


def timm_network(file: NetworkFile, execution: Execution) -> GraphNetwork:
    """Return an architecture of timm with the weights of a safetensors file, every weight of them or none.

    Raises: CheckpointRefused if timm has no such architecture, or the file holds the weights of another network.
    """
    graph = graph_of(Recipe(lambda: timm_module(file), file.shape, file.architecture))
    return graph_network(graph, file, execution)


def timm_module(file: NetworkFile) -> nn.Module:
    """Return the module of an architecture with its weights.

    Raises: CheckpointRefused.
    """
    from ainode.models.running.torchvision_compat import ensure_nms  # noqa: PLC0415 - few models need timm

    ensure_nms()
    import timm  # noqa: PLC0415 - it imports torchvision, which asks for the operator

    table = checkpoints.state_dict(file.path)
    if file.architecture not in timm.list_models():
        close = ", ".join(timm.list_models(f"*{file.architecture[:6]}*")[:5]) or "see timm.list_models()"
        raise CheckpointRefused(f"{file.path.name}: timm has no architecture {file.architecture!r}; {close}")
    # A name behind a dot would be a download of timm's own weights, and pretrained=True too.
    network = timm.create_model(file.architecture, pretrained=False, num_classes=file.classes, in_chans=file.shape[1])
    return checkpoints.with_weights(network, table, file.path.name)
