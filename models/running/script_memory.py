"""Whether a TorchScript may keep something from one answer to the next, by its operators."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, Final

import torch

# Calls that are not followed, and what writes an attribute of the module.
_KEEPING: Final = frozenset({"prim::SetAttr", "prim::CallMethod", "prim::CallFunction", "prim::fork"})
_NO_SCHEMA: Final = "(no schema)"


def may_keep(graph: Any, watched: Collection[str]) -> bool:  # noqa: ANN401 - torch has no type for it
    """Return whether a module of these operators may keep something: an attribute, or what is written into a constant.

    What is written into memory that the answer itself made, as `relu_` of a convolution's output, is not kept; what is
    written into the attributes `watched`, somebody else sees.
    """
    pictures = frozenset(value.debugName() for value in list(graph.inputs())[1:])
    return any(
        node.kind() in _KEEPING or any(_is_kept(value, pictures, watched) for value in _written(node))
        for node in _nodes(graph)
    )


def _nodes(block: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the operators of a block, and of the blocks inside it."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def is_written_by(node: Any, value: Any) -> bool:  # noqa: ANN401
    """Return whether an operator writes into one of its inputs."""
    return any(item.debugName() == value.debugName() for item in _written(node))


def is_shared_by(node: Any, value: Any) -> bool:  # noqa: ANN401
    """Return whether an operator may answer with memory of one of its inputs, and does not write into it."""
    names = (item.debugName() for is_written, is_shared, item in _arguments(node) if is_shared and not is_written)
    return value.debugName() in names


def _written(node: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the inputs into which an operator writes."""
    yield from (value for is_written, _, value in _arguments(node) if is_written)


def _is_kept(value: Any, pictures: Collection[str], watched: Collection[str]) -> bool:  # noqa: ANN401
    """Return whether a value may be of the module, and not of the answer: where nothing else is known, it may."""
    while True:
        node = value.node()
        if node.kind() == "prim::Param":
            return value.debugName() not in pictures  # the module, or what a loop hands on
        if node.kind() == "prim::GetAttr":
            return node.s("name") not in watched
        if node.kind() == "prim::unchecked_cast":
            value = next(node.inputs())
            continue
        if not node.kind().startswith("aten::"):
            return node.kind() not in {"prim::ListConstruct", "prim::DictConstruct"}
        shared = [source for _, is_shared, source in _arguments(node) if is_shared]
        if not shared:
            return False
        value = shared[0]


def _arguments(node: Any) -> Iterator[tuple[bool, bool, Any]]:  # noqa: ANN401
    """Yield each input: whether the operator writes into it, whether the answer may share its memory, and the input."""
    schema = node.schema()
    if schema != _NO_SCHEMA:
        for (is_written, is_shared), value in zip(_aliases(schema), node.inputs(), strict=False):
            yield is_written, is_shared, value


@cache
def _aliases(schema: str) -> tuple[tuple[bool, bool], ...]:
    arguments = torch._C.parse_schema(schema).arguments  # noqa: SLF001 - torch has no public name for it
    return tuple(
        (bool(info and info.is_write), info is not None) for info in (argument.alias_info for argument in arguments)
    )
