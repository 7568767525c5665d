"""Trains the demonstration weights for two and three time points, on synthetic nodules that grow or stay.

    python -m ainode.models.lung_nodule.temporal_training --out DIR

As in the original, the encoder is frozen, its features are scaled, and the recurrent heads are an ensemble. This
encoder learned to tell sizes. The heads learn the phantom: a malignant nodule grows, mostly with spicules; a benign
nodule stays. The weights show that reading over time works, and say nothing about patients.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it
from tqdm import tqdm

from ainode.models.lung_nodule.checkpoints import entries_under, weights_table
from ainode.models.lung_nodule.encoder import COMPACT, Encoder
from ainode.models.lung_nodule.heads import ABSENT, Recurrent, RecurrentHead, recurrent_head
from ainode.models.lung_nodule.patches import CUBE, Scan, cube
from ainode.models.phantoms.thorax import Field, Nodule, nodule_position, thorax
from ainode.models.phantoms.thorax_anatomy import Build
from ainode.models.running.checkpoints import save_table, with_weights
from ainode.models.training.epochs import Batch, Plan, fit, seed_everything
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import auc

log = logging.getLogger(__name__)

_DATES = 3
_HIDDEN, _ATTENDED = 16, 16
_TRAIN, _VALIDATION = 140, 40
_EPOCHS, _BATCH, _RATE = 10, 14, 6e-3
_HEADS, _HEAD_STEPS = 3, 600
_KEEP_ALL = 0.5
_USUAL_MM = 12.0
# A person sets the point, and misses the center by about this distance.
_OFF_CENTER_MM = 1.5
# The cube, and room for the patient's pose of the day (the phantom shifts by 4 mm, one standard deviation).
_FIELD = CUBE + 18


@dataclass(frozen=True, slots=True)
class Cases:
    """Synthetic nodules at three dates.

    Shapes: cubes (n, 3, 50, 50, 50) float16, oldest first; labels (n,) 1 = grows; diameters_mm (n, 3).
    """

    cubes: NDArray[np.float16]
    labels: NDArray[np.int64]
    diameters_mm: NDArray[np.float64]


class SizeNetwork(nn.Module):
    """The encoder and a head that gives the nodule's size; the head only trains the encoder and is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(COMPACT)
        self.size = nn.Linear(COMPACT.features, 1)

    def forward(self, cubes: Tensor) -> Tensor:
        """Return log diameters (B,) of cubes (B, 1, 50, 50, 50)."""
        sizes: Tensor = self.size(self.encoder(cubes)[0])[:, 0]
        return sizes


def diameters(random: np.random.Generator, *, grows: bool) -> NDArray[np.float64]:
    """Return a nodule's diameters in mm at three dates: growing to about twice the volume, or within 4 %."""
    last = random.uniform(7, 20)
    steps = random.uniform(0.70, 0.88, 2) if grows else random.uniform(0.96, 1.04, 2)
    return np.array([last * steps[0] * steps[1], last * steps[1], last])


def drawn_case(seed: int, number: int, *, grows: bool) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
    """Return a nodule's cubes at three dates and its diameters; the same seed and number give the same case."""
    random = np.random.default_rng([seed, number])
    patient = int(random.integers(2**31))
    sizes = diameters(random, grows=grows)
    spiculated = bool(random.random() < (0.75 if grows else 0.15))  # as in the card
    position = nodule_position(random, patient, float(sizes.max()))
    density = float(random.uniform(-50, 60))
    cubes = []
    for date, size in enumerate(sizes):
        nodule = Nodule(position, float(size), spiculated=spiculated, density_hu=density)
        field = Field((_FIELD,) * 3, (1.0, 1.0, 1.0), nodule.center_mm(Build.of_patient(patient)))
        phantom = thorax(patient, number * _DATES + date, scanned=field, nodules=(nodule,))
        z, y, x = np.asarray(phantom.nodule_centers[0]) + random.normal(0, _OFF_CENTER_MM, 3)
        cubes.append(cube(Scan(phantom.values, phantom.spacing_mm, (float(z), float(y), float(x))))[0][0, 0])
    return np.stack(cubes).astype(np.float16), sizes


def drawn_cases(seed: int, count: int, folder: Path) -> Cases:
    """Return cases, every second of them growing; cases that an earlier call drew are read from the folder."""
    path = folder / f"cases_{seed}_{count}.npz"
    if path.is_file():
        return Cases(**np.load(path))
    pairs = [drawn_case(seed, number, grows=number % 2 == 1) for number in tqdm(range(count), mininterval=5.0)]
    labels = np.arange(count, dtype=np.int64) % 2
    new_cases = Cases(np.stack([cubes for cubes, _ in pairs]), labels, np.stack([sizes for _, sizes in pairs]))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, cubes=new_cases.cubes, labels=new_cases.labels, diameters_mm=new_cases.diameters_mm)
    return new_cases


def batches(cases: Cases, seed: int) -> Callable[[int], Iterator[Batch]]:
    """Return a function from an epoch's number to its batches: single cubes, mirrored at random, and log diameters."""
    cubes = cases.cubes.reshape(-1, 1, CUBE, CUBE, CUBE)
    sizes = np.log(cases.diameters_mm.reshape(-1) / _USUAL_MM).astype(np.float32)

    def batches_of_epoch(epoch: int) -> Iterator[Batch]:
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(cubes))
        for start in range(0, len(order) - len(order) % _BATCH, _BATCH):
            rows = order[start : start + _BATCH]
            axes = [axis for axis in (2, 3, 4) if random.random() < 0.5]  # noqa: PLR2004  # a fair coin
            yield torch.flip(torch.from_numpy(cubes[rows].astype(np.float32)), axes), torch.from_numpy(sizes[rows])

    return batches_of_epoch


def loss(network: nn.Module, batch: Batch) -> Tensor:
    """Return the squared error of the log diameters."""
    cubes, sizes = batch
    return F.mse_loss(network(cubes).float(), sizes)


def features(encoder: nn.Module, cases: Cases) -> Tensor:
    """Return the encoder's features (n, 3, F) of every case."""
    with torch.inference_mode():
        features_of_cases = [encoder(torch.from_numpy(cubes.astype(np.float32))[:, None])[0] for cubes in cases.cubes]
    return torch.stack(features_of_cases).clone()


def train_encoder(cases: Cases, validation: Cases, out: Path, options: TrainingOptions) -> Encoder:
    """Train the encoder to tell sizes; return the encoder of the best epoch on the validation cases."""
    seed_everything(options.seed)
    network = SizeNetwork()
    count = cases.labels.size * _DATES
    plan = Plan.of(options, _EPOCHS, count // _BATCH, learning_rate=_RATE, half=True)
    validation_batches = list(batches(validation, 0)(0))

    def score(network: nn.Module) -> float:
        with torch.inference_mode():
            on_device = (tuple(tensor.to(options.device) for tensor in batch) for batch in validation_batches)
            return -float(np.mean([float(loss(network, batch)) for batch in on_device]))

    fit(network, batches(cases, options.seed), loss, score, plan, out)
    return network.to("cpu").encoder


def train_head(steps: Tensor, labels: Tensor, seed: int) -> Recurrent:
    """Train a recurrent head on scaled features (n, 3, F); half the time a case lacks one prior or both."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    head = Recurrent(steps.shape[2], _HIDDEN, _ATTENDED)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(_HEAD_STEPS):
        rows = torch.from_numpy(random.integers(len(steps), size=32))
        absent = torch.zeros(len(rows), _DATES, dtype=torch.bool)
        for row in np.flatnonzero(random.random(len(rows)) > _KEEP_ALL):
            absent[row, random.choice([0, 1], size=int(random.integers(1, 3)), replace=False)] = True
        noisy = steps[rows] + 0.05 * torch.randn(steps[rows].shape)
        logits, _ = head(noisy.masked_fill(absent[:, :, None], ABSENT))
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return head.eval()


def train(out: Path, options: TrainingOptions, counts: tuple[int, int] = (_TRAIN, _VALIDATION)) -> Path:
    """Train encoder, scaler and heads; `counts` are of training and validation cases; return the file of weights."""
    training, validation = (drawn_cases(options.seed + part, count, out) for part, count in enumerate(counts))
    encoder = train_encoder(training, validation, out, options)
    training_features, validation_features = features(encoder, training), features(encoder, validation)
    mean, scale = training_features.mean(dim=(0, 1)), training_features.std(dim=(0, 1)) + 1e-3
    labels = torch.from_numpy(training.labels.astype(np.float32))
    heads = [train_head((training_features - mean) / scale, labels, options.seed + number) for number in range(_HEADS)]
    weights = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    weights |= {
        f"{number}.{key}": value for number, head in enumerate(heads) for key, value in head.state_dict().items()
    }
    weights |= {"scaler.mean": mean, "scaler.scale": scale}
    log.info(
        "validation: AUC %.3f", auc(validation.labels, probabilities(recurrent_head(weights), validation_features))
    )
    return save_table(weights, out / "lung_nodule_temporal.safetensors")


def probabilities(head: RecurrentHead, features: Tensor, *, dates: int = _DATES) -> NDArray[np.float64]:
    """Return the probability of every case (n, 3, F), read at its last `dates` dates."""
    absent = _DATES - dates
    return np.array([head([None] * absent + list(case.numpy()[absent:])).probability for case in features])


def probabilities_of_file(path: Path, cases: Cases) -> dict[int, NDArray[np.float64]]:
    """Return the probabilities of every case by stored weights, for its last three, two and one dates."""
    stored = weights_table(path)
    encoder = with_weights(Encoder(COMPACT), entries_under(stored, "encoder."), path.name)
    case_features, head = features(encoder, cases), recurrent_head(stored)
    return {dates: probabilities(head, case_features, dates=dates) for dates in (3, 2, 1)}


def main() -> None:
    """Run the documented command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(arguments.threads)
    train(arguments.out, TrainingOptions())


if __name__ == "__main__":
    main()
