"""The Keras side of the benchmark, alone in its process: `predict` on TensorFlow, and Grad-CAM of the key slices.

Prints one line of JSON: seconds and probabilities.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.benchmarking import grad_cam, timed, written
from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.ct_tumor.preprocess import as_input, framed, on_slice_grid
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
    path, drawn, runs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    keras, organ = backend("tensorflow"), read_card().organ("lung")
    ours = path.suffix == ".safetensors"
    if not ours and not path.exists():
        like_the_original(keras, organ).save(path)
    untrained = efficientnet_lite0(organ.side, len(organ.class_names)) if ours else None
    network = load(untrained, path) if ours else keras.models.load_model(path, compile=False)
    heat = grad_cam(network, organ.positive_index)

    def read(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        placed = [framed(one, organ) for one in pictures]
        squares = as_input(np.stack([square for square, _ in placed])) * np.float32(1 if ours else 1 / 255)
        found = np.asarray(network.predict(squares, batch_size=_BATCH, verbose=0), np.float64)
        shares = Calibration().probabilities(found) if ours else found
        for key in np.argsort(-shares[:, organ.positive_index])[:KEY_SLICES]:
            on_slice_grid(np.asarray(heat(squares[key : key + 1])), placed[key][1])
        return shares

    way = "Keras predict on TensorFlow, Grad-CAM"
    print(written(timed({way: read}, [np.load(drawn)], runs, warm_up=WARM_UP)))  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
