"""Weights from files that cannot run code: safetensors, or torch files read with `weights_only`."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ainode.models.errors import CheckpointRefused

Table = dict[str, Tensor]

_CONVERT = "python -m ainode.models.lung_nodule.pickles"


def table(path: Path) -> Table:
    """Return the weights in a file, in single precision, under the encoder's own names.

    Of FMCIB's layouts: `trunk_state_dict`, and `state_dict` with `model.trunk.` before each key; heads and the
    projection of the pretraining are left out.
    Raises: CheckpointRefused when the file is no such table or would need unpickling.
    """
    if not path.is_file():
        raise CheckpointRefused(f"{path.name}: no such file")
    stored = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    return {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}


def under(stored: Mapping[str, Tensor], prefix: str) -> Table:
    """Return the part of a table whose keys begin with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}


def loaded(network: nn.Module, stored: Mapping[str, Tensor], name: str) -> nn.Module:
    """Return the network with every weight from a table, in evaluation mode.

    Raises: CheckpointRefused, naming the first keys that are missing, unknown or of another shape.
    """
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in stored and not key.endswith("num_batches_tracked")]
    unknown = [key for key in stored if key not in wanted]
    wrong = [key for key in wanted if key in stored and stored[key].shape != wanted[key].shape]
    if missing or unknown or wrong:
        raise CheckpointRefused(
            f"{name}: not the weights of this network: {len(missing)} missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}, {len(wrong)} of another shape {wrong[:3]}"
        )
    network.load_state_dict(dict(stored), strict=False)
    return network.eval()


def save_half(stored: Mapping[str, Tensor], path: Path) -> Path:
    """Write a table as half-precision safetensors that everyone may read; return the path."""
    half = {k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in stored.items()}
    save_file(half, path)
    path.chmod(0o644)
    return path


def _safetensors(path: Path) -> Table:
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise CheckpointRefused(f"{path.name}: not a safetensors file, or cut short: {error}") from error


def _torch_file(path: Path) -> Table:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointRefused(
            f"{path.name}: not a plain table of weights; a pickled object is never opened here. "
            f"The original's .pkl files are converted once, offline: {_CONVERT}"
        ) from error
    if isinstance(stored, dict) and "trunk_state_dict" in stored:
        stored = stored["trunk_state_dict"]
    elif isinstance(stored, dict) and isinstance(stored.get("state_dict"), dict):
        plain = {str(key).removeprefix("module."): value for key, value in stored["state_dict"].items()}
        stored = under(plain, "model.trunk.") or under(plain, "trunk.") or plain
    if not isinstance(stored, dict) or not stored or not all(isinstance(v, Tensor) for v in stored.values()):
        raise CheckpointRefused(f"{path.name}: neither weights nor a dict with trunk_state_dict or state_dict")
    return {str(key): value for key, value in stored.items()}
