"""A bundle's weights: safetensors beside the configuration's network, or a TorchScript program; never a pickle.

A TorchScript file is a program for torch's own interpreter. It is opened in the process that reads, which the node
confines, and nowhere else: `refuse_unfit` reads its code as data.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import nn

from ainode.models.errors import CheckpointRefused
from ainode.models.running import checkpoints
from ainode.models.running.script_archive import read_archive
from ainode.models.running.weight_files import is_script, weight_shapes

SUFFIXES: Final = (".safetensors", ".ts")
PICKLES: Final = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth", ".tar"})
CONVERSION: Final = (
    f"convert the weights once, where you trust them: {shlex.quote(sys.executable)} -m ainode.models.bundles.weights "
    "MODEL.pt MODEL.safetensors (it reads a plain table of weights and runs nothing of the file), and give the new "
    "file by --weights"
)
_WRAPPERS: Final = ("model_state_dict", "state_dict", "model", "network")


def refuse_unfit(path: Path) -> None:
    """Return if a file is what its name says: safetensors or TorchScript.

    Raises: CheckpointRefused.
    """
    if path.suffix in PICKLES:
        raise CheckpointRefused(f"{path.name}: a pickle, which is a program; {CONVERSION}")
    if path.suffix == ".safetensors":
        weight_shapes(path)
    elif path.suffix == ".ts":
        if not is_script(path):
            raise CheckpointRefused(f"{path.name}: not a TorchScript file: no archive, or pickles alone; {CONVERSION}")
        read_archive(path)
    elif path.suffix not in SUFFIXES:
        raise CheckpointRefused(f"{path.name}: {' or '.join(SUFFIXES)} is read")


def refuse_others(network: nn.Module, path: Path) -> None:
    """Return if a safetensors file has the weights of a network without memory, by names and shapes.

    Raises: CheckpointRefused, naming the first that differ.
    """
    try:
        empty = {key: torch.empty(shape, device="meta") for key, shape in weight_shapes(path).items()}
    except (OverflowError, RuntimeError, TypeError) as error:
        raise CheckpointRefused(f"{path.name}: its header has sizes that no weights have") from error
    checkpoints.with_weights(network, empty, path.name)


def converted(source: Path, target: Path) -> int:
    """Write the table of weights in a `torch.save` file as safetensors; return how many weights it has.

    Only a plain table is read (`weights_only`): a file that asks for any other object is refused, and nothing of it
    runs.
    Raises: CheckpointRefused.
    """
    stored = checkpoints.stored_object(source, remedy="A bundle's weights are a state dict; ask who made it for one.")
    for wrapper in _WRAPPERS:
        if isinstance(stored, dict) and isinstance(stored.get(wrapper), dict):
            stored = stored[wrapper]
    table = checkpoints.tensor_table(stored, f"{source}: neither a state dict nor a dict with one")
    save_file({key.removeprefix("module."): value.clone().contiguous() for key, value in table.items()}, target)
    target.chmod(0o644)
    return len(table)


def main() -> None:
    """Run the documented command."""
    parser = argparse.ArgumentParser(description="Convert a bundle's table of weights to safetensors.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    try:
        count = converted(arguments.source, arguments.target)
    except CheckpointRefused as error:
        sys.exit(f"refused: {error}")
    print(f"{arguments.target}: {count} weights")  # noqa: T201  # a command's answer


if __name__ == "__main__":
    main()
