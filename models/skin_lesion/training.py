"""Trains the network by Keras on TensorFlow, from ImageNet weights; resumable and logged.

Needs the extra `train`. This command reproduces the shipped weights:
    ainode train skin_lesion --data DIR --out DIR
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from ainode.models.running.keras_network import (
    WeightTable,
    assign,
    backend,
    efficientnet_lite0,
    imagenet_checkpoint,
    imagenet_weights,
    save_half,
    weights_of,
)
from ainode.models.skin_lesion.augment import augmented_square
from ainode.models.skin_lesion.calibration import FLIPS, Calibration
from ainode.models.skin_lesion.card import Card, read_card
from ainode.models.skin_lesion.dataset import LabelledPicture, pictures_of_part, read_picture, split_indices
from ainode.models.skin_lesion.preprocess import Picture, network_input, resized_square
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import auc, youden_threshold

log = logging.getLogger(__name__)

# Room for the zoom: the stack's pictures have one and a half times the network's side.
_ROOM = 1.5
_BATCH = 32
_EPOCHS = 24
_PATIENCE = 8
_WORTH = 0.003
_PEAK_RATE, _DECAY, _WARM_UP = 6e-4, 0.02, 0.08


@dataclass(frozen=True, slots=True)
class Stack:
    """The training pictures in memory.

    Shapes: pictures (n, side, side, 3); labels (n,).
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.float32]


def train(data: Path, out: Path, options: TrainingOptions) -> dict[str, Path]:
    """Train on the part `train` of `data`; return the file of weights and calibration by its name.

    Writes `log.csv`, `best.weights.h5`, `chosen.json` and the safetensors file into `out`.
    """
    card = read_card()
    keras = backend("tensorflow")
    keras.utils.set_random_seed(options.seed)
    pictures = pictures_of_part(data, "train")
    training, validation_indices = split_indices(pictures, options.seed)
    stack = _stack([pictures[i] for i in training], round(card.side * _ROOM))
    validation_pictures = [pictures[i] for i in validation_indices]
    validation = (
        _network_inputs(validation_pictures, card.side),
        np.array([picture.label for picture in validation_pictures], np.float32),
    )
    network = efficientnet_lite0(card.side, 1, dropout=0.3)
    assign(network, _imagenet_weights(network))
    _fit(network, stack, validation, out, options)
    network.load_weights(out / "best.weights.h5")
    calibration = fitted_calibration(network, *validation)
    return {f"{card.name}/{card.network}": save_weights(network, calibration, card, out)}


def save_weights(network: Any, calibration: Calibration, card: Card, out: Path) -> Path:  # noqa: ANN401  # a keras.Model
    """Write the weights with their calibration and return the file."""
    path = out / card.file
    save_half(network, path, calibration.metadata())
    (out / "chosen.json").write_text(json.dumps(calibration.metadata(), indent=1) + "\n", "utf-8")
    return path


def fitted_calibration(network: Any, pictures: NDArray[np.float32], labels: NDArray[np.float32]) -> Calibration:  # noqa: ANN401
    """Return the calibration that is fitted on the validation set.

    Each mirrored view costs time, so the views are used only where they raise the AUC by `_WORTH`.
    """
    logits_by_view = np.stack([_logits(network, pictures[:, ::down, ::right]) for down, right in FLIPS])
    single_view_auc, all_views_auc = auc(labels, logits_by_view[0]), auc(labels, logits_by_view.mean(0))
    views = len(FLIPS) if all_views_auc > single_view_auc + _WORTH else 1
    logits = logits_by_view[:views].mean(0)
    regression = LogisticRegression(C=1e6).fit(logits[:, None], labels)
    calibration = Calibration(float(regression.coef_[0, 0]), float(regression.intercept_[0]), views)
    log.info("validation AUC %.4f, mean of mirrored views %.4f; taken: %d views", single_view_auc, all_views_auc, views)
    return replace(calibration, threshold=youden_threshold(labels, calibration.probability(logits)))


def _logits(network: Any, pictures: NDArray[np.float32]) -> NDArray[np.float64]:  # noqa: ANN401  # a keras.Model
    return np.asarray(network.predict(pictures, batch_size=64, verbose=0), np.float64)[:, 0]


def _stack(pictures: Sequence[LabelledPicture], side: int) -> Stack:
    squares: list[Picture] = [resized_square(read_picture(picture.path), side) for picture in pictures]
    return Stack(np.stack(squares), np.array([picture.label for picture in pictures], np.float32))


def _network_inputs(pictures: Sequence[LabelledPicture], side: int) -> NDArray[np.float32]:
    return np.concatenate([network_input(read_picture(picture.path), side) for picture in pictures])


def _imagenet_weights(network: Any) -> WeightTable:  # noqa: ANN401  # a keras.Model
    """Return the ImageNet weights with the network's own untrained head."""
    head = {key: value for key, value in weights_of(network).items() if key.startswith("logits/")}
    return imagenet_weights(imagenet_checkpoint()) | head


def _batches(stack: Stack, side: int, seed: int) -> Any:  # noqa: ANN401  # a keras.utils.PyDataset
    """Return a data set of augmented batches, each picture once in an epoch; the same seed gives the same batches."""
    keras = backend("tensorflow")
    count = max(1, len(stack.labels) // _BATCH)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]  # keras comes at run time
        def __init__(self) -> None:
            super().__init__()
            self.epoch = 0

        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            order = np.random.default_rng([seed, self.epoch]).permutation(len(stack.labels))
            indices = order[index * _BATCH : (index + 1) * _BATCH]
            random = np.random.default_rng([seed, self.epoch, index])
            pictures = np.stack([augmented_square(stack.pictures[i], side, random) for i in indices])
            return pictures, stack.labels[indices]

    return Batches()


def _fit(
    network: Any,  # noqa: ANN401  # a keras.Model
    stack: Stack,
    validation: tuple[NDArray[np.float32], NDArray[np.float32]],
    out: Path,
    options: TrainingOptions,
) -> None:
    """Train the network; the weights of the best epoch go to `best.weights.h5`."""
    keras = backend("tensorflow")
    cv2.setNumThreads(1)
    out.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        shutil.rmtree(out / "backup", ignore_errors=True)
    epochs = options.epochs or _EPOCHS
    batches = _batches(stack, network.input_shape[1], options.seed)
    steps = epochs * len(batches)
    rate = keras.optimizers.schedules.CosineDecay(
        _PEAK_RATE / 25, steps, warmup_target=_PEAK_RATE, warmup_steps=round(_WARM_UP * steps)
    )
    network.compile(
        keras.optimizers.AdamW(rate, weight_decay=_DECAY, global_clipnorm=5.0),
        keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.05),
        metrics=[keras.metrics.AUC(1000, from_logits=True, name="auc")],
    )
    counts = np.bincount(stack.labels.astype(int), minlength=2)
    network.fit(
        batches,
        epochs=epochs,
        validation_data=validation,
        class_weight={label: len(stack.labels) / (2 * count) for label, count in enumerate(counts)},
        callbacks=_callbacks(out, options, batches),
        verbose=1,
    )


def _callbacks(out: Path, options: TrainingOptions, batches: Any) -> list[Any]:  # noqa: ANN401  # a PyDataset
    """Return the training's callbacks: backup, log, best weights, end by patience and by time."""
    keras = backend("tensorflow").callbacks
    end_s = time.monotonic() + options.minutes * 60

    def stop_when_time_is_over(epoch: int, logs: object) -> None:  # noqa: ARG001  # Keras passes both
        clock.model.stop_training = clock.model.stop_training or time.monotonic() > end_s

    def set_epoch(epoch: int, logs: object) -> None:  # noqa: ARG001  # Keras passes both
        batches.epoch = epoch

    clock = keras.LambdaCallback(on_epoch_begin=set_epoch, on_epoch_end=stop_when_time_is_over)
    return [
        keras.BackupAndRestore(out / "backup", delete_checkpoint=False),
        keras.CSVLogger(out / "log.csv", append=options.resume),
        keras.ModelCheckpoint(
            out / "best.weights.h5",
            monitor="val_auc",
            mode="max",
            save_best_only=True,
            save_weights_only=True,
            initial_value_threshold=_best_so_far(out / "log.csv") if options.resume else None,
        ),
        keras.EarlyStopping(monitor="val_auc", mode="max", patience=_PATIENCE),
        clock,
    ]


def _best_so_far(log_file: Path) -> float | None:
    """Return the best validation AUC in the log of an interrupted training, None without a log."""
    if not log_file.is_file():
        return None
    with log_file.open(newline="", encoding="utf-8") as file:
        return max((float(row["val_auc"]) for row in csv.DictReader(file)), default=None)
