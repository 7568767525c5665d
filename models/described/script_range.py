"""The end of a TorchScript as steps, whose range tells whether the script answers with probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from torch import Tensor

from ainode.models.described.answer_range import UNIT, Step, exactly

_UNITS: Final = frozenset(
    "sigmoid softmax _softmax hardsigmoid gt ge lt le eq ne logical_and logical_or logical_not isfinite".split()  # noqa: SIM905
)
_TURNED: Final = frozenset({"tanh", "erf", "sin", "cos", "softsign"})
# What moves values, or answers with one between them, of the first input alone.
_OF_FIRST: Final = frozenset(
    "view reshape flatten unflatten squeeze unsqueeze permute transpose t contiguous clone detach to float double half "  # noqa: SIM905
    "type_as expand expand_as repeat select slice narrow index index_select gather movedim moveaxis flip roll alias "
    "amax amin mean cat stack max_pool2d max_pool3d avg_pool2d avg_pool3d adaptive_avg_pool2d adaptive_max_pool2d "
    "upsample_nearest2d upsample_bilinear2d upsample_nearest3d upsample_trilinear3d dropout pixel_shuffle "
    "unbind split chunk split_with_sizes".split()
)
_KINDS: Final = {
    "mul": "multiply",
    "div": "divide",
    "exp": "exp",
    "maximum": "maximum",
    "minimum": "minimum",
    "pow": "power",
}
# The rule of an operator of one input and a number.
_BESIDE_NUMBER: Final = {
    "relu": ("maximum", 0.0),
    "neg": ("multiply", -1.0),
    "reciprocal": ("power", -1.0),
    "sqrt": ("power", 0.5),
}
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
_TUPLES: Final = frozenset({"prim::TupleConstruct", "prim::ListConstruct"})


def script_steps(graph: Any, names: Sequence[str]) -> Sequence[Step]:  # noqa: ANN401 - torch has no type for it
    """Return the step of the output that is read; none where the graph does not tell which tensor that is."""
    (value,) = graph.outputs()
    node = value.node()
    if node.kind() in _TUPLES:
        values = dict(zip(map(str, range(10_000)), node.inputs(), strict=False))
    elif node.kind() == "prim::DictConstruct":
        pairs = list(node.inputs())
        values = {str(key.toIValue()): item for key, item in zip(pairs[::2], pairs[1::2], strict=True)}
    else:
        return [_step(value)]
    if not names:
        return [_step(next(iter(values.values())))] if len(values) == 1 else []
    return [_step(values[names[0]])] if names[0] in values else []


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


def _step(value: Any) -> Step:  # noqa: ANN401
    """Return the step that makes a value; its sources are looked at where they are asked for."""
    constant = value.toIValue()
    if isinstance(constant, int | float):
        return exactly(float(constant))
    if isinstance(constant, Tensor) and constant.numel():
        return Step("within", limits=(float(constant.min()), float(constant.max())))
    node = value.node()
    kind = node.kind()
    if kind == "prim::If":
        number = list(node.outputs()).index(value)
        ends = [list(block.outputs())[number] for block in node.blocks()]
        return Step("same", lambda: [_step(end) for end in ends], key=value.debugName())
    if kind in {"prim::ListConstruct", "prim::TupleConstruct"}:
        return Step("same", _sources(node, slice(None)), key=value.debugName())
    if kind in {"prim::ListUnpack", "prim::TupleUnpack", "prim::NumToTensor", "prim::unchecked_cast"}:
        return Step("same", _sources(node, slice(0, 1)), key=value.debugName())
    return _computed(node, kind.removeprefix("aten::").removesuffix("_"), value.debugName())


def _computed(node: Any, kind: str, key: str) -> Step:  # noqa: ANN401
    for within, limits in ((_UNITS, UNIT), (_TURNED, (-1.0, 1.0))):
        if kind in within:
            return Step("within", limits=limits)
    if kind in _BUILT:
        return _BUILT[kind](node, kind, key)
    if kind in _BESIDE_NUMBER:
        rule, number = _BESIDE_NUMBER[kind]
        return Step(rule, _sources(node, slice(0, 1), exactly(number)), key=key)
    if kind in _OF_FIRST:
        return Step("same", _sources(node, slice(0, 1)), key=key)
    return Step(_KINDS.get(kind, "unknown"), _sources(node, slice(0, 2)), key=key)


def _sum(node: Any, kind: str, key: str) -> Step:  # noqa: ANN401
    """Return the step of a sum or a difference, whose second number is first multiplied by alpha."""
    inputs = list(node.inputs())
    alpha = inputs[2].toIValue() if len(inputs) > 2 else 1  # noqa: PLR2004 - as older torch writes it
    if alpha != 1:
        return Step("unknown")
    first, second = inputs[:2] if kind != "rsub" else inputs[1::-1]
    return Step("add" if kind == "add" else "subtract", lambda: (_step(first), _step(second)), key=key)


def _cut(node: Any, _: str, key: str) -> Step:  # noqa: ANN401
    """Return the step of a value that is cut at numbers, of which one may be left out."""
    low, high = ([*(value.toIValue() for value in list(node.inputs())[1:3]), None, None])[:2]
    raised = _sources(node, slice(0, 1), *([exactly(float(low))] if isinstance(low, int | float) else []))
    ends = [exactly(float(high))] if isinstance(high, int | float) else []
    return Step("minimum", lambda: (Step("maximum", raised), *ends), key=key)


def _extreme(node: Any, kind: str, key: str) -> Step:  # noqa: ANN401
    """Return the step of the least or the highest values: of two tensors, or along an axis of one."""
    inputs = list(node.inputs())
    is_of_two = len(inputs) > 1 and inputs[1].type().kind() == "TensorType"
    return Step(f"{kind}imum" if is_of_two else "same", _sources(node, slice(0, 2 if is_of_two else 1)), key=key)


def _chosen(node: Any, _: str, key: str) -> Step:  # noqa: ANN401
    return Step("same", _sources(node, slice(1, 3)), key=key)


def _sources(node: Any, chosen: slice, *further: Step) -> Callable[[], Sequence[Step]]:  # noqa: ANN401
    """Return what makes steps of chosen inputs of a node, with further steps behind them."""

    def sources() -> Sequence[Step]:
        return [*map(_step, list(node.inputs())[chosen]), *further]

    return sources


_BUILT: Final[Mapping[str, Callable[[Any, str, str], Step]]] = {
    **dict.fromkeys(("add", "sub", "rsub"), _sum),
    **dict.fromkeys(("clamp", "clip", "hardtanh", "clamp_min"), _cut),
    **dict.fromkeys(("max", "min"), _extreme),
    "where": _chosen,
}
