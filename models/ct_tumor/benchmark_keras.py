"""The Keras side of the benchmark, alone in its process: `predict` on TensorFlow, and Grad-CAM of the key slices.

Prints one line of JSON: seconds and probabilities.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.ct_tumor.preprocess import as_input, framed, on_slice_grid
from ainode.models.keras_network import backend, efficientnet_lite0, load

KEY_SLICES = 3
WARM_UP = 2
_BATCH = 8
_RANK_OF_MAPS = 4


def like_the_original(organ: Organ) -> Any:  # noqa: ANN401  # a keras.Model
    """Return an untrained network of the original's kind: a functional ResNet50 with softmax, 0 to 1 in."""
    keras = backend("tensorflow")
    keras.utils.set_random_seed(0)
    body = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(organ.side, organ.side, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(body.output)
    answer = keras.layers.Dense(len(organ.class_names), activation="softmax")(pooled)
    return keras.Model(body.input, answer)


def grad_cam(network: Any, positive: int) -> Any:  # noqa: ANN401  # a compiled function of tensors
    """Return Grad-CAM as Keras' own example writes it, compiled."""
    import tensorflow as tf  # noqa: PLC0415  # this process is TensorFlow's

    last = next(one for one in reversed(network.layers) if len(one.output.shape) == _RANK_OF_MAPS)
    both = backend("tensorflow").Model(network.inputs, [last.output, network.outputs[0]])

    @tf.function  # type: ignore[untyped-decorator]
    def weighed(square: Any) -> Any:  # noqa: ANN401  # tensors
        with tf.GradientTape() as tape:
            features, answer = both(square, training=False)
            score = answer[:, positive]
        slope = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(slope * features, axis=3))[0]

    return weighed


def main() -> None:
    """Read WEIGHTS SLICES RUNS THREADS; weights that are not there yet become a network like the original's."""
    path, drawn, runs, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    keras, organ = backend("tensorflow"), read_card().organ("lung")
    import tensorflow as tf  # noqa: PLC0415  # this process is TensorFlow's

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    ours = path.suffix == ".safetensors"
    if not ours and not path.exists():
        like_the_original(organ).save(path)
    untrained = efficientnet_lite0(organ.side, len(organ.class_names)) if ours else None
    network = load(untrained, path) if ours else keras.models.load_model(path, compile=False)
    heat, pictures = grad_cam(network, organ.positive_index), np.load(drawn)

    def read() -> NDArray[np.float64]:
        placed = [framed(one, organ) for one in pictures]
        squares = as_input(np.stack([square for square, _ in placed])) * np.float32(1 if ours else 1 / 255)
        found = np.asarray(network.predict(squares, batch_size=_BATCH, verbose=0), np.float64)
        shares = Calibration().probabilities(found) if ours else found
        for key in np.argsort(-shares[:, organ.positive_index])[:KEY_SLICES]:
            on_slice_grid(np.asarray(heat(squares[key : key + 1])), placed[key][1])
        return shares

    answers, seconds = read(), []
    for _ in range(WARM_UP + runs):
        began = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds[WARM_UP:], "answers": answers.tolist()}))  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
