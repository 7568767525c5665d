"""The end of a TorchScript as steps, whose range tells whether the script answers with probabilities.

The graph is that of `Script.frozen_graph`: what the module's attributes decide is decided in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from torch import Tensor

from ainode.models.described.answer_range import (
    LOGARITHM,
    TURNED,
    UNIT,
    UNKNOWN,
    UNSEEN,
    Operators,
    Step,
    cut,
    exactly,
)
from ainode.models.running.script_memory import is_shared_by, is_written_by

_UNIT: Final = (
    "sigmoid expit softmax _softmax hardsigmoid gt ge lt le eq ne logical_and logical_or logical_not isfinite"
)
_OF_FIRST: Final = (
    "view reshape flatten unflatten squeeze unsqueeze permute transpose t contiguous clone detach to float double half "
    "type_as expand expand_as repeat select slice narrow index index_select gather movedim moveaxis flip roll alias "
    "cpu amax amin mean cat stack max_pool2d max_pool3d avg_pool2d avg_pool3d adaptive_avg_pool2d adaptive_max_pool2d "
    "upsample_nearest2d upsample_bilinear2d upsample_nearest3d upsample_trilinear3d dropout pixel_shuffle "
    "unbind split chunk split_with_sizes"
)
_OPERATORS: Final = Operators(
    limits={
        **dict.fromkeys(_UNIT.split(), UNIT),
        **dict.fromkeys(("tanh", "erf", "sin", "cos", "softsign"), TURNED),
        **dict.fromkeys(("log_softmax", "_log_softmax", "log_sigmoid"), LOGARITHM),
    },
    of_first=frozenset(_OF_FIRST.split()),
    rules={
        "mul": "multiply",
        "div": "divide",
        "exp": "exp",
        "maximum": "maximum",
        "minimum": "minimum",
        "pow": "power",
        "prod": "product",
    },
    beside_number={
        "relu": ("maximum", 0.0),
        "neg": ("multiply", -1.0),
        "reciprocal": ("power", -1.0),
        "sqrt": ("power", 0.5),
    },
)
_LISTS: Final = frozenset({"prim::TupleConstruct", "prim::ListConstruct"})
_FIELD: Final = re.compile(r"(\w+) : ")
# The numbers of torch's types, as an archive writes them (c10/core/ScalarType.h), and operators by their name.
_WHOLE_TYPES: Final[Mapping[object, str]] = {0: "u8", 1: "i8", 2: "i16", 3: "i32", 4: "i64", 11: "boolean"}
_WHOLE_OPERATORS: Final = {
    "aten::byte": "u8",
    "aten::char": "i8",
    "aten::short": "i16",
    "aten::int": "i32",
    "aten::long": "i64",
    "aten::bool": "boolean",
}


def script_step(graph: Any, names: Sequence[str]) -> Step:  # noqa: ANN401 - torch has no type for it
    """Return the step of the output that is read: of the first name, or of the single output."""
    (value,) = graph.outputs()
    return _answer(value, names)


def type_of_numbers(graph: Any) -> str:  # noqa: ANN401
    """Return the type of whole numbers to which a script turns its picture first, such as u8; f32 if it does not."""
    for use in list(graph.inputs())[-1].uses():
        kind = use.user.kind()
        if kind in _WHOLE_OPERATORS:
            return _WHOLE_OPERATORS[kind]
        values = (value.toIValue() for value in list(use.user.inputs())[1:3] if kind == "aten::to")
        for value in values:
            if type(value) is int and value in _WHOLE_TYPES:  # a bool is another argument
                return _WHOLE_TYPES[value]
    return "f32"


def _answer(value: Any, names: Sequence[str]) -> Step:  # noqa: ANN401
    """Return the step of a tensor, or of the one of several that is read."""
    if value.type().kind() == "TensorType":
        return _step(value)
    if value.node().kind() == "prim::If":
        return Step("either", lambda: [_answer(end, names) for end in _ends(value)])
    entries = _entries(value)
    if not entries:
        return UNSEEN
    # One answer has one meaning, whatever its name; one that is not there is refused where the network answers.
    values = next(iter(entries.values())) if len(entries) == 1 else entries.get("".join(names[:1]), [])
    return Step("either", lambda: [_answer(item, names) for item in values] or [UNKNOWN])


def _entries(value: Any) -> Mapping[str, list[Any]]:  # noqa: ANN401
    """Return what may stand at each name of a dictionary or a tuple; a plain tuple counts its places from 0."""
    node = value.node()
    inputs = list(node.inputs())
    if node.kind() == "prim::DictConstruct":
        entries: dict[str, list[Any]] = {}
        later = (list(use.user.inputs()) for use in value.uses() if use.user.kind() == "aten::_set_item")
        for key, item in (*zip(inputs[::2], inputs[1::2], strict=True), *((key, item) for _, key, item in later)):
            entries.setdefault(str(key.toIValue()), []).append(item)
        return entries
    if node.kind() == "prim::ListConstruct" and (added := _appended(value)):
        return {"": [*inputs, *added]}
    if node.kind() not in _LISTS:
        return {}
    fields = _FIELD.findall(value.type().str()) if value.type().str().startswith("NamedTuple") else []
    names = fields if len(fields) == len(inputs) else map(str, range(len(inputs)))
    return {name: [item] for name, item in zip(names, inputs, strict=True)}


def _appended(value: Any) -> list[Any]:  # noqa: ANN401
    """Return what is appended to a list after its making."""
    return [list(use.user.inputs())[1] for use in value.uses() if use.user.kind() == "aten::append"]


def _step(value: Any, reader: Any = None) -> Step:  # noqa: ANN401
    """Return the step that makes a value as a node reads it; without a node, as it is at the end.

    Its sources are looked at where they are asked for.
    """
    constant = value.toIValue()
    if isinstance(constant, int | float):
        return exactly(float(constant))
    if isinstance(constant, Tensor) and constant.numel():
        return Step("within", limits=(float(constant.min()), float(constant.max())))
    if value.type().kind() == "TensorType":
        if _is_written_in_part(value):
            return UNKNOWN
        if (writer := _last_writer(value, reader)) is not None:
            value = next(writer.outputs())  # a tensor that was written into is returned, too
    end = _End(value)
    build = _BUILT.get(end.kind)
    return build(end) if build else _OPERATORS.step(end.kind, end.inputs, end.key)


@dataclass(frozen=True, slots=True)
class _End:
    """A value that a node makes."""

    value: Any

    @property
    def node(self) -> Any:  # noqa: ANN401
        """The node."""
        return self.value.node()

    @property
    def key(self) -> str:
        """The name of the value, which no other has."""
        return str(self.value.debugName())

    @property
    def kind(self) -> str:
        """The operator; one that writes into its input is the same as one that does not."""
        return str(self.node.kind()).removeprefix("aten::").removesuffix("_")

    @property
    def arguments(self) -> list[Any]:
        """What the operator is given."""
        return list(self.node.inputs())

    def inputs(self, part: slice) -> Sequence[Step]:
        """Return the steps of some of the first two inputs: what follows says how, and not of what."""
        return [_step(item, self.node) for item in self.arguments[:2][part]]

    def first(self) -> Sequence[Step]:
        """Return the step of the first input."""
        return self.inputs(slice(0, 1))


def _ends(value: Any) -> list[Any]:  # noqa: ANN401
    """Return the values of the ways through a branch; none of a way that ends in an error."""
    ends = (list(block.outputs())[value.offset()] for block in value.node().blocks())
    return [end for end in ends if end.node().kind() != "prim::Uninitialized"]


def _last_writer(value: Any, reader: Any) -> Any:  # noqa: ANN401
    """Return the node that wrote into a tensor last before a node reads it; None if none did."""
    last = None
    for use in value.uses():
        is_before = reader is None or use.user.isBefore(reader)
        if is_before and is_written_by(use.user, value) and (last is None or use.user.isAfter(last)):
            last = use.user
    return last


def _is_written_in_part(value: Any) -> bool:  # noqa: ANN401
    """Return whether something is written into a view of a tensor, such as into one of its channels."""
    views = [view for use in value.uses() if is_shared_by(use.user, value) for view in use.user.outputs()]
    return any(_last_writer(view, None) is not None or _is_written_in_part(view) for view in views)


def _branched(end: _End) -> Step:
    return Step("either", lambda: [*map(_step, _ends(end.value))], key=end.key)


def _repeated(end: _End) -> Step:
    """Return the step of a loop: what its last turn makes, and where it may have no turn, what was before."""

    def sources() -> Sequence[Step]:
        count, condition, *before = end.arguments
        (body,) = end.node.blocks()
        number = end.value.offset()
        last = _step(list(body.outputs())[1 + number])  # behind whether there is a further turn
        has_turns = condition.toIValue() and (count.toIValue() or 0) > 0
        return [last] if has_turns else [last, _step(before[number], end.node)]

    return Step("either", sources, key=end.key)


def _listed(end: _End) -> Step:
    return Step("same", lambda: [*map(_step, (*end.arguments, *_appended(end.value)))], key=end.key)


def _same(end: _End) -> Step:
    return Step("same", end.first, key=end.key)


def _sum(end: _End) -> Step:
    """Return the step of a sum or a difference, whose second number is first multiplied by alpha."""
    alpha = end.arguments[2].toIValue() if len(end.arguments) > 2 else 1  # noqa: PLR2004 - as older torch writes it
    if alpha != 1:
        return UNKNOWN
    order = -1 if end.kind == "rsub" else 1
    rule = "add" if end.kind == "add" else "subtract"
    return Step(rule, lambda: end.inputs(slice(None))[::order], key=end.key)


def _cut(end: _End) -> Step:
    """Return the step of a value that is cut at numbers, of which one may be left out."""
    numbers = [item.toIValue() for item in end.arguments[1:3]]
    bounds = (-math.inf, math.inf)
    low, high = (
        float(number) if isinstance(number, int | float) else bound for number, bound in zip_longest(numbers, bounds)
    )
    return cut(end.first, low, high, end.key)


def _extreme(end: _End) -> Step:
    """Return the step of the least or the highest values: of two tensors, or along an axis of one."""
    if len(end.arguments) > 1 and end.arguments[1].type().kind() == "TensorType":
        return Step(f"{end.kind}imum", lambda: end.inputs(slice(None)), key=end.key)
    return _sorted(end)


def _sorted(end: _End) -> Step:
    return _same(end) if end.value.offset() == 0 else UNKNOWN  # else their places


def _selected(end: _End) -> Step:
    return Step("same", lambda: [_step(item, end.node) for item in end.arguments[1:3]], key=end.key)


def _divided(end: _End) -> Step:
    if _is_share(end.arguments):
        return Step("share", end.first, key=end.key)
    return _OPERATORS.step("div", end.inputs, end.key)


def _unseen(_: _End) -> Step:
    return UNSEEN


def _is_share(arguments: Sequence[Any]) -> bool:
    """Return whether a quotient is of something and its own sum, as a softmax that was written out is."""
    over, under = arguments[:2]
    node = under.node()
    while node.kind() in {"aten::expand", "aten::expand_as", "aten::unsqueeze", "aten::view"}:
        node = next(node.inputs()).node()
    return bool(node.kind() == "aten::sum" and next(node.inputs()).debugName() == over.debugName())


_BUILT: Final[Mapping[str, Callable[[_End], Step]]] = {
    "prim::If": _branched,
    "prim::Loop": _repeated,
    **dict.fromkeys(_LISTS, _listed),
    **dict.fromkeys(("prim::ListUnpack", "prim::TupleUnpack", "prim::NumToTensor", "prim::unchecked_cast"), _same),
    **dict.fromkeys(("prim::CallMethod", "prim::CallFunction", "wait"), _unseen),
    **dict.fromkeys(("add", "sub", "rsub"), _sum),
    **dict.fromkeys(("clamp", "clip", "hardtanh", "clamp_min"), _cut),
    **dict.fromkeys(("max", "min"), _extreme),
    **dict.fromkeys(("topk", "sort"), _sorted),
    "where": _selected,
    "div": _divided,
}
