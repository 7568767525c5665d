"""The Keras side of the benchmark, alone in its process: `predict` on TensorFlow, with and without Grad-CAM.

Prints one line of JSON: seconds and probabilities by the name of the method.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.benchmarking import grad_cam_function, timings, timings_json
from ainode.models.running.keras_network import backend
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.preprocess import Picture, map_on_source_grid, original_input

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
    weights_path, pictures_path, runs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    keras, side = backend("tensorflow"), read_card().original_side
    import tensorflow as tf  # noqa: PLC0415  # this process is TensorFlow's

    # ainode's side has as many threads in all.
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if not weights_path.exists():
        like_the_original(keras, side).save(weights_path)
    network = keras.models.load_model(weights_path, compile=False)
    activation_map = grad_cam_function(network, 0)

    def probability(square: NDArray[np.float32]) -> float:
        return float(network.predict(square, verbose=0)[0, 0])

    def probability_with_map(picture: Picture) -> float:
        square = original_input(picture, side) / np.float32(255)
        coarse_map = np.asarray(activation_map(square))
        map_on_source_grid(np.asarray(coarse_map / max(float(coarse_map.max()), 1e-9), np.float32), *picture.shape[:2])
        return probability(square)

    def probability_without_map(picture: Picture) -> float:
        return probability(original_input(picture, side) / np.float32(255))

    methods = {
        "Keras predict on TensorFlow, Grad-CAM": probability_with_map,
        "Keras predict on TensorFlow, no map": probability_without_map,
    }
    pictures = np.load(pictures_path)
    timings_by_method = {
        method: timing
        for name, read in methods.items()
        for method, timing in timings({name: read}, pictures, runs, warm_up=WARM_UP).items()
    }
    print(timings_json(timings_by_method))  # noqa: T201  # the parent process reads the line


if __name__ == "__main__":
    main()
