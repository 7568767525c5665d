"""Trains the network by Keras on TensorFlow, from ImageNet weights; resumable, logged, chosen by lesion group.

Needs the extra `train`. Reproduce what ships:
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
from ainode.models.skin_lesion.augment import augmented
from ainode.models.skin_lesion.calibration import FLIPS, Calibration
from ainode.models.skin_lesion.card import Card, read_card
from ainode.models.skin_lesion.dataset import Labelled, listed, read, split
from ainode.models.skin_lesion.preprocess import Picture, prepare, resized
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.metrics import auc, youden_threshold

log = logging.getLogger(__name__)

# Room for the zoom: pictures are kept at one and a half times the network's side.
_ROOM = 1.5
_BATCH = 32
_EPOCHS = 24
_PATIENCE = 8
_WORTH = 0.003
_PEAK_RATE, _DECAY, _WARM_UP = 6e-4, 0.02, 0.08


@dataclass(frozen=True, slots=True)
class Stack:
    """Pictures in memory.

    Shapes: pictures (n, side, side, 3); labels (n,).
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.float32]


def train(data: Path, out: Path, options: TrainingOptions) -> dict[str, Path]:
    """Train on the part `train` of `data`; return the weights, calibration inside, by their name.

    Writes `log.csv`, `best.weights.h5`, `chosen.json` and the safetensors file into `out`.
    """
    card = read_card()
    keras = backend("tensorflow")
    keras.utils.set_random_seed(options.seed)
    pictures = listed(data, "train")
    learn, choose = split(pictures, options.seed)
    stack = _stack([pictures[i] for i in learn], round(card.side * _ROOM))
    reserved = [pictures[i] for i in choose]
    validation = _prepared(reserved, card.side), np.array([one.label for one in reserved], np.float32)
    network = efficientnet_lite0(card.side, 1, dropout=0.3)
    assign(network, _from_imagenet(network))
    _fit(network, stack, validation, out, options)
    network.load_weights(out / "best.weights.h5")
    calibration = chosen(network, *validation)
    return {f"{card.name}/{card.network}": written(network, calibration, card, out)}


def written(network: Any, calibration: Calibration, card: Card, out: Path) -> Path:  # noqa: ANN401  # a keras.Model
    """Write the weights with their calibration and return the file."""
    path = out / card.file
    save_half(network, path, calibration.metadata())
    (out / "chosen.json").write_text(json.dumps(calibration.metadata(), indent=1) + "\n", "utf-8")
    return path


def chosen(network: Any, pictures: NDArray[np.float32], labels: NDArray[np.float32]) -> Calibration:  # noqa: ANN401
    """Return how logits become probabilities, chosen on the validation set.

    Mirrored views cost time each, so they must pay: `_WORTH` of AUC.
    """
    by_view = np.stack([_logits(network, pictures[:, ::down, ::right]) for down, right in FLIPS])
    one, all_views = auc(labels, by_view[0]), auc(labels, by_view.mean(0))
    views = len(FLIPS) if all_views > one + _WORTH else 1
    logits = by_view[:views].mean(0)
    line = LogisticRegression(C=1e6).fit(logits[:, None], labels)
    fitted = Calibration(float(line.coef_[0, 0]), float(line.intercept_[0]), views)
    log.info("validation AUC %.4f, mean of mirrored views %.4f; taken: %d views", one, all_views, views)
    return replace(fitted, threshold=youden_threshold(labels, fitted.probability(logits)))


def _logits(network: Any, pictures: NDArray[np.float32]) -> NDArray[np.float64]:  # noqa: ANN401  # a keras.Model
    return np.asarray(network.predict(pictures, batch_size=64, verbose=0), np.float64)[:, 0]


def _stack(pictures: Sequence[Labelled], side: int) -> Stack:
    squares: list[Picture] = [resized(read(one.path), side) for one in pictures]
    return Stack(np.stack(squares), np.array([one.label for one in pictures], np.float32))


def _prepared(pictures: Sequence[Labelled], side: int) -> NDArray[np.float32]:
    return np.concatenate([prepare(read(one.path), side) for one in pictures])


def _from_imagenet(network: Any) -> WeightTable:  # noqa: ANN401  # a keras.Model
    """Return ImageNet weights with the network's own untrained head."""
    own = {key: value for key, value in weights_of(network).items() if key.startswith("logits/")}
    return imagenet_weights(imagenet_checkpoint()) | own


def _batches(stack: Stack, side: int, seed: int) -> Any:  # noqa: ANN401  # a keras.utils.PyDataset
    """Return a data set of augmented batches, each picture once an epoch, the same for the same seed."""
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
            taken = order[index * _BATCH : (index + 1) * _BATCH]
            random = np.random.default_rng([seed, self.epoch, index])
            seen = np.stack([augmented(stack.pictures[i], side, random) for i in taken])
            return seen, stack.labels[taken]

    return Batches()


def _fit(
    network: Any,  # noqa: ANN401  # a keras.Model
    stack: Stack,
    validation: tuple[NDArray[np.float32], NDArray[np.float32]],
    out: Path,
    options: TrainingOptions,
) -> None:
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
    keras = backend("tensorflow").callbacks
    ends = time.monotonic() + options.minutes * 60

    def stop_at_the_clock(epoch: int, logs: object) -> None:  # noqa: ARG001  # what keras calls with
        watch.model.stop_training = watch.model.stop_training or time.monotonic() > ends

    def right_epoch(epoch: int, logs: object) -> None:  # noqa: ARG001  # what keras calls with
        batches.epoch = epoch

    watch = keras.LambdaCallback(on_epoch_begin=right_epoch, on_epoch_end=stop_at_the_clock)
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
        watch,
    ]


def _best_so_far(log_file: Path) -> float | None:
    """Return the best validation AUC of an interrupted training, None where there was none."""
    if not log_file.is_file():
        return None
    with log_file.open(newline="", encoding="utf-8") as file:
        return max((float(row["val_auc"]) for row in csv.DictReader(file)), default=None)
