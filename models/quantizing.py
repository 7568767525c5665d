"""Makes int8 graphs of 2D networks, for `[reader] precision = "auto"`, in an environment of the extra `quantize`.

python -m ainode.models.quantizing spine_radiograph --networks FOLDER
python -m ainode.models.quantizing ct_tumor --data DIR --networks FOLDER

FOLDER is the node's folder of converted networks (`networks` in its data folder, or `[reader] networks`). OpenVINO's
NNCF measures the ranges on pictures of the train part; a part of the train part that it has not seen judges. Only a
graph that moves no probability of the reference inputs by more than 0.005, and whose AUC lies within the interval of
f32's, is kept; else the command says by how much it failed, and exits with 1. No reading imports NNCF.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import read_card as tumor_card
from ainode.models.ct_tumor.dataset import read_slices
from ainode.models.ct_tumor.model import TumorModel, network_form, reference_answers, reference_slices
from ainode.models.ct_tumor.preprocess import network_input
from ainode.models.running.graph_cache import cached_graph, keep_graph
from ainode.models.running.keras_network import metadata_of
from ainode.models.running.keras_serving import Network, shipped_recipe
from ainode.models.running.precision import CHOICES, distance
from ainode.models.running.runtime import (
    AGREEMENT,
    Array,
    Execution,
    Recipe,
    Runner,
    converted_graph,
    quantized_place,
    runner,
    sha256_of,
)
from ainode.models.spine_radiograph.card import Card, read_card
from ainode.models.spine_radiograph.dataset import phantom
from ainode.models.spine_radiograph.model import (
    ensemble_recipe,
    probabilities,
    reference_pictures,
    weights_in,
)
from ainode.models.spine_radiograph.preprocess import classifier_input
from ainode.models.training.metrics import Estimate, auc, bootstrap_estimate

_CALIBRATION, _JUDGES = 300, 400
# Phantoms of the training's stream, seed 0: the first ones calibrate, these judge.
_FIRST_JUDGE: Final = 5000

Quantize = Callable[[Any, Sequence[Array]], Any]
"""makes an int8 graph of a graph and inputs; openvino has no stubs"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A network, and what an int8 graph of it is made and judged with.

    Shapes: calibration, inputs of the graph; labels (n,), 1 is ill; groups (n,), a word per patient; `reference` gives
    the probabilities of the reference inputs (m, ...), `held_out` those of the judging pictures (n,).
    """

    name: str
    recipe: Recipe
    calibration: Sequence[Array]
    labels: NDArray[Any]
    groups: NDArray[Any]
    reference: Callable[[Runner], NDArray[np.float64]]
    held_out: Callable[[Runner], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How an int8 graph answers beside f32: the farthest move of a probability of the reference inputs, and the AUC."""

    reference_gap: float
    mean_gap: float
    farthest_gap: float
    """both of the judging pictures"""
    exact: Estimate
    quantized: Estimate

    @property
    def refusal(self) -> str:
        """Return why the graph is not kept; '' if it is."""
        if not self.reference_gap <= AGREEMENT:
            return f"it moves a probability of the reference inputs by {self.reference_gap:.4f}, more than {AGREEMENT}"
        if not self.exact.low <= self.quantized.value <= self.exact.high:
            return f"its AUC {self.quantized.value:.3f} lies outside of f32's {self.exact}"
        return ""

    def __str__(self) -> str:
        """Return the figures in a sentence."""
        return (
            f"reference inputs moved by up to {self.reference_gap:.4f}; pictures of the train part left out by "
            f"{self.mean_gap:.4f} in the mean and {self.farthest_gap:.4f} at most; AUC there {self.quantized}, "
            f"f32 {self.exact}"
        )


def quantized(subject: Subject, quantize: Quantize, cache: Path) -> Judgement:
    """Make an int8 graph and return its judgement; a graph that is not refused is kept in the cache."""
    graph = quantize(converted_graph(subject.recipe, cache), subject.calibration)
    trial = cache / "trial.part"
    shutil.rmtree(trial, ignore_errors=True)
    try:
        folder, origin = quantized_place(subject.recipe, trial)
        keep_graph(graph, folder, origin)
        exact = runner(subject.recipe, Execution(cache, "cpu", "f32"))
        low = runner(subject.recipe, Execution(trial, "cpu", "int8"))
        judgement = judged(subject, exact, low)
        if not judgement.refusal:
            keep_graph(cached_graph(folder), *quantized_place(subject.recipe, cache))
            # Every network is measured anew: none of the choices knew of this graph.
            shutil.rmtree(cache / CHOICES, ignore_errors=True)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return judgement


def judged(subject: Subject, exact: Runner, low: Runner) -> Judgement:
    """Return how a network answers in a low precision beside f32."""
    scores, low_scores = subject.held_out(exact), subject.held_out(low)
    gaps = np.abs(low_scores - scores)
    estimates = (bootstrap_estimate(auc, subject.labels, each, subject.groups) for each in (scores, low_scores))
    gap = distance(subject.reference(low), subject.reference(exact))
    return Judgement(gap, float(gaps.mean()), float(gaps.max()), *estimates)


def nncf_quantize(graph: Any, inputs: Sequence[Array]) -> Any:  # noqa: ANN401  # openvino has no stubs
    """Return an int8 graph by NNCF's quantization after the training."""
    # NNCF reports each use to its maker's server, except where this variable is set before the import.
    os.environ["NNCF_CI"] = "1"
    import nncf  # noqa: PLC0415  # of the extra `quantize`

    preset = nncf.QuantizationPreset.MIXED
    return nncf.quantize(graph, nncf.Dataset(list(inputs)), preset=preset, subset_size=len(inputs))


def spine_subject() -> Subject:
    """Return the ensemble of the spine, with phantoms: its shipped weights have seen nothing else."""
    card = read_card()
    paths = weights_in(Path(str(resources.files("ainode.weights"))), card)
    recipe = ensemble_recipe(card, paths, {name: sha256_of(path) for name, path in paths.items()})
    judges = [phantom(0, "train", _FIRST_JUDGE + number) for number in range(_JUDGES)]
    shown = [_shown(card, judge.image) for judge in judges]
    references = [_shown(card, picture) for picture in reference_pictures()]
    return Subject(
        card.name,
        recipe,
        [_shown(card, phantom(0, "train", number).image) for number in range(_CALIBRATION)],
        np.asarray([judge.abnormal for judge in judges]),
        np.arange(_JUDGES),
        lambda run: probabilities(card, run, references),
        lambda run: probabilities(card, run, shown),
    )


def _shown(card: Card, picture: NDArray[Any]) -> Array:
    return classifier_input(picture.astype(np.float32), card.side, card.resize)


def tumor_subject(data: Path) -> Subject:
    """Return the network of the lung's slices, with the train part of IQ-OTH/NCCD; a fifth of the patients judges."""
    organ = tumor_card().organ("lung")
    path = Path(str(resources.files("ainode.weights"))) / "ct_tumor_lung.safetensors"
    calibration = Calibration.of(metadata_of(path))
    digest = sha256_of(path)
    form = network_form(organ, digest)
    slices = read_slices(data, "train", organ)
    patients = np.unique(slices.groups)
    judging = np.random.default_rng(0).permutation(patients)[: max(1, len(patients) // 5)]
    is_judge = np.isin(slices.groups, judging)
    squares = slices.pictures[~is_judge][np.random.default_rng(0).permutation(int((~is_judge).sum()))[:_CALIBRATION]]
    batches = range(0, len(squares) - form.batch + 1, form.batch)

    def model(run: Runner) -> TumorModel:
        return TumorModel(organ, calibration, digest, Network(run))

    return Subject(
        f"ct_tumor {organ.name}",
        shipped_recipe(path, form),
        [network_input(squares[first : first + form.batch]) for first in batches],
        slices.labels[is_judge] == organ.positive_index,
        slices.groups[is_judge],
        lambda run: reference_answers(model(run), reference_slices()),
        lambda run: model(run).probabilities(slices.pictures[is_judge])[:, organ.positive_index],
    )


def main() -> int:
    """Run the documented command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("spine_radiograph", "ct_tumor"))
    parser.add_argument(
        "--data", type=Path, help="the labelled slices of the lung, as `ainode train ct_tumor` takes them"
    )
    parser.add_argument("--networks", type=Path, required=True, help="the node's folder of converted networks")
    arguments = parser.parse_args()
    if arguments.model == "ct_tumor" and arguments.data is None:
        parser.error("ct_tumor needs --data")
    subject = spine_subject() if arguments.model == "spine_radiograph" else tumor_subject(arguments.data)
    judgement = quantized(subject, nncf_quantize, arguments.networks)
    print(f"{subject.name}, int8: {judgement}")  # noqa: T201  # a command's answer
    print(f"not kept: {judgement.refusal}" if judgement.refusal else "kept")  # noqa: T201  # a command's answer
    return 1 if judgement.refusal else 0


if __name__ == "__main__":
    raise SystemExit(main())
