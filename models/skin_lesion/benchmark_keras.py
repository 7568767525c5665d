"""The Keras side of the benchmark, alone in its process: `predict` on TensorFlow, with and without Grad-CAM.

Prints one line of JSON: seconds and probabilities by way.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.benchmarking import grad_cam, timed, written
from ainode.models.running.keras_network import backend, efficientnet_lite0, load
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.preprocess import Picture, on_source_grid, prepare

WARM_UP = 3


def like_the_original(keras: Any, side: int) -> Any:  # noqa: ANN401  # a keras.Model
    """Return an untrained network of the original's kind: three convolutions, two dense layers, 0 to 1 in."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = pictures = keras.Input((side, side, 3))
    for filters in (32, 64, 128):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(x))
    x = layers.Dropout(0.5)(layers.Dense(128, activation="relu")(layers.Flatten()(x)))
    # Not Sequential: the layers of a loaded one name the outputs of another graph.
    return keras.Model(pictures, layers.Dense(1, activation="sigmoid")(x))


def main() -> None:
    """Read WEIGHTS PICTURES RUNS; if the file of weights is absent, a network like the original's is saved there."""
    path, drawn, runs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    keras, side = backend("tensorflow"), read_card().side
    import tensorflow as tf  # noqa: PLC0415  # this process is TensorFlow's

    # Ours have as many threads in all.
    tf.config.threading.set_inter_op_parallelism_threads(1)
    ours = path.suffix == ".safetensors"
    if not ours and not path.exists():
        like_the_original(keras, side).save(path)
    network = load(efficientnet_lite0(side, 1), path) if ours else keras.models.load_model(path, compile=False)
    scale = np.float32(1 if ours else 1 / 255)
    heat = grad_cam(network, 0)

    def answer(square: NDArray[np.float32]) -> float:
        found = float(network.predict(square, verbose=0)[0, 0])
        return float(1 / (1 + np.exp(-found))) if ours else found

    def with_map(picture: Picture) -> float:
        square = prepare(picture, side) * scale
        small = np.asarray(heat(square))
        on_source_grid(np.asarray(small / max(float(small.max()), 1e-9), np.float32), *picture.shape[:2])
        return answer(square)

    def alone(picture: Picture) -> float:
        return answer(prepare(picture, side) * scale)

    ways = {"Keras predict on TensorFlow, Grad-CAM": with_map, "Keras predict on TensorFlow, no map": alone}
    pictures = np.load(drawn)
    each = [timed({way: read}, pictures, runs, warm_up=WARM_UP) for way, read in ways.items()]
    print(written({way: one for found in each for way, one in found.items()}))  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
