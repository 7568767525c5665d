"""Plans: converted graphs without their weights, which ship, so that a first reading converts nothing.

A plan and the file of weights it was made with give the graph that a conversion of these weights gives, byte for byte,
in a part of a second and without torch. A plan is of one set of weights: of others the network is converted.
`python -m ainode.models.planning` makes the plans of the shipped weights.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import numpy as np
import openvino as ov
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ainode.models.errors import ModelError

if TYPE_CHECKING:
    from ainode.models.running.runtime import Recipe

PLANS: Final = Path(__file__).with_name("planned")
_GRAPH, _ENTRIES, _REST = "graph.xml", "plan.json", "rest.bin"
# What no file of weights holds is a part of the plan: shapes and anchors. More than this is a network of another kind.
_MOST_REST_BYTES: Final = 1 << 16
# So that the same graph gives the same file.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a plan says beside the graph. `parts` are the graph's constants in the order of their bytes.

    A part is a file and a key of the weights, or a number of bytes of the rest.
    """

    key: str
    shape: tuple[int, ...]
    openvino: str
    sha256: str
    """of the bytes of all constants"""
    parts: tuple[tuple[str, str] | int, ...]


def is_planned(recipe: Recipe, folder: Path = PLANS) -> bool:
    """Return whether a plan of these weights, which the key of the recipe names, and of this OpenVINO ships."""
    path = folder / f"{recipe.plan}.zip"
    if not recipe.plan or not path.is_file():
        return False
    with zipfile.ZipFile(path) as archive:
        entries = json.loads(archive.read(_ENTRIES))
    return (entries["key"], tuple(entries["shape"]), entries["openvino"]) == (recipe.key, recipe.shape, ov.__version__)


def planned_graph(recipe: Recipe, folder: Path = PLANS) -> Any | None:  # noqa: ANN401  # openvino has no stubs
    """Return the graph of a recipe from its plan; None where no plan of these weights and this OpenVINO ships."""
    if not is_planned(recipe, folder):
        return None
    with zipfile.ZipFile(folder / f"{recipe.plan}.zip") as archive:
        entries = json.loads(archive.read(_ENTRIES))
        graph, rest = archive.read(_GRAPH), archive.read(_REST)
    try:
        constants = b"".join(_constants(entries["parts"], rest, recipe.files))
    except (KeyError, OSError, SafetensorError):  # the conversion says what is wrong with the weights
        return None
    if hashlib.sha256(constants).hexdigest() != entries["sha256"]:
        return None
    return ov.Core().read_model(graph, ov.Tensor(np.frombuffer(constants, np.uint8)))


def write_plan(recipe: Recipe, graph: Path, folder: Path = PLANS) -> Path:
    """Write the plan of a recipe from its converted graph, a .xml with its .bin beside it; return the plan's path.

    Raises: ModelError if too much of the graph is not in the recipe's files.
    """
    constants = graph.with_suffix(".bin").read_bytes()
    parts, rest = _parts(graph.read_bytes(), constants, _table(recipe.files))
    if len(rest) > _MOST_REST_BYTES:
        raise ModelError(f"{recipe.plan}: {len(rest)} bytes of the graph are in no file of weights; no plan of it")
    plan = Plan(recipe.key, recipe.shape, ov.__version__, hashlib.sha256(constants).hexdigest(), parts)
    folder.mkdir(exist_ok=True)
    path = folder / f"{recipe.plan}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        contents = {_GRAPH: graph.read_bytes(), _ENTRIES: json.dumps(asdict(plan)).encode(), _REST: rest}
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED)
    return path


def _constants(parts: list[list[str] | int], rest: bytes, files: Mapping[str, Path]) -> Iterator[bytes]:
    """Yield the bytes of each constant.

    Raises: KeyError, OSError, SafetensorError if the weights lack what the plan names.
    """
    tables = {name: load_file(path) for name, path in files.items()}
    position = 0
    for part in parts:
        if isinstance(part, int):
            yield rest[position : position + part]
            position += part
        else:
            name, key = part
            yield _single_precision(tables[name][key])


def _table(files: Mapping[str, Path]) -> Mapping[bytes, tuple[str, str]]:
    """Return file and key of each tensor by its bytes; of equal tensors the first."""
    table: dict[bytes, tuple[str, str]] = {}
    for name, path in files.items():
        for key, values in load_file(path).items():
            table.setdefault(_single_precision(values), (name, key))
    return table


def _single_precision(values: np.ndarray[Any, Any]) -> bytes:
    return (values.astype(np.float32) if np.issubdtype(values.dtype, np.floating) else values).tobytes()


def _parts(
    graph: bytes, constants: bytes, table: Mapping[bytes, tuple[str, str]]
) -> tuple[tuple[tuple[str, str] | int, ...], bytes]:
    """Return the parts of the constants, and the bytes of those that are in no file."""
    parts: list[tuple[str, str] | int] = []
    rest = b""
    position = 0
    for start, size in sorted(_places(graph)):
        if start > position:  # between two constants
            parts.append(start - position)
            rest += constants[position:start]
        content = constants[start : start + size]
        source = table.get(content)
        parts.append(source or size)
        rest += b"" if source else content
        position = start + size
    if position < len(constants):
        parts.append(len(constants) - position)
        rest += constants[position:]
    return tuple(parts), rest


def _places(graph: bytes) -> set[tuple[int, int]]:
    """Return offset and size of each constant of a graph."""
    layers = ET.fromstring(graph).iter("layer")  # noqa: S314  # a graph that this program converted
    entries = (layer.find("data") for layer in layers if layer.get("type") == "Const")
    return {(int(data.get("offset", 0)), int(data.get("size", 0))) for data in entries if data is not None}
