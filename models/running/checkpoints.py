"""Weights from files that cannot run code: safetensors, or torch files read with `weights_only`.

An original is a dict with `model_state_dict` or `state_dict` (a whole training checkpoint), or the table itself. A
pickled model object is refused; the refusal names the command that converts a pickled detector.
"""

from __future__ import annotations

import pickle
import shlex
import sys
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
    f"{shlex.quote(sys.executable)} -m ainode.models.spine_radiograph.checkpoints SOURCE.pt TARGET.safetensors"
)


def state_dict(path: Path) -> StateDict:
    """Return the table of weights in a file, in single precision, without DataParallel's prefix of the keys.

    Raises: CheckpointRefused when the file holds no table of weights or needs unpickling.
    """
    stored = stored_object(path, remedy=_DETECTOR)
    for wrapper in _WRAPPERS:
        if isinstance(stored, dict) and isinstance(stored.get(wrapper), dict):
            stored = stored[wrapper]
    table = tensor_table(stored, f"{path}: neither a state dict nor a dict with {' or '.join(_WRAPPERS)}")
    return {key.removeprefix("module."): value for key, value in table.items()}


def stored_object(path: Path, *, remedy: str) -> object:
    """Return the object in a file of weights; the refusal of a pickled object ends in the sentence `remedy`.

    Raises: CheckpointRefused when the file is absent, is cut short or needs unpickling.
    """
    if not path.is_file():
        raise CheckpointRefused(f"{path}: no such file")
    return _safetensors_content(path) if path.suffix == ".safetensors" else _torch_content(path, remedy)


def tensor_table(stored: object, refusal: str) -> StateDict:
    """Return the object of a file as a table of weights in single precision.

    Raises: CheckpointRefused with the message `refusal` when the object is no table of weights.
    """
    if not isinstance(stored, dict) or not stored or not all(isinstance(v, Tensor) for v in stored.values()):
        raise CheckpointRefused(refusal)
    return {str(key): value.float() if value.is_floating_point() else value for key, value in stored.items()}


def load(network: nn.Module, path: Path) -> nn.Module:
    """Load a file into a network, every weight or none; return the network in evaluation mode.

    Raises: CheckpointRefused as `state_dict` and `with_weights` do.
    """
    return with_weights(network, state_dict(path), str(path))


def with_weights(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> nn.Module:
    """Load every weight of a table into the network; return the network in evaluation mode.

    Raises: CheckpointRefused, naming the first keys that are missing, unknown or of another shape.
    """
    expected = network.state_dict()
    missing = [key for key in expected if key not in weights and not key.endswith("num_batches_tracked")]
    unknown = [key for key in weights if key not in expected]
    misshapen = [key for key in expected if key in weights and weights[key].shape != expected[key].shape]
    if missing or unknown or misshapen:
        raise CheckpointRefused(
            f"{name}: not the weights of this network: {len(missing)} missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}, {len(misshapen)} of another shape {misshapen[:3]}"
        )
    network.load_state_dict(dict(weights), strict=False)
    return network.eval()


def save_half(network: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network's weights as half-precision safetensors."""
    save_table(network.state_dict(), path, dict(metadata or {}))


def save_table(table: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    """Write a table as half-precision safetensors; return the path."""
    half = {key: (value.half() if value.is_floating_point() else value).cpu() for key, value in table.items()}
    save_file({key: value.contiguous() for key, value in half.items()}, path, metadata=metadata)
    # safetensors lets only the owner read a file; the node's own user must read a file that ships.
    path.chmod(0o644)
    return path


def _safetensors_content(path: Path) -> StateDict:
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise CheckpointRefused(f"{path}: not a safetensors file, or cut short: {error}") from error


def _torch_content(path: Path, remedy: str) -> object:
    """Return the content of a torch file of plain values, and of the NumPy scalars that training logs have."""
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [np.dtype, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]
    dtypes = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.bool_)]
    try:
        with torch.serialization.safe_globals([*allowed, *dtypes]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointRefused(
            f"{path}: not a plain table of weights; a pickled object is never opened here. {remedy}"
        ) from error
