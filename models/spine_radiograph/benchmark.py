"""The duration of one whole spine read, by ainode and by the PyTorch that a user would write.

A read is: preparation, three classifiers with their map, the detector (always on here), boxes. The baseline is eager
PyTorch in inference_mode; its map comes out of the same forward pass. The usual Grad-CAM needs a backward pass: that
slower baseline is a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ainode.models.benchmarking import Table, column_titles, table_rows, timings
from ainode.models.errors import PrecisionRefused
from ainode.models.phantoms.spine import spine_radiograph
from ainode.models.running.checkpoints import load
from ainode.models.running.runtime import Execution, Precision, Recipe, Runner, precisions, runner
from ainode.models.running.saliency import weighted_map
from ainode.models.spine_radiograph.card import Card, Network, read_card
from ainode.models.spine_radiograph.detector import Detector
from ainode.models.spine_radiograph.detector_network import GrayDetector, yolo
from ainode.models.spine_radiograph.model import SpineRadiographModel, sigmoid
from ainode.models.spine_radiograph.network import Ensemble, classifier
from ainode.models.spine_radiograph.preprocess import Picture, Placement, classifier_input, map_on_source_grid

# The original's networks, timed with seeded random weights: the original's weights are not published.
_FULL_SIZE = (
    Network("densenet121", "densenet121", 0.42, ""),
    Network("tf_efficientnetv2_s", "tf_efficientnetv2_s", 0.32, ""),
    Network("resnet50", "resnet50", 0.26, ""),
)
_FULL_SIDE = 640


def benchmark(
    paths: Mapping[str, Path], *, cache: Path, full_size: bool = False, runs: int = 15, threads: int = 2
) -> Table:
    """Return a row per method: eager, eager with Grad-CAM, OpenVINO f32, and bf16 where processor and model take it.

    `paths` are the shipped weights by network name; `full_size` ignores them.
    """
    torch.set_num_threads(threads)
    card = full_size_card(read_card()) if full_size else read_card()
    ensemble, detector = _modules(card, None if full_size else paths)
    detect = _eager_runner(detector)
    methods = {
        "PyTorch eager, inference_mode, map from the forward pass": _whole_read(card, _eager_runner(ensemble), detect),
        "PyTorch eager, Grad-CAM by autograd": _whole_read(card, _GradCam(ensemble), detect),
    }
    label = "full size" if full_size else "shipped"
    graph_cache = cache / f"benchmark {label}"
    for precision in precisions() if full_size else _agreeing(paths, cache, threads):
        methods[f"ainode, OpenVINO {precision}"] = _ainode_read(
            card, ensemble, detector, Execution(graph_cache, "cpu", precision, threads)
        )
    return Table(column_titles("networks", reference="eager"), table_rows(timings(methods, _pictures(), runs), label))


def _agreeing(paths: Mapping[str, Path], cache: Path, threads: int) -> Iterator[Precision]:
    """Yield the precisions that the shipped weights are served in; a refused one has no row."""
    for precision in precisions():
        with suppress(PrecisionRefused):
            SpineRadiographModel.load(paths, execution=Execution(cache, "cpu", precision, threads))
            yield precision


def full_size_card(card: Card) -> Card:
    """Return the card with the original's networks and sizes."""
    detector = replace(card.detector, architecture="yolo11l", side=_FULL_SIDE)
    return replace(card, networks=_FULL_SIZE, detector=detector, side=224)


def _modules(card: Card, paths: Mapping[str, Path] | None) -> tuple[Ensemble, nn.Module]:
    """Return ensemble and detector, with the weights in `paths` or with seeded random weights."""
    torch.manual_seed(0)
    members = {n.name: classifier(n.architecture).eval() for n in card.networks}
    detector = yolo(card.detector.architecture, len(card.detector.class_names)).eval()
    if paths is not None:
        members = {name: load(network, paths[name]) for name, network in members.items()}
        detector = load(detector, paths["detector"])
    return Ensemble(members, card.mean, card.std).eval(), GrayDetector(detector).eval()


def _whole_read(card: Card, classify: Runner, detect: Runner) -> Callable[[Picture], float]:
    """Return a function that does one whole read of a picture and returns its probability."""
    shares = [network.weight for network in card.networks]
    detector_card = card.detector
    confidences, iou = detector_card.confidences, detector_card.iou
    detector = Detector(lambda x: detect(x)[0], detector_card.class_names, detector_card.side, confidences, iou)

    def read(pixels: Picture) -> float:
        logits, maps = classify(classifier_input(pixels, card.side, card.resize))
        rows, columns = pixels.shape
        map_on_source_grid(weighted_map(maps[0], shares), Placement((1.0, 1.0), (0.0, 0.0), (rows, columns)))
        detector(pixels)
        return float(np.dot(sigmoid(logits[0]), shares))

    return read


def _runner(module: nn.Module, side: int, execution: Execution) -> Runner:
    key = f"benchmark {sum(float(p.detach().double().abs().sum()) for p in module.parameters())}"
    return runner(Recipe(lambda: module, (1, 1, side, side), key), execution)


def _ainode_read(
    card: Card, ensemble: Ensemble, detector: nn.Module, execution: Execution
) -> Callable[[Picture], float]:
    """Return the whole read by ainode's runners."""
    return _whole_read(card, _runner(ensemble, card.side, execution), _runner(detector, card.detector.side, execution))


def _eager_runner(module: nn.Module) -> Runner:
    return runner(Recipe(lambda: module, (), ""), Execution(Path(), "torch-cpu"))


@dataclass(frozen=True, slots=True)
class _GradCam:
    """The ensemble with Grad-CAM by autograd, as the usual package does it."""

    ensemble: Ensemble
    precision: Precision = "f32"
    device: str = "cpu"

    def __call__(self, inputs: Picture, /) -> tuple[Picture, ...]:
        normalized = (torch.from_numpy(inputs) - self.ensemble.mean) / self.ensemble.std
        logits, maps = [], []
        for member in self.ensemble.members:
            features_and_logit = _features_and_logit(member.network, normalized)  # type: ignore[arg-type]
            (gradient,) = torch.autograd.grad(features_and_logit[1].sum(), features_and_logit[0])
            maps.append((gradient.mean(dim=(2, 3), keepdim=True) * features_and_logit[0]).sum(dim=1))
            logits.append(features_and_logit[1][:, 0])
        return torch.stack(logits, 1).detach().numpy(), torch.stack(maps, 1).detach().numpy()


def _features_and_logit(network: nn.Module, normalized: Tensor) -> tuple[Tensor, Tensor]:
    features = network.forward_features(normalized)  # type: ignore[operator]
    return features, network.forward_head(features)  # type: ignore[operator]


def _pictures() -> tuple[Picture, ...]:
    """Return four phantoms of a usual receptor's size."""
    phantoms = (spine_radiograph(np.random.default_rng(seed), rows=2048, columns=1024) for seed in range(4))
    return tuple(phantom.image.astype(np.float32) for phantom in phantoms)
