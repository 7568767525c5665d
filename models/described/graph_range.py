"""The end of an OpenVINO graph as steps, whose range tells whether the graph answers with probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from ainode.models.described.answer_range import UNIT, Range, Step, exactly

_UNITS: Final = frozenset(
    "Sigmoid Softmax HardSigmoid HSigmoid Less LessEqual Greater GreaterEqual Equal NotEqual LogicalAnd LogicalOr "  # noqa: SIM905
    "LogicalNot LogicalXor IsFinite IsNaN IsInf".split()
)
_TURNED: Final = frozenset({"Tanh", "Erf", "SoftSign", "Sin", "Cos"})
# What moves values, or answers with one between them, of the first input alone.
_OF_FIRST: Final = frozenset(
    "Reshape Squeeze Unsqueeze Transpose Convert ConvertLike Broadcast Tile Gather GatherND GatherElements Slice "  # noqa: SIM905
    "StridedSlice Split VariadicSplit Identity ReduceMax ReduceMin ReduceMean MaxPool AvgPool AdaptiveAvgPool "
    "AdaptiveMaxPool Interpolate DepthToSpace SpaceToDepth BatchToSpace SpaceToBatch ShuffleChannels Reverse "
    "ReverseSequence Roll Result".split()
)
_KINDS: Final = {
    "Add": "add",
    "Subtract": "subtract",
    "Multiply": "multiply",
    "Divide": "divide",
    "Power": "power",
    "Exp": "exp",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "ReduceProd": "product",
    "Concat": "same",
}
# The rule of an operator of one input and a number.
_BESIDE_NUMBER: Final = {
    "ReLU": ("maximum", 0.0),
    "Relu": ("maximum", 0.0),
    "Pad": ("same", 0.0),
    "Sqrt": ("power", 0.5),
    "Negative": ("multiply", -1.0),
}


def graph_step(output: Any) -> Step:  # noqa: ANN401  # openvino has no stubs
    """Return the step that makes an output of a node; its sources are looked at where they are asked for."""
    node = output.get_node()
    kind = node.get_type_name()
    if kind in _UNITS or _is_share(node):
        return Step("within", limits=UNIT)
    if kind in _TURNED:
        return Step("within", limits=(-1.0, 1.0))
    if kind == "Constant":
        return Step("within", limits=_span(node))
    if kind == "FakeQuantize":
        low, high = (_span(node.input_value(number).get_node()) for number in (3, 4))
        return Step("within", limits=(min(*low, *high), max(*low, *high)))
    return _followed(node, kind, output)


def _followed(node: Any, kind: str, output: Any) -> Step:  # noqa: ANN401
    """Return the step of an operator whose range hangs on those of its inputs."""
    key = (node.get_name(), output.get_index())
    if kind == "Clamp":
        low, high = (exactly(float(node.get_attributes()[name])) for name in ("min", "max"))
        raised = Step("maximum", _sources(node, slice(0, 1), low))
        return Step("minimum", lambda: (raised, high), key=key)
    if kind in _BESIDE_NUMBER:
        rule, number = _BESIDE_NUMBER[kind]
        return Step(rule, _sources(node, slice(0, 1), exactly(number)), key=key)
    if kind == "Select":
        return Step("same", _sources(node, slice(1, 3)), key=key)
    if kind in _OF_FIRST or (kind == "TopK" and output.get_index() == 0):
        return Step("same", _sources(node, slice(0, 1)), key=key)
    return Step(_KINDS.get(kind, "unknown"), _sources(node, slice(None)), key=key)


def _sources(node: Any, chosen: slice, *further: Step) -> Callable[[], Sequence[Step]]:  # noqa: ANN401
    """Return what makes steps of chosen inputs of a node, with further steps behind them."""

    def sources() -> Sequence[Step]:
        return [*map(graph_step, node.input_values()[chosen]), *further]

    return sources


def _is_share(node: Any) -> bool:  # noqa: ANN401
    """Return whether a node divides what is not below 0 by its own sum, as a softmax that was written out does."""
    if node.get_type_name() != "Divide":
        return False
    over, under = (value.get_node() for value in node.input_values())
    while under.get_type_name() in {"Broadcast", "Unsqueeze", "Reshape", "Convert"}:
        under = under.input_value(0).get_node()
    is_own_sum = under.get_type_name() == "ReduceSum" and under.input_value(0).get_node() == over
    return is_own_sum and over.get_type_name() in {"Exp", "ReLU", "Relu", "Sigmoid"}


def _span(node: Any) -> Range:  # noqa: ANN401
    """Return the least and the highest value of a constant; an infinite range of another node, or of no value."""
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return (-float("inf"), float("inf"))
    values = np.asarray(node.get_data(), np.float64)
    return (float(values.min()), float(values.max())) if values.size else (-float("inf"), float("inf"))
