"""Weights from files that cannot run code: safetensors, or torch files read with `weights_only`.

Originals are a dict with `model_state_dict` or `state_dict` (whole training checkpoints) or the bare table. A pickled
model object is refused, with the command that converts the one kind that can be.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ainode.models.errors import CheckpointRefused

StateDict = dict[str, Tensor]

_WRAPPERS = ("model_state_dict", "state_dict")
_DETECTOR = (
    "If it is an ultralytics detector, convert it once, offline: "
    "python -m ainode.models.spine_radiograph.checkpoints SOURCE.pt TARGET.safetensors"
)


def state_dict(path: Path) -> StateDict:
    """Return the table of weights in a file, in single precision, without the prefix that DataParallel gives.

    Raises: CheckpointRefused when the file is no such table or would need unpickling.
    """
    stored = opened(path, remedy=_DETECTOR)
    for wrapper in _WRAPPERS:
        if isinstance(stored, dict) and isinstance(stored.get(wrapper), dict):
            stored = stored[wrapper]
    table = tensors(stored, f"{path}: neither a state dict nor a dict with {' or '.join(_WRAPPERS)}")
    return {key.removeprefix("module."): value for key, value in table.items()}


def opened(path: Path, *, remedy: str) -> object:
    """Return what a file holds; `remedy` says what to do with one that holds a pickled object.

    Raises: CheckpointRefused when it is not there, is cut short or would need unpickling.
    """
    if not path.is_file():
        raise CheckpointRefused(f"{path}: no such file")
    return _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path, remedy)


def tensors(stored: object, refusal: str) -> StateDict:
    """Return a table of weights in single precision.

    Raises: CheckpointRefused, in these words, when it is none.
    """
    if not isinstance(stored, dict) or not stored or not all(isinstance(v, Tensor) for v in stored.values()):
        raise CheckpointRefused(refusal)
    return {str(key): value.float() if value.is_floating_point() else value for key, value in stored.items()}


def load(network: nn.Module, path: Path) -> nn.Module:
    """Load a file into a network, every weight or none, and return it in evaluation mode.

    Raises: CheckpointRefused as `state_dict` and `loaded`.
    """
    return loaded(network, state_dict(path), str(path))


def loaded(network: nn.Module, table: Mapping[str, Tensor], name: str) -> nn.Module:
    """Return the network with every weight from a table, in evaluation mode.

    Raises: CheckpointRefused, naming the first keys that are missing, unknown or of another shape.
    """
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in table and not key.endswith("num_batches_tracked")]
    unknown = [key for key in table if key not in wanted]
    wrong = [key for key in wanted if key in table and table[key].shape != wanted[key].shape]
    if missing or unknown or wrong:
        raise CheckpointRefused(
            f"{name}: not the weights of this network: {len(missing)} missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}, {len(wrong)} of another shape {wrong[:3]}"
        )
    network.load_state_dict(dict(table), strict=False)
    return network.eval()


def save_half(network: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network's weights as half-precision safetensors."""
    save_table(network.state_dict(), path, dict(metadata or {}))


def save_table(table: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    """Write a table as half-precision safetensors; return the path."""
    half = {key: (value.half() if value.is_floating_point() else value).cpu() for key, value in table.items()}
    save_file({key: value.contiguous() for key, value in half.items()}, path, metadata=metadata)
    # safetensors writes for the owner only; what ships must be readable by the node's own user.
    path.chmod(0o644)
    return path


def _safetensors(path: Path) -> StateDict:
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise CheckpointRefused(f"{path}: not a safetensors file, or cut short: {error}") from error


def _torch_file(path: Path, remedy: str) -> object:
    """Read a torch file of plain values; NumPy scalars are let in, since training logs have them."""
    scalar = np.float64(0).__reduce__()[0]
    plain: list[Any] = [np.dtype, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]
    dtypes = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.bool_)]
    try:
        with torch.serialization.safe_globals([*plain, *dtypes]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointRefused(
            f"{path}: not a plain table of weights; a pickled object is never opened here. {remedy}"
        ) from error
