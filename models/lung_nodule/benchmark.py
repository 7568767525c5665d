"""How long one nodule's reading takes, ours beside what a user would write.

A reading is: patches cut out of the scan, networks, probability, saliency. The baseline is eager PyTorch in
inference_mode whose map comes of the same forward pass: a stronger one than the original's gradients (one backward pass
is timed here as a row of its own; SmoothGrad took many).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from ainode.models.benchmarking import head, rows, timed
from ainode.models.errors import PrecisionRefused
from ainode.models.lung_nodule.card import Card, read_card
from ainode.models.lung_nodule.checkpoints import table, under
from ainode.models.lung_nodule.encoder import COMPACT, FMCIB, Encoder, EncoderShape
from ainode.models.lung_nodule.heads import Recurrent
from ainode.models.lung_nodule.model import CubeReader, LungNoduleModel, SliceReader, reference_scans
from ainode.models.lung_nodule.patches import Scan
from ainode.models.lung_nodule.slice_network import ensemble
from ainode.models.running.checkpoints import loaded
from ainode.models.running.runtime import Execution, Precision, precisions

HEAD = head("reading", pick="eager")

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _WithGradients:
    """A network run eagerly, whose backward pass is paid for as well: what a gradient map costs."""

    network: nn.Module
    precision: Precision = "f32"
    device: str = "cpu"

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        asked = torch.from_numpy(inputs).requires_grad_()
        outputs = self.network(asked)
        torch.autograd.grad(outputs[0].sum(), asked)
        return tuple(one.detach().numpy() for one in outputs)


def measured(
    paths: Mapping[str, Path], *, cache: Path, full_size: bool = False, runs: int = 15, threads: int = 2
) -> list[Sequence[object]]:
    """Return rows of `HEAD` for one scan and for three; `full_size` takes FMCIB's encoder with random weights."""
    torch.set_num_threads(threads)
    card = read_card()
    if full_size:
        paths = _random_fmcib(cache / "benchmark")
    ours: dict[str, LungNoduleModel] = {}
    for one in precisions():
        # A precision that moves a probability is refused by the model: then there is nothing to time.
        with suppress(PrecisionRefused):
            execution = Execution(cache, "cpu", one, threads)
            ours[f"ainode, OpenVINO {one}"] = LungNoduleModel.load(paths, execution=execution)
    eager = LungNoduleModel.load(paths, execution=Execution(cache, "torch-cpu"))
    ways = {
        "PyTorch eager, inference_mode, map from the forward pass": eager,
        "PyTorch eager, gradient by autograd": _with_gradients(card, paths, eager),
        **ours,
    }
    scans = list(reference_scans())
    reads = {name: partial(_probability, model) for name, model in ways.items()}
    readings = {"one scan": scans[:1], "three scans": scans}
    return [row for said, series in readings.items() for row in rows(timed(reads, [series], runs), said)]


def _probability(model: LungNoduleModel, series: Sequence[Scan]) -> float:
    return model.predict(series).probability


def _with_gradients(card: Card, paths: Mapping[str, Path], like: LungNoduleModel) -> LungNoduleModel:
    """Return the same model with its networks in eager PyTorch, a backward pass behind each."""

    def encoder(name: str, shape: EncoderShape, prefix: str) -> _WithGradients:
        return _WithGradients(loaded(Encoder(shape), under(table(paths[name]), prefix), name))

    several = cast("CubeReader", like.several)
    if "fmcib" in paths:
        reader = CubeReader("fmcib", encoder("fmcib", FMCIB, ""), several.recurrent, several.linear)
        return LungNoduleModel(card, reader, reader, "f32", "cpu")
    stored = table(paths["lidc"])
    slices = _WithGradients(loaded(ensemble(stored), stored, "lidc"))
    cubes = CubeReader("temporal", encoder("temporal", COMPACT, "encoder."), several.recurrent)
    return LungNoduleModel(card, SliceReader(slices), cubes, "f32", "cpu")


def _random_fmcib(folder: Path) -> dict[str, Path]:
    """Write the original's networks with seeded random weights: none of its weights can be had."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    features = FMCIB.features
    scaler = {"scaler.mean": torch.zeros(features), "scaler.scale": torch.ones(features)}
    tables = {
        "fmcib": Encoder(FMCIB).state_dict(),
        "fmcib_recurrent": scaler | {f"0.{k}": v for k, v in Recurrent(features, 128, 64).state_dict().items()},
        "fmcib_linear": scaler | {"linear.weight": torch.randn(features) / features, "linear.bias": torch.zeros(1)},
    }
    paths = {name: folder / f"{name}.safetensors" for name in tables}
    for name, path in paths.items():
        save_file(tables[name], path)
    return paths
