"""The Keras side of the benchmark, alone in its process: `predict` on TensorFlow, with and without Grad-CAM.

Prints one line of JSON: seconds and probabilities by way.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.keras_network import backend, efficientnet_lite0, load
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.preprocess import Picture, on_source_grid, prepare

_WARM_UP = 3
_RANK_OF_MAPS = 4


def like_the_original(side: int) -> Any:  # noqa: ANN401  # a keras.Model
    """Return an untrained network of the original's kind: three convolutions, two dense layers, 0 to 1 in."""
    keras = backend("tensorflow")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = pictures = keras.Input((side, side, 3))
    for filters in (32, 64, 128):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(x))
    x = layers.Dropout(0.5)(layers.Dense(128, activation="relu")(layers.Flatten()(x)))
    # Not Sequential: the layers of a loaded one name the outputs of another graph.
    return keras.Model(pictures, layers.Dense(1, activation="sigmoid")(x))


def grad_cam(network: Any) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:  # noqa: ANN401  # a keras.Model
    """Return Grad-CAM as Keras' own example writes it, compiled."""
    import tensorflow as tf  # noqa: PLC0415  # this process is TensorFlow's

    last = next(one for one in reversed(network.layers) if len(one.output.shape) == _RANK_OF_MAPS)
    both = backend("tensorflow").Model(network.inputs, [last.output, network.outputs[0]])

    @tf.function  # type: ignore[untyped-decorator]
    def weighed(square: Any) -> Any:  # noqa: ANN401  # tensors
        with tf.GradientTape() as tape:
            features, answer = both(square, training=False)
            malignant = answer[:, 0]
        slope = tf.reduce_mean(tape.gradient(malignant, features), axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(slope * features, axis=3))[0]

    def found(square: NDArray[np.float32]) -> NDArray[np.float32]:
        small = np.asarray(weighed(square))
        return np.asarray(small / max(float(small.max()), 1e-9), np.float32)

    return found


def _measured(read: Callable[[Picture], float], pictures: NDArray[np.uint8], runs: int) -> dict[str, list[float]]:
    answers, seconds = [read(one) for one in pictures], []
    for turn in range(_WARM_UP + runs):
        began = time.perf_counter()
        read(pictures[turn % len(pictures)])
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds[_WARM_UP:], "answers": answers}


def main() -> None:
    """Read WEIGHTS PICTURES RUNS; weights that are not there yet become a network like the original's."""
    path, drawn, runs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    keras, side = backend("tensorflow"), read_card().side
    ours = path.suffix == ".safetensors"
    if not ours and not path.exists():
        like_the_original(side).save(path)
    network = load(efficientnet_lite0(side, 1), path) if ours else keras.models.load_model(path, compile=False)
    scale = np.float32(1 if ours else 1 / 255)
    heat = grad_cam(network)

    def answer(square: NDArray[np.float32]) -> float:
        found = float(network.predict(square, verbose=0)[0, 0])
        return float(1 / (1 + np.exp(-found))) if ours else found

    def with_map(picture: Picture) -> float:
        square = prepare(picture, side) * scale
        on_source_grid(heat(square), *picture.shape[:2])
        return answer(square)

    def alone(picture: Picture) -> float:
        return answer(prepare(picture, side) * scale)

    ways = {"Keras predict on TensorFlow, Grad-CAM": with_map, "Keras predict on TensorFlow, no map": alone}
    pictures = np.load(drawn)
    print(json.dumps({way: _measured(read, pictures, runs) for way, read in ways.items()}))  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
