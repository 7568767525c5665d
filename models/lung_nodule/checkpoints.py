"""The weights of the nodule's networks: shipped files, or FMCIB's files in each of their layouts."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ainode.models.running.checkpoints import StateDict, stored_object, tensor_table

_PICKLES = (
    "The original's .pkl files are converted once, offline: "
    f"{shlex.quote(sys.executable)} -m ainode.models.lung_nodule.pickles"
)


def weights_table(path: Path) -> StateDict:
    """Return the weights in a file, in single precision, under the encoder's own names.

    FMCIB's layouts are `trunk_state_dict`, and `state_dict` with `model.trunk.` before each key; heads and the
    projection of the pretraining are left out.
    Raises: CheckpointRefused when the file holds no table of weights or needs unpickling.
    """
    stored = stored_object(path, remedy=_PICKLES)
    if isinstance(stored, dict) and "trunk_state_dict" in stored:
        stored = stored["trunk_state_dict"]
    elif isinstance(stored, dict) and isinstance(stored.get("state_dict"), dict):
        plain = {str(key).removeprefix("module."): value for key, value in stored["state_dict"].items()}
        stored = entries_under(plain, "model.trunk.") or entries_under(plain, "trunk.") or plain
    return tensor_table(stored, f"{path}: neither weights nor a dict with trunk_state_dict or state_dict")


def entries_under(stored: Mapping[str, Tensor], prefix: str) -> StateDict:
    """Return the entries whose keys begin with a prefix, under the keys without the prefix."""
    return {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
