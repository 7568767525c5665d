"""The end of an OpenVINO graph as steps, whose range tells whether the graph answers with probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ainode.models.described.answer_range import (
    ANY,
    LOGARITHM,
    TURNED,
    UNIT,
    UNKNOWN,
    Operators,
    Range,
    Step,
    cut,
)

_UNIT: Final = (
    "Sigmoid Softmax HardSigmoid HSigmoid Less LessEqual Greater GreaterEqual Equal NotEqual LogicalAnd LogicalOr "
    "LogicalNot LogicalXor IsFinite IsNaN IsInf"
)
_OF_FIRST: Final = (
    "Reshape Squeeze Unsqueeze Transpose Convert ConvertLike Broadcast Tile Gather GatherND GatherElements Slice "
    "StridedSlice Split VariadicSplit Identity ReduceMax ReduceMin ReduceMean MaxPool AvgPool AdaptiveAvgPool "
    "AdaptiveMaxPool Interpolate DepthToSpace SpaceToDepth BatchToSpace SpaceToBatch ShuffleChannels Reverse "
    "ReverseSequence Roll Result"
)
_OPERATORS: Final = Operators(
    limits={
        **dict.fromkeys(_UNIT.split(), UNIT),
        **dict.fromkeys(("Tanh", "Erf", "SoftSign", "Sin", "Cos"), TURNED),
        "LogSoftmax": LOGARITHM,
    },
    of_first=frozenset(_OF_FIRST.split()),
    rules={
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
    },
    beside_number={
        "ReLU": ("maximum", 0.0),
        "Relu": ("maximum", 0.0),
        "Pad": ("same", 0.0),
        "Sqrt": ("power", 0.5),
        "Negative": ("multiply", -1.0),
    },
)
_Outer = Mapping[str, Step]
"""the steps of the parameters of a body, by their names"""


@dataclass(frozen=True, slots=True)
class _End:
    """An output of a node, and the steps of what the body that the node lies in takes from the graph around it."""

    output: Any
    outer: _Outer

    @property
    def node(self) -> Any:  # noqa: ANN401  # openvino has no stubs
        """The node that makes the output."""
        return self.output.get_node()

    @property
    def key(self) -> tuple[str, int]:
        """The name of the output, which no other has."""
        return self.node.get_name(), self.output.get_index()

    def inputs(self, part: slice) -> Sequence[Step]:
        """Return the steps of some inputs of the node."""
        return [graph_step(value, self.outer) for value in self.node.input_values()[part]]

    def first(self) -> Sequence[Step]:
        """Return the step of the first input."""
        return self.inputs(slice(0, 1))


def graph_step(output: Any, outer: _Outer | None = None) -> Step:  # noqa: ANN401
    """Return the step that makes an output of a node; its sources are looked at where they are asked for.

    `outer` has the steps of what a body takes from the graph around it.
    """
    end = _End(output, outer or {})
    kind = end.node.get_type_name()
    return _BUILT[kind](end) if kind in _BUILT else _OPERATORS.step(kind, end.inputs, end.key)


def _parameter(end: _End) -> Step:
    return end.outer.get(end.node.get_name(), UNKNOWN)


def _constant(end: _End) -> Step:
    return Step("within", limits=_span(end.node))


def _quantized(end: _End) -> Step:
    low, high = (_span(end.node.input_value(number).get_node()) for number in (3, 4))
    return Step("within", limits=(min(*low, *high), max(*low, *high)))


def _cut(end: _End) -> Step:
    low, high = (float(end.node.get_attributes()[name]) for name in ("min", "max"))
    return cut(end.first, low, high, end.key)


def _divided(end: _End) -> Step:
    return (
        Step("share", end.first, key=end.key) if _is_share(end.node) else _OPERATORS.step("Divide", end.inputs, end.key)
    )


def _selected(end: _End) -> Step:
    return Step("same", lambda: end.inputs(slice(1, 3)), key=end.key)


def _highest(end: _End) -> Step:
    return Step("same", end.first, key=end.key) if end.output.get_index() == 0 else UNKNOWN  # else their places


def _branched(end: _End) -> Step:
    def sources() -> Sequence[Step]:
        bodies = (end.node.get_then_body(), end.node.get_else_body())
        return [step for number, body in enumerate(bodies) for step in _of_body(end, body, number)]

    return Step("either", sources, key=end.key)


def _repeated(end: _End) -> Step:
    """Return the step of a loop: what its last turn makes, and where it may have no turn, what was before."""

    def sources() -> Sequence[Step]:
        steps = [*_of_body(end, end.node.get_function())]
        if end.node.get_num_iterations() > 0:
            return steps
        ends = {item.body_value_index for item in _outputs(end)}
        before = (item for item in end.node.get_input_descriptions() if _handed_on(item) in ends)
        return [*steps, *(graph_step(end.node.input_value(item.input_index), end.outer) for item in before)]

    return Step("either", sources, key=end.key)


def _of_body(end: _End, body: Any, *branch: int) -> Iterator[Step]:  # noqa: ANN401
    """Yield the step by which the body of a branch or a loop makes an output of its node."""
    parameters = body.get_parameters()
    # What a turn of a loop hands on to the next one may be any number.
    outer = {
        parameters[item.body_parameter_index].get_name(): graph_step(end.node.input_value(item.input_index), end.outer)
        for item in end.node.get_input_descriptions(*branch)
        if _handed_on(item) is None
    }
    for item in _outputs(end, *branch):
        yield graph_step(body.results[item.body_value_index].input_value(0), outer)


def _outputs(end: _End, *branch: int) -> list[Any]:
    """Return the descriptions of an output of a node with bodies."""
    descriptions = end.node.get_output_descriptions(*branch)
    return [item for item in descriptions if item.output_index == end.output.get_index()]


def _handed_on(description: Any) -> int | None:  # noqa: ANN401
    """Return the number of the result of a body that becomes an input of the next turn; None of another input."""
    return getattr(description, "body_value_index", None)


def _is_share(node: Any) -> bool:  # noqa: ANN401
    """Return whether a quotient is of something and its own sum, as a softmax that was written out is."""
    over, under = (value.get_node() for value in node.input_values())
    while under.get_type_name() in {"Broadcast", "Unsqueeze", "Reshape", "Convert"}:
        under = under.input_value(0).get_node()
    return bool(under.get_type_name() == "ReduceSum" and under.input_value(0).get_node() == over)


def _span(node: Any) -> Range:  # noqa: ANN401
    """Return the least and the highest value of a constant; an infinite range of another node, or of no value."""
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return ANY
    values = np.asarray(node.get_data(), np.float64)
    return (float(values.min()), float(values.max())) if values.size else ANY


_BUILT: Final[Mapping[str, Callable[[_End], Step]]] = {
    "Parameter": _parameter,
    "Constant": _constant,
    "FakeQuantize": _quantized,
    "Clamp": _cut,
    "Divide": _divided,
    "Select": _selected,
    "TopK": _highest,
    "If": _branched,
    "Loop": _repeated,
    "TensorIterator": _repeated,
}
