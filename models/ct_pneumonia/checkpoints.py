"""Weights of the whole network or of the DCG alone, from shipped files or the original's files.

The original wrote `best_dcg_model.pth` (the DCG), `best_diffusion_model2.pth` (the whole network) and `final_model.pth`
(the whole network, as `model_state_dict` beside its results); keys and shapes are the same here.
"""

from __future__ import annotations

from pathlib import Path

from ainode.models.ct_pneumonia.dcg import SIZES, Dcg, Size
from ainode.models.ct_pneumonia.diffusion import POINTS, Pneumonia, distances
from ainode.models.errors import CheckpointRefused
from ainode.models.running.checkpoints import load, save_half

__all__ = ["load_dcg", "load_pneumonia", "save_half"]


def load_pneumonia(path: Path, size: str, *, original: bool = False) -> Pneumonia:
    """Return the whole network with a file's weights, in evaluation mode.

    The guidance map's distances are a table, not weights: the distances are always this code's, not the file's.
    Raises: CheckpointRefused when the file needs unpickling or holds another network.
    """
    network = Pneumonia(_size(size), original=original)
    load(network, path)
    network.prior_gen.dense_map_gen.distance_matrix.copy_(distances(POINTS, original=original))
    return network


def load_dcg(path: Path, size: str, *, original: bool = False) -> Dcg:
    """Return the DCG with a file's weights, in evaluation mode.

    Raises: CheckpointRefused when the file needs unpickling or holds another network.
    """
    network = Dcg(_size(size), original=original)
    load(network, path)
    return network


def _size(name: str) -> Size:
    if name not in SIZES:
        raise CheckpointRefused(f"no network of size {name!r}: {', '.join(SIZES)}")
    return SIZES[name]
