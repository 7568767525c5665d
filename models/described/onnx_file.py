"""What an ONNX file says of its inputs, its outputs and other files, read byte by byte before a library opens it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ainode.models.errors import CheckpointRefused

# Fields of onnx.proto3, by the message that has them: which lead to tensors, and the message behind each.
# Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
_INNER = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
}
_EXTERNAL_DATA, _KEY, _VALUE = 13, 1, 2
_GRAPH, _NODE, _INITIALIZER, _INPUT, _OUTPUT, _TENSOR_NAME = 7, 1, 5, 11, 12, 8
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4
# Operators that change no value, or cut it.
_MOVING = frozenset(
    {"Cast", "Clip", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
_DIM_VALUE_TAG = 8
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_DEEPEST, _LONGEST_VARINT = 64, 10


def refuse_foreign_data(path: Path, companions: Collection[str]) -> None:
    """Return if all data of an ONNX file lie in it, or in files beside it that the description lists.

    Raises: CheckpointRefused that names the file that is asked for; or that the file is no ONNX.
    """
    for location in foreign_data(path):
        if location not in companions:
            raise CheckpointRefused(
                f"{path.name}: takes data from {location[:80]!r}, which is no file of the model; put the file beside "
                "it and list it below [[file.companions]], or export the network into one file"
            )


def foreign_data(path: Path) -> tuple[str, ...]:
    """Return the files beside an ONNX file that it takes data from.

    Raises: CheckpointRefused if one lies elsewhere, or the file is no ONNX.
    """
    with _reading(path):
        locations = sorted(set(_locations(_content(path), "Model", 0)))
    for location in locations:
        place = PurePosixPath(location)
        if place.is_absolute() or ".." in place.parts or "\\" in location or str(place) != location:
            raise CheckpointRefused(
                f"{path.name}: takes data from {location[:80]!r}, outside of the folder of the model; export the "
                "network into one file"
            )
    return tuple(locations)


@dataclass(frozen=True, slots=True)
class NamedShape:
    """A tensor at an end of a network; None is a size that the network leaves open."""

    name: str
    shape: tuple[int | None, ...]
    operator: str = ""
    """what makes the tensor's values, such as Gemm or Sigmoid; '' where the file does not tell"""


def ends(path: Path) -> tuple[tuple[NamedShape, ...], tuple[NamedShape, ...]]:
    """Return the inputs of an ONNX file that are no weights, and its outputs.

    Raises: CheckpointRefused if the file is no ONNX.
    """
    with _reading(path):
        graph = next(value for number, value in _fields(_content(path)) if number == _GRAPH)
        parts = list(_fields(_bytes(graph)))
        weights = {
            bytes(_bytes(value)).decode()
            for number, tensor in parts
            if number == _INITIALIZER
            for field, value in _fields(_bytes(tensor))
            if field == _TENSOR_NAME
        }
        inputs, outputs = (
            [_named_shape(_bytes(value)) for number, value in parts if number == field_number]
            for field_number in (_INPUT, _OUTPUT)
        )
        makers = dict(pair for number, node in parts if number == _NODE for pair in _made(_bytes(node)))
    with_operators = (replace(output, operator=_operator(output.name, makers)) for output in outputs)
    return tuple(item for item in inputs if item.name not in weights), tuple(with_operators)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise CheckpointRefused in place of what bytes that are no ONNX raise."""
    try:
        yield
    except (IndexError, ValueError, RecursionError, StopIteration, OSError) as error:
        raise CheckpointRefused(f"{path.name}: is no ONNX file, or cut short") from error


def _content(path: Path) -> memoryview:
    return memoryview(path.read_bytes())


def _named_shape(message: memoryview) -> NamedShape:
    """Return name and shape of a ValueInfoProto."""
    fields = dict(_fields(message))
    name = bytes(_bytes(fields.get(1))).decode()
    tensor = dict(_fields(_bytes(fields.get(2)))).get(1)
    shape = dict(_fields(_bytes(tensor))).get(2) if tensor is not None else None
    sizes = (_number_of(_bytes(value)) for _, value in _fields(shape)) if shape is not None else ()
    return NamedShape(name, tuple(sizes))


def _made(node: memoryview) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the name of each tensor that a node makes, the operator, and the name of the node's first input."""
    texts: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_OPERATOR: []}
    for number, value in _fields(node):
        if number in texts:
            texts[number].append(bytes(_bytes(value)).decode())
    operator, first = (next(iter(texts[number]), "") for number in (_NODE_OPERATOR, _NODE_INPUT))
    yield from ((text, (operator, first)) for text in texts[_NODE_OUTPUT])


def _operator(name: str, makers: Mapping[str, tuple[str, str]]) -> str:
    """Return the operator that makes the values of a tensor: of those behind each other the last that changes one."""
    for _ in range(_DEEPEST):
        operator, first = makers.get(name, ("", ""))
        if operator not in _MOVING:
            return operator
        name = first
    return ""


def _number_of(dimension: memoryview) -> int | None:
    """Return the size of a dimension, None if it has a name instead."""
    if not dimension or dimension[0] != _DIM_VALUE_TAG:
        return None
    return _varint(dimension, 1)[0] or None


def _locations(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    """Yield the location of each tensor's external data.

    Raises: ValueError, IndexError if the bytes are no such message.
    """
    if depth > _DEEPEST:
        raise ValueError("too deep")
    for number, value in _fields(message):
        if kind == "Tensor":
            if number == _EXTERNAL_DATA:
                entry = {
                    field: bytes(_bytes(part)).decode() for field, part in _fields(_bytes(value)) if part is not None
                }
                if entry.get(_KEY) == "location":
                    yield entry.get(_VALUE, "")
        elif inner := _INNER[kind].get(number):
            yield from _locations(_bytes(value), inner, depth + 1)


def _bytes(value: memoryview | None) -> memoryview:
    if value is None:
        raise ValueError("a number where a message belongs")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """Yield number and bytes of each field of a protobuf message; None for a number."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        wire, value = tag & 7, None
        if wire == _VARINT:
            _, place = _varint(message, place)
        elif wire in {_FIXED_32, _FIXED_64}:
            place += 4 if wire == _FIXED_32 else 8
        elif wire == _BYTES:
            length, place = _varint(message, place)
            value, place = message[place : place + length], place + length
        else:
            raise ValueError("no field of protobuf")
        if place > len(message):
            raise ValueError("cut short")
        yield tag >> 3, value


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    number = 0
    for count in range(_LONGEST_VARINT):
        byte = message[place + count]
        number |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number
            return number, place + count + 1
    raise ValueError("a number of more than ten bytes")
