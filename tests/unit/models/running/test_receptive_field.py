"""A bright cross lies in a map where it lies in the picture, whichever way a network pads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ainode.models.running.keras_network import backend
from ainode.models.running.keras_serving import Form, ready_network
from ainode.models.running.receptive_field import field_shift
from ainode.models.running.runtime import Execution
from ainode.models.running.saliency import recentered_map, rectified_map

_SIDE, _STAGES, _KERNEL = 64, 3, 3
_CELL = 2**_STAGES


def shift_by_rule(before: int) -> float:
    """Return the shift in cells of three convolutions of kernel 3 and stride 2, padded by `before` at the start."""
    # The middle of output cell 0, in input pixels from the picture's edge; one layer's pixel is the last layer's cell.
    shift_px = (_KERNEL / 2 - before) - 2 / 2
    return float(shift_px * (2**_STAGES - 1) / _CELL)


def same_padding_before(size: int) -> int:
    """Return how many of the pixels that SAME padding adds lie at the start: half of them, the odd one at the end."""
    added = max((-(-size // 2) - 1) * 2 + _KERNEL - size, 0)
    return added // 2


def averaging_keras(padding: str) -> Any:  # noqa: ANN401  # a keras.Model
    """Return a network whose logit is the mean brightness: its map is the picture itself, coarse."""
    keras = backend("torch")
    inputs = values = keras.Input((_SIDE, _SIDE, 3))
    for _ in range(_STAGES):
        if padding == "both":
            values = keras.layers.ZeroPadding2D(1)(values)
        values = keras.layers.Conv2D(4, _KERNEL, 2, "same" if padding == "end" else "valid", use_bias=False)(values)
    values = keras.layers.GlobalAveragePooling2D()(values)
    network = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(values))
    for variable in network.weights:
        if variable.path.endswith("kernel"):
            variable.assign(np.full(variable.shape, 1 / np.prod(variable.shape[:-1]), np.float32))
    return network


def crossed(row: int, column: int) -> NDArray[np.float32]:
    picture = np.zeros((1, _SIDE, _SIDE, 3), np.float32)
    picture[:, row - 4 : row + 4, column - 1 : column + 1] = 255
    picture[:, row - 1 : row + 1, column - 4 : column + 4] = 255
    return picture


def centroid(map_: NDArray[np.float32]) -> tuple[float, float]:
    """Return the center of mass of a map, row and column, in pixels of the picture."""
    middles = (np.arange(len(map_)) + 0.5) * _SIDE / len(map_)
    shares = map_ / map_.sum()
    return float(shares.sum(axis=1) @ middles), float(shares.sum(axis=0) @ middles)


@pytest.mark.parametrize(("padding", "before"), [("end", same_padding_before(_SIDE)), ("both", 1)])
def test_the_shift_of_a_map_is_that_of_the_padding_rule(padding: str, before: int) -> None:
    network = averaging_keras(padding)
    maps = backend("torch").Model(network.inputs, network.layers[-3].output)
    shift = field_shift(lambda pictures: maps(pictures).permute(0, 3, 1, 2), _SIDE, 255)
    expected = shift_by_rule(before)
    assert expected == pytest.approx(3.5 / _CELL if padding == "end" else -3.5 / _CELL)
    np.testing.assert_allclose(shift.numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("padding", ["end", "both"])
def test_a_cross_stands_in_the_map_where_it_stands_in_the_picture(tmp_path: Path, padding: str) -> None:
    path = tmp_path / "original.keras"
    with warnings.catch_warnings():
        # Keras on torch hands NumPy 2 a variable without the keyword `copy`.
        warnings.simplefilter("ignore", DeprecationWarning)
        averaging_keras(padding).save(path)
    network = ready_network(path, Form(_SIDE, 1, "sigmoid", padding), Execution(tmp_path / "graphs", "cpu"))
    for row, column in ((20, 44), (32, 32), (41, 25)):
        raw = network.run(crossed(row, column) / np.float32(255))[1][0, 0]
        assert np.hypot(*np.subtract(centroid(raw), (row, column))) > 0.5 * _CELL
        placed = network.read(crossed(row, column))[1][0, 0]
        assert np.hypot(*np.subtract(centroid(rectified_map(placed)), (row, column))) < 0.1 * _CELL


def test_a_map_that_was_moved_is_moved_back() -> None:
    spot = np.zeros((2, 7, 7), np.float32)
    spot[:, 2, 4] = 1
    moved = recentered_map(spot, np.asarray([0.5, -0.25], np.float32))
    np.testing.assert_allclose(moved[0, 2:4, 3:5], [[0.125, 0.375], [0.125, 0.375]], atol=1e-6)
    assert np.array_equal(recentered_map(spot, np.zeros(2, np.float32)), spot)


def test_a_network_that_sees_nothing_of_the_picture_has_no_shift() -> None:
    def blind(pictures: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(pictures.permute(0, 3, 1, 2) * 0, _CELL)

    assert field_shift(blind, _SIDE, 255).tolist() == [0, 0]


def test_the_shift_is_the_same_every_time() -> None:
    convolution = nn.Conv2d(3, 4, 3, 2, 1)
    twice = [field_shift(lambda pictures: convolution(pictures.permute(0, 3, 1, 2)), 16, 1) for _ in range(2)]
    assert torch.equal(*twice)
