"""Trains the network, from ImageNet weights, on pictures as many cameras would take them; resumable and logged.

This command reproduces the shipped weights:
    ainode train skin_lesion --data DIR --out DIR
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

from ainode.models.errors import ModelError
from ainode.models.running.checkpoints import save_half
from ainode.models.running.keras_network import imagenet_checkpoint
from ainode.models.skin_lesion.augment import varied
from ainode.models.skin_lesion.calibration import Calibration
from ainode.models.skin_lesion.cameras import CAMERAS, seen_by
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.dataset import LabelledPicture, pictures_of_part, read_pictures, split_indices
from ainode.models.skin_lesion.network import CHANNELS, LesionNetwork
from ainode.models.skin_lesion.preprocess import Picture, network_input
from ainode.models.skin_lesion.views import VIEWS, viewed
from ainode.models.training.epochs import Plan, fit
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import auc

log = logging.getLogger(__name__)

_BATCH, _EPOCHS, _RATE = 32, 16, 8e-4
_SMOOTHING = 0.05
_PLACE_SHARE, _KIND_SHARE = 0.5, 0.3
# So that evidence of the size of 1 makes a logit of the size of 1 on a lesion that fills a tenth of the picture.
_GAIN, _FIRST_BIAS = 10.0, -2.0
# The cells are taught on as many views of each picture, seen as often, by the optimizer's rate and decay.
_CELL_VIEWS, _CELL_PASSES, _CELL_BATCH, _CELL_RATE, _CELL_DECAY = 4, 6, 128, 3e-3, 0.05
_CELL_SEED = 7
_SENSITIVITY = 0.9
_UNKNOWN = -100
"""the diagnosis that counts for no loss"""


class Learner(nn.Module):
    """The network with the heads that only the training uses: of the whole picture, and of the diagnosis.

    The head of the whole picture may take any part of it, such as the rim of a lesion, and so learns good features. The
    cells of the lesion are taught to answer by themselves afterwards, by `teach_cells`.
    """

    def __init__(self, diagnoses: int) -> None:
        super().__init__()
        self.network = LesionNetwork()
        self.evidence = nn.Conv2d(CHANNELS, 1, 1)
        self.bias = nn.Parameter(torch.tensor(_FIRST_BIAS))
        self.diagnosis = nn.Linear(CHANNELS, max(1, diagnoses))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (n,), logits of the place (n, 9, 12) and of the diagnoses (n, diagnoses)."""
        features = self.network.features(pictures)
        place = self.network.place(features)
        evidence = _GAIN * functional.softplus(self.evidence(features).float()[:, 0]) * place.sigmoid()
        return evidence.mean(dim=(1, 2)) + self.bias, place, self.diagnosis(features.mean(dim=(2, 3)))


@dataclass(frozen=True, slots=True)
class Material:
    """Labelled pictures in memory, and the names of their diagnoses."""

    labelled: tuple[LabelledPicture, ...]
    pictures: tuple[Picture, ...]
    diagnoses: tuple[str, ...]

    @classmethod
    def of(cls, labelled: Sequence[LabelledPicture]) -> Material:
        """Read the files."""
        pictures = read_pictures(labelled)
        return cls(tuple(labelled), pictures, tuple(sorted({item.diagnosis for item in labelled} - {""})))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the classes, (n,)."""
        return np.array([item.label for item in self.labelled], np.int64)

    @property
    def shares(self) -> Tensor:
        """Return the weight of a picture of each class: both classes count alike."""
        counts = torch.bincount(torch.from_numpy(self.labels), minlength=2)
        return len(self.labelled) / (2 * counts.clamp(min=1)).float()

    def example(self, number: int, random: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
        """Return a picture as another camera takes it, its class, the lesion's share of each cell, its diagnosis."""
        item = self.labelled[number]
        picture, cells = varied(self.pictures[number], item.box, random)
        diagnosis = self.diagnoses.index(item.diagnosis) if item.diagnosis in self.diagnoses else _UNKNOWN
        return picture, np.array(item.label, np.float32), cells, np.array(diagnosis, np.float32)

    def batches(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of an epoch, each picture once; the same numbers give the same batches."""
        order = np.random.default_rng([seed, epoch]).permutation(len(self.labelled))
        for step in range(self.steps):
            random = np.random.default_rng([seed, epoch, step])
            examples = [self.example(int(i), random) for i in order[step * _BATCH : (step + 1) * _BATCH]]
            values = [torch.from_numpy(np.stack(column)) for column in zip(*examples, strict=True)]
            yield values[0].permute(0, 3, 1, 2), *values[1:]

    @property
    def steps(self) -> int:
        """Return the number of batches of an epoch."""
        return max(1, len(self.labelled) // _BATCH)


@dataclass(frozen=True, slots=True)
class Judge:
    """Lesions that are left out: their pictures as they are, and each through one of the simulated cameras.

    Shapes: inputs, simulated (n, 144, 192, 3) in 0 to 255; truth (n,).
    """

    inputs: NDArray[np.float32]
    simulated: NDArray[np.float32]
    truth: NDArray[np.int64]

    @classmethod
    def of(cls, left_out: Material) -> Judge:
        """Return the judge that has these pictures."""
        cameras = tuple(CAMERAS.values())
        simulated = [seen_by(cameras[i % len(cameras)], picture, i) for i, picture in enumerate(left_out.pictures)]
        inputs, simulated_inputs = (
            np.stack([network_input(picture) for picture in pictures]) for pictures in (left_out.pictures, simulated)
        )
        return cls(inputs, simulated_inputs, left_out.labels)

    def figures(self, learner: nn.Module) -> Mapping[str, float]:
        """Return the figures of an epoch; the score is the mean of the AUC of both kinds of pictures."""
        logits = logits_of(learner, self.inputs, VIEWS[:1])
        areas = auc(self.truth, logits), auc(self.truth, logits_of(learner, self.simulated, VIEWS[:1]))
        accuracy = float(np.mean((logits > 0) == self.truth))
        figures = {"score": float(np.mean(areas)), "auc": areas[0], "auc_simulated": areas[1], "accuracy": accuracy}
        log.info("left-out lesions: %s", figures)
        return figures


def train(data: Path, out: Path, options: TrainingOptions) -> dict[str, Path]:
    """Train on the part `train` of `data`; return the file of weights and calibration by its name.

    Writes `log.csv`, `best.safetensors`, `chosen.json` and the file of weights into `out`.
    """
    card, pictures = read_card(), pictures_of_part(data, "train")
    material, left_out = (
        Material.of([pictures[i] for i in indices]) for indices in split_indices(pictures, options.seed)
    )
    network = trained(material, left_out, out, options).network
    teach_cells(network, material)
    chosen = fitted_calibration(network, left_out)
    path = out / card.file
    save_half(network, path, chosen.metadata())
    (out / "chosen.json").write_text(json.dumps(chosen.metadata(), indent=1) + "\n", "utf-8")
    return {f"{card.name}/{card.network}": path}


def trained(material: Material, left_out: Material, out: Path, options: TrainingOptions) -> Learner:
    """Return the learner at the epoch that the left-out lesions judge best."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    learner = Learner(len(material.diagnoses))
    learner.network.load_imagenet(imagenet_checkpoint())
    learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = replace(Plan.of(options, _EPOCHS, material.steps, learning_rate=_RATE), patience=_EPOCHS)
    judge, shares = Judge.of(left_out), material.shares

    def loss(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return _loss(network(batch[0]), batch[1:], shares)

    fit(learner, partial(material.batches, options.seed), loss, judge.figures, plan, out)
    return learner.to("cpu")


def _loss(answers: tuple[Tensor, ...], targets: tuple[Tensor, ...], shares: Tensor) -> Tensor:
    """Return the cross entropies of the class, of the lesion's place and of the diagnosis, where they are known."""
    (logits, place, diagnosis), (label, cells, kind) = answers, targets
    smooth = label * (1 - _SMOOTHING) + _SMOOTHING / 2
    class_loss = functional.binary_cross_entropy_with_logits(
        logits.float(), smooth, shares.to(label.device)[label.long()]
    )
    is_boxed = ~cells.isnan().flatten(1).any(dim=1)
    total = class_loss
    if is_boxed.any():
        place_loss = functional.binary_cross_entropy_with_logits(place[is_boxed].float(), cells[is_boxed])
        total = total + _PLACE_SHARE * place_loss
    if (kind >= 0).any():
        total = total + _KIND_SHARE * functional.cross_entropy(
            diagnosis.float(), kind.long(), ignore_index=_UNKNOWN, label_smoothing=_SMOOTHING
        )
    return total


def teach_cells(network: LesionNetwork, material: Material) -> None:
    """Teach the cells to answer for the lesion, on features that stay as they are."""
    torch.manual_seed(_CELL_SEED)
    network.eval()
    with torch.no_grad():
        parts = [
            (network.features(batch[0]).half(), batch[1])
            for view in range(_CELL_VIEWS)
            for batch in material.batches(_CELL_SEED, view)
        ]
        features, labels = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        on_lesion = torch.cat([network.place(part[0].float()) for part in parts]).sigmoid()
    shares = on_lesion / on_lesion.sum(dim=(1, 2), keepdim=True)
    evidence = nn.Conv2d(CHANNELS, 1, 1)
    nn.init.zeros_(evidence.weight)
    optimizer = torch.optim.AdamW(evidence.parameters(), lr=_CELL_RATE, weight_decay=_CELL_DECAY)
    starts = [start for _ in range(_CELL_PASSES) for start in range(0, len(features), _CELL_BATCH)]
    order = torch.empty(0)
    for start in starts:
        order = torch.randperm(len(features)) if start == 0 else order
        indices = order[start : start + _CELL_BATCH]
        cells = evidence(features[indices].float())[:, 0].sigmoid() * shares[indices]
        loss = functional.binary_cross_entropy(cells.sum(dim=(1, 2)).clamp(1e-4, 1 - 1e-4), labels[indices])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        for taught, learned in zip(network.head.parameters(), evidence.parameters(), strict=True):
            taught[:1] = learned


def logits_of(network: nn.Module, inputs: NDArray[np.float32], views: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Return the mean logit of the views of each picture; (n, 144, 192, 3) in 0 to 255 in, (n,) out."""
    parts = []
    device = next(network.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(inputs), _BATCH):
            batch = inputs[start : start + _BATCH]
            logits = [network(torch.from_numpy(viewed(batch, view)).to(device))[0].cpu().numpy() for view in views]
            parts.append(np.mean(logits, axis=0, dtype=np.float64))
    return np.concatenate(parts)


def fitted_calibration(network: LesionNetwork, left_out: Material) -> Calibration:
    """Return Platt's line on the left-out pictures, and the threshold that calls nine of ten of the malignant.

    The threshold counts each picture as it is and through each simulated camera: another camera is to be expected.
    Raises: ModelError if the network's logits say nothing of the left-out pictures.
    """
    labels = left_out.labels
    network.eval()

    def logits_through(pictures: Iterable[Picture]) -> NDArray[np.float64]:
        return logits_of(network, np.stack([network_input(picture) for picture in pictures]), VIEWS)

    logits = logits_through(left_out.pictures)
    regression = LogisticRegression(C=1e6).fit(logits[:, None], labels)
    if regression.coef_[0, 0] <= 0:
        raise ModelError(
            f"the network does not tell the {int(labels.sum())} malignant from the {int((1 - labels).sum())} benign "
            "pictures that were left out: no probability can be fitted; train on more lesions, or for more epochs"
        )
    calibration = Calibration(float(regression.coef_[0, 0]), float(regression.intercept_[0]))
    malignant = [picture for picture, label in zip(left_out.pictures, labels, strict=True) if label]
    simulated = [
        logits_of(
            network,
            np.stack([network_input(seen_by(camera, picture, i)) for i, picture in enumerate(malignant)]),
            VIEWS,
        )
        for camera in CAMERAS.values()
    ]
    probabilities = calibration.probability(np.concatenate([logits[labels == 1], *simulated]))
    return replace(calibration, threshold=float(np.quantile(probabilities, 1 - _SENSITIVITY)))
