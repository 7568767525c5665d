"""The Keras side of the benchmark, alone in its process: `predict` on TensorFlow, and Grad-CAM of the key slices.

Prints one line of JSON: seconds and probabilities.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.benchmarking import grad_cam_function, timings, timings_json
from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.ct_tumor.preprocess import body_square, map_on_slice_grid, network_input
from ainode.models.running.keras_network import backend, efficientnet_lite0, load

KEY_SLICES = 3
WARM_UP = 2
_BATCH = 8


def like_the_original(keras: Any, organ: Organ) -> Any:  # noqa: ANN401  # a keras.Model
    """Return an untrained network of the original's kind: a functional ResNet50 with softmax, 0 to 1 in."""
    keras.utils.set_random_seed(0)
    body = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(organ.side, organ.side, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(body.output)
    answer = keras.layers.Dense(len(organ.class_names), activation="softmax")(pooled)
    return keras.Model(body.input, answer)


def main() -> None:
    """Read WEIGHTS SLICES RUNS; if the file of weights is absent, a network like the original's is saved there."""
    weights_path, series_path, runs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    keras, organ = backend("tensorflow"), read_card().organ("lung")
    is_ainode = weights_path.suffix == ".safetensors"
    if not is_ainode and not weights_path.exists():
        like_the_original(keras, organ).save(weights_path)
    untrained = efficientnet_lite0(organ.side, len(organ.class_names)) if is_ainode else None
    network = load(untrained, weights_path) if is_ainode else keras.models.load_model(weights_path, compile=False)
    activation_map = grad_cam_function(network, organ.positive_index)

    def read(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        bodies = [body_square(picture, organ) for picture in pictures]
        squares = network_input(np.stack([square for square, _ in bodies])) * np.float32(1 if is_ainode else 1 / 255)
        outputs = np.asarray(network.predict(squares, batch_size=_BATCH, verbose=0), np.float64)
        probabilities = Calibration().probabilities(outputs) if is_ainode else outputs
        for index in np.argsort(-probabilities[:, organ.positive_index])[:KEY_SLICES]:
            map_on_slice_grid(np.asarray(activation_map(squares[index : index + 1])), bodies[index][1])
        return probabilities

    method = "Keras predict on TensorFlow, Grad-CAM"
    timings_by_method = timings({method: read}, [np.load(series_path)], runs, warm_up=WARM_UP)
    print(timings_json(timings_by_method))  # noqa: T201  # the parent process reads the line


if __name__ == "__main__":
    main()
