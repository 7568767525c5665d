"""The duration of one nodule's reading, by ainode and by the PyTorch that a user would write.

A reading is: patches cut out of the scan, networks, probability, saliency. The baseline is eager PyTorch in
inference_mode; its map comes out of the same forward pass. The original's gradient maps are slower: one backward pass
is a row of its own, and SmoothGrad takes many.
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

from ainode.models.benchmarking import column_titles, table_rows, timings
from ainode.models.errors import PrecisionRefused
from ainode.models.lung_nodule.card import Card, read_card
from ainode.models.lung_nodule.checkpoints import entries_under, weights_table
from ainode.models.lung_nodule.encoder import COMPACT, FMCIB, Encoder, EncoderShape
from ainode.models.lung_nodule.heads import Recurrent
from ainode.models.lung_nodule.model import CubeReader, LungNoduleModel, SliceReader, reference_scans
from ainode.models.lung_nodule.patches import Scan
from ainode.models.lung_nodule.slice_network import ensemble
from ainode.models.running.checkpoints import with_weights
from ainode.models.running.runtime import Execution, Precision, precisions

HEAD = column_titles("reading", reference="eager")

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _GradientRunner:
    """A network run eagerly with a backward pass behind the forward pass, as a gradient map needs."""

    network: nn.Module
    precision: Precision = "f32"
    device: str = "cpu"

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        picture = torch.from_numpy(inputs).requires_grad_()
        outputs = self.network(picture)
        torch.autograd.grad(outputs[0].sum(), picture)
        return tuple(output.detach().numpy() for output in outputs)


def benchmark_rows(
    paths: Mapping[str, Path], *, cache: Path, full_size: bool = False, runs: int = 15, threads: int = 2
) -> list[Sequence[object]]:
    """Return rows under `HEAD` for one scan and for three; `full_size` takes FMCIB's encoder with random weights."""
    torch.set_num_threads(threads)
    card = read_card()
    if full_size:
        paths = _random_fmcib(cache / "benchmark")
    node_models: dict[str, LungNoduleModel] = {}
    for precision in precisions():
        # The model refuses a precision that moves a probability: such a precision has no row.
        with suppress(PrecisionRefused):
            execution = Execution(cache, "cpu", precision, threads)
            node_models[f"ainode, OpenVINO {precision}"] = LungNoduleModel.load(paths, execution=execution)
    eager = LungNoduleModel.load(paths, execution=Execution(cache, "torch-cpu"))
    models = {
        "PyTorch eager, inference_mode, map from the forward pass": eager,
        "PyTorch eager, gradient by autograd": _gradient_model(card, paths, eager),
        **node_models,
    }
    scans = list(reference_scans())
    methods = {name: partial(_probability, model) for name, model in models.items()}
    series_by_title = {"one scan": scans[:1], "three scans": scans}
    return [
        row for title, series in series_by_title.items() for row in table_rows(timings(methods, [series], runs), title)
    ]


def _probability(model: LungNoduleModel, series: Sequence[Scan]) -> float:
    return model.predict(series).probability


def _gradient_model(card: Card, paths: Mapping[str, Path], model: LungNoduleModel) -> LungNoduleModel:
    """Return the same model with its networks in eager PyTorch, a backward pass behind each."""

    def encoder(name: str, shape: EncoderShape, prefix: str) -> _GradientRunner:
        return _GradientRunner(with_weights(Encoder(shape), entries_under(weights_table(paths[name]), prefix), name))

    cube_reader = cast("CubeReader", model.series_reader)
    if "fmcib" in paths:
        reader = CubeReader("fmcib", encoder("fmcib", FMCIB, ""), cube_reader.recurrent, cube_reader.linear)
        return LungNoduleModel(card, reader, reader, "f32", "cpu")
    stored = weights_table(paths["lidc"])
    slices = _GradientRunner(with_weights(ensemble(stored), stored, "lidc"))
    cubes = CubeReader("temporal", encoder("temporal", COMPACT, "encoder."), cube_reader.recurrent)
    return LungNoduleModel(card, SliceReader(slices), cubes, "f32", "cpu")


def _random_fmcib(folder: Path) -> dict[str, Path]:
    """Write the original's networks with seeded random weights, because its weights are not published."""
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
