"""The end of a graph that gives an activation map: average pooling, then one linear layer.

Source: Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, equation 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Layers behind the logits, and between pooling and the linear layer, that change no value but its place.
_BEHIND = frozenset({"Softmax", "Sigmoid", "Reshape", "Squeeze", "Unsqueeze", "Convert"})
_BETWEEN = frozenset({"Reshape", "Squeeze", "Convert", "Transpose"})
_POOLING = frozenset({"ReduceMean"})
_FEWEST_AXES = 4
_AGREEMENT = 1e-2


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Features, and the weights (answers, channels) by which their means become logits."""

    features: Any
    logits: Any
    weights: Array
    bias: Array
    channel_axis: int

    def maps(self, features: Array, logits: Array) -> Array | None:
        """Return the map of each answer; None if the means of the maps are not the answers: then it is no such head.

        Shapes: features (1, channels, …) or (1, …, channels); out (answers, …).
        """
        planes = np.moveaxis(features[0], self.channel_axis - 1, 0)
        maps = np.tensordot(self.weights, planes, axes=1)
        means = maps.reshape(len(maps), -1).mean(axis=1) + self.bias
        if not np.allclose(means, logits.reshape(-1), rtol=_AGREEMENT, atol=_AGREEMENT):
            return None
        return np.asarray(maps, np.float32)


def linear_head(output: Any) -> LinearHead | None:  # noqa: ANN401  # openvino has no stubs
    """Return the head that a graph ends in; None if it ends otherwise."""
    node = _before(output.get_node().input_value(0).get_node(), _BEHIND)
    logits, bias = node.output(0), np.zeros(1, np.float32)
    if (sum_ := _with_constant(node, "Add")) is not None:
        node, bias = _before(sum_[0], _BETWEEN), sum_[1].reshape(-1)
    factor = np.ones(1, np.float32)
    if (product := _with_constant(node, "Multiply")) is not None and product[1].size == 1:
        node, factor = product[0], product[1].reshape(-1)  # as ONNX writes a Gemm with its alpha
    if node.get_type_name() != "MatMul":
        return None
    weights = _constant(node.input_value(1).get_node())
    pooling = _before(node.input_value(0).get_node(), _BETWEEN)
    if weights is None or weights.ndim != 2 or pooling.get_type_name() not in _POOLING:  # noqa: PLR2004
        return None
    if not node.get_attributes().get("transpose_b", False):
        weights = weights.T
    features, axes = pooling.input_value(0), _constant(pooling.input_value(1).get_node())
    return _head(features, logits, weights * factor, bias, axes)


def _with_constant(node: Any, kind: str) -> tuple[Any, Array] | None:  # noqa: ANN401
    """Return the other side and the values of a node of a kind that has a constant at one side; None of another."""
    if node.get_type_name() != kind:
        return None
    sides = [value.get_node() for value in node.input_values()]
    values = [_constant(side) for side in sides]
    for number, value in enumerate(values):
        if value is not None:
            return sides[1 - number], value
    return None


def _head(features: Any, logits: Any, weights: Array, bias: Array, axes: Array | None) -> LinearHead | None:  # noqa: ANN401
    shape = features.get_partial_shape()
    if axes is None or not shape.is_static or len(shape) < _FEWEST_AXES:
        return None
    pooled = {int(axis) % len(shape) for axis in np.ravel(axes)}
    left = [axis for axis in range(1, len(shape)) if axis not in pooled]
    if 0 in pooled or len(left) != 1 or shape.to_shape()[left[0]] != weights.shape[1]:
        return None
    return LinearHead(features, logits, weights, bias, left[0])


def _before(node: Any, passed: frozenset[str]) -> Any:  # noqa: ANN401
    """Return the first node, against the flow, that is none of those that are passed."""
    while node.get_type_name() in passed:
        node = node.input_value(0).get_node()
    return node


def _constant(node: Any) -> Array | None:  # noqa: ANN401
    """Return the values of a constant, also of one that is converted, reshaped or multiplied; None of another node."""
    while node.get_type_name() in {"Convert", "Reshape", "Squeeze", "Unsqueeze"}:
        node = node.input_value(0).get_node()
    if node.get_type_name() == "Multiply":
        factors = [_constant(value.get_node()) for value in node.input_values()]
        return None if factors[0] is None or factors[1] is None else factors[0] * factors[1]
    return np.asarray(node.get_data(), np.float32) if node.get_type_name() == "Constant" else None
