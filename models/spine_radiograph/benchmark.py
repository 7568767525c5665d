"""How long one whole spine read takes, ours beside what a user would write.

A read is: preparation, three classifiers with their map, the detector (always on here), boxes.
The baseline is eager PyTorch in inference_mode whose map comes out of the same forward pass:
a stronger one than the usual Grad-CAM, which needs a backward pass and is timed as its own row.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ainode.models.checkpoints import load
from ainode.models.phantoms.spine import spine_radiograph
from ainode.models.runtime import Precision, Recipe, Runner, cpu_has_bf16, runner
from ainode.models.saliency import weighted
from ainode.models.spine_radiograph.card import Card, Network, read_card
from ainode.models.spine_radiograph.detector import Decoded, Detector, yolo
from ainode.models.spine_radiograph.model import sigmoid
from ainode.models.spine_radiograph.network import Ensemble, classifier
from ainode.models.spine_radiograph.preprocess import Picture, Placement, on_source_grid, prepare

# The original's networks, for timing with seeded random weights: none of its weights can be had.
_FULL_SIZE = (
    Network("densenet121", "densenet121", 0.42, ""),
    Network("tf_efficientnetv2_s", "tf_efficientnetv2_s", 0.32, ""),
    Network("resnet50", "resnet50", 0.26, ""),
)
_FULL_SIDE = 640


@dataclass(frozen=True, slots=True)
class Row:
    """One way to run it.

    Units: milliseconds for a whole read, median and quartiles of `runs` interleaved ones;
    `max_dp` is the largest difference in the ensemble's probability from the eager baseline.
    """

    way: str
    networks: str
    median_ms: float
    low_ms: float
    high_ms: float
    runs: int
    times_faster: float
    max_dp: float


@dataclass(frozen=True, slots=True)
class _Way:
    name: str
    read: Callable[[Picture], float]


def benchmark(
    paths: Mapping[str, Path], *, cache: Path, full_size: bool = False, runs: int = 15, threads: int = 2
) -> tuple[Row, ...]:
    """Return one row per way: eager, eager with Grad-CAM, OpenVINO f32 and bf16 where it is native.

    `paths` are the shipped weights by network name; `full_size` ignores them.
    """
    torch.set_num_threads(threads)
    card = full_size_card(read_card()) if full_size else read_card()
    ensemble, detector = _modules(card, None if full_size else paths)
    ways = [_eager(card, ensemble, detector), _with_gradients(card, ensemble, detector)]
    precisions: tuple[Precision, ...] = ("f32", "bf16") if cpu_has_bf16() else ("f32",)
    label = "full size" if full_size else "shipped"
    ours = cache / f"benchmark {label}"
    ways.extend(_ours(card, ensemble, detector, precision, ours, threads) for precision in precisions)
    pictures = _pictures()
    seconds, answers = _interleaved(ways, pictures, runs)
    base = statistics.median(seconds[0])
    return tuple(
        Row(
            way=way.name,
            networks=label,
            median_ms=1000 * statistics.median(times),
            low_ms=1000 * float(np.percentile(times, 25)),
            high_ms=1000 * float(np.percentile(times, 75)),
            runs=len(times),
            times_faster=base / statistics.median(times),
            max_dp=max(abs(a - b) for a, b in zip(answer, answers[0], strict=True)),
        )
        for way, times, answer in zip(ways, seconds, answers, strict=True)
    )


def full_size_card(card: Card) -> Card:
    """Return the card with the original's networks and sizes."""
    detector = replace(card.detector, architecture="yolo11l", side=_FULL_SIDE)
    return replace(card, networks=_FULL_SIZE, detector=detector, side=224)


def _modules(card: Card, paths: Mapping[str, Path] | None) -> tuple[Ensemble, nn.Module]:
    torch.manual_seed(0)
    members = {n.name: classifier(n.architecture).eval() for n in card.networks}
    found = yolo(card.detector.architecture, len(card.detector.class_names)).eval()
    if paths is not None:
        members = {name: load(network, paths[name]) for name, network in members.items()}
        found = load(found, paths["detector"])
    return Ensemble(members, card.mean, card.std).eval(), Decoded(found).eval()


def _read(card: Card, classify: Runner, detect: Runner) -> Callable[[Picture], float]:
    shares = [network.weight for network in card.networks]
    asked = card.detector
    detector = Detector(lambda x: detect(x)[0], asked.class_names, asked.side, asked.confidences, asked.iou)

    def read(pixels: Picture) -> float:
        logits, maps = classify(prepare(pixels, card.side, card.resize))
        rows, columns = pixels.shape
        on_source_grid(weighted(maps[0], shares), Placement((1.0, 1.0), (0.0, 0.0), (rows, columns)))
        detector(pixels)
        return float(np.dot(sigmoid(logits[0]), shares))

    return read


def _runner(module: nn.Module, shape: tuple[int, ...], precision: Precision, cache: Path, threads: int) -> Runner:
    key = f"benchmark {sum(float(p.double().abs().sum()) for p in module.parameters())}"
    return runner(Recipe(lambda: module, shape, key), cache=cache, precision=precision, device="cpu", threads=threads)


def _ours(  # what to run and how
    card: Card, ensemble: Ensemble, detector: nn.Module, precision: Precision, cache: Path, threads: int
) -> _Way:
    classify = _runner(ensemble, (1, 1, card.side, card.side), precision, cache, threads)
    detect = _runner(detector, (1, 1, card.detector.side, card.detector.side), precision, cache, threads)
    return _Way(f"ainode, OpenVINO {precision}", _read(card, classify, detect))


def _eager(card: Card, ensemble: Ensemble, detector: nn.Module) -> _Way:
    recipe = Recipe(lambda: ensemble, (), "")
    classify = runner(recipe, cache=Path(), device="torch-cpu")
    detect = runner(Recipe(lambda: detector, (), ""), cache=Path(), device="torch-cpu")
    return _Way("PyTorch eager, inference_mode, map from the forward pass", _read(card, classify, detect))


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
            kept = _features_and_logit(member.network, normalized)  # type: ignore[arg-type]
            (gradient,) = torch.autograd.grad(kept[1].sum(), kept[0])
            maps.append((gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1))
            logits.append(kept[1][:, 0])
        return torch.stack(logits, 1).detach().numpy(), torch.stack(maps, 1).detach().numpy()


def _features_and_logit(network: nn.Module, normalized: Tensor) -> tuple[Tensor, Tensor]:
    features = network.forward_features(normalized)  # type: ignore[operator]
    return features, network.forward_head(features)  # type: ignore[operator]


def _with_gradients(card: Card, ensemble: Ensemble, detector: nn.Module) -> _Way:
    detect = runner(Recipe(lambda: detector, (), ""), cache=Path(), device="torch-cpu")
    return _Way("PyTorch eager, Grad-CAM by autograd", _read(card, _GradCam(ensemble), detect))


def _pictures() -> tuple[Picture, ...]:
    """Return four phantoms of a usual receptor's size."""
    drawn = (spine_radiograph(np.random.default_rng(seed), rows=2048, columns=1024) for seed in range(4))
    return tuple(one.image.astype(np.float32) for one in drawn)


def _interleaved(
    ways: list[_Way], pictures: tuple[Picture, ...], runs: int
) -> tuple[list[list[float]], list[list[float]]]:
    """Time every way once per round, so that what else the machine does meets all alike."""
    answers = [[way.read(picture) for picture in pictures] for way in ways]
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(runs):
        for index, way in enumerate(ways):
            began = time.perf_counter()
            way.read(pictures[turn % len(pictures)])
            seconds[index].append(time.perf_counter() - began)
    return seconds, answers
