"""What the code of a TorchScript archive may reach, read as data before torch opens the archive.

Torch runs code of an archive already where it loads it. So nothing of an archive is loaded but what was read here: the
loader gets an archive that is packed anew.
"""

from __future__ import annotations

import ast
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ainode.models.errors import CheckpointRefused
from ainode.models.running.weight_files import refuse_growth

OPERATORS: Final = frozenset({"aten", "prim", "quantized", "torchvision"})
"""the namespaces of operators that compute; others reach processes, networks or files"""
REACHING: Final = frozenset({"from_file", "rpc_async", "rpc_remote", "rpc_sync", "save"})
"""operators of these namespaces that reach files or other processes"""
_CLASSES: Final = frozenset({"quantized", "rnn"})
"""the namespaces of classes of C++ that hold weights"""
_CLASS_IN_PICKLE: Final = re.compile(rb"torch[.\n]classes[.\n](\w*)")
# Code that is read takes some 280 times its bytes of memory; that of large networks has less than one MiB.
_MOST_CODE_BYTES: Final = 4 * 2**20
_CODE, _SOURCES_OF_LINES, _OLD_FORM = "code/", ".debug_pkl", "model.json"


def read_archive(path: Path) -> bytes:
    """Return a TorchScript archive whose code computes, packed anew: of each entry the bytes that were read.

    Raises: CheckpointRefused if the code reaches files, networks or processes, or cannot be read.
    """
    packed = io.BytesIO()
    places = set()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w") as target:
            refuse_growth(archive, path)
            for entry in archive.infolist():
                place = entry.filename.partition("/")[2].casefold()
                if place in places:  # Python could read one of both, and torch the other
                    raise CheckpointRefused(f"{path.name}: holds {place[:80]!r} twice; save it anew by torch.jit.save")
                if place == _OLD_FORM:
                    raise CheckpointRefused(f"{path.name}: was saved by torch 1.1 or older; save it anew")
                places.add(place)
                content = archive.read(entry)
                if reason := _reach(place, content):
                    raise CheckpointRefused(f"{path.name}: {reason}; what only computes is read")
                target.writestr(entry.filename, content)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise CheckpointRefused(f"{path.name}: is no TorchScript, or cut short") from error
    return packed.getvalue()


def _reach(place: str, content: bytes) -> str:
    """Return what an entry of an archive reaches beside tensors; '' if nothing."""
    if place.startswith(_CODE) and not place.endswith(_SOURCES_OF_LINES):
        return _reach_of_code(content)
    if place.endswith(".pkl"):
        names = {name.decode() for name in _CLASS_IN_PICKLE.findall(content)} - _CLASSES
        return f"it holds an object of torch.classes.{min(names)}" if names else ""
    return ""


def _reach_of_code(content: bytes) -> str:
    if len(content) > _MOST_CODE_BYTES:
        return f"it holds {len(content) / 2**20:.0f} MiB of code, where no network has {_MOST_CODE_BYTES // 2**20}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts
            tree = ast.parse(content.decode())  # TorchScript is written as a part of Python
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "its code cannot be read"
    for node in ast.walk(tree):
        # A text may be a name, too: getattr(x, "save").
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in REACHING:
            return f"its code calls {node.value}"
        if isinstance(node, ast.FunctionDef) and node.name in REACHING:
            return f"its code has a function of the name {node.name}, which reaches files or processes in torch"
    return next(filter(None, map(_reach_of_name, _names(tree))), "")


def _names(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yield each name of a code with all its parts, such as ("ops", "prim", "NumToTensor")."""
    inner = set()
    for node in ast.walk(tree):  # an outer part comes before its inner ones
        if not isinstance(node, ast.Attribute | ast.Name) or id(node) in inner:
            continue
        parts: list[str] = []
        part: ast.AST = node
        while isinstance(part, ast.Attribute):
            parts.append(part.attr)
            part = part.value
            inner.add(id(part))
        parts.append(part.id if isinstance(part, ast.Name) else "")
        yield tuple(reversed(parts))


def _reach_of_name(parts: tuple[str, ...]) -> str:
    """Return what a name of the code reaches beside tensors; '' if nothing."""
    name = ".".join(parts)
    if reaching := REACHING & set(parts):
        return f"its code calls {min(reaching)}"
    place = parts[1:] if parts[:2] == ("torch", "ops") else parts
    if place[0] == "ops" and (not place[1:] or place[1] not in OPERATORS):
        return f"its code calls {name}, an operator that is not known to compute"
    if parts[0] == "__torch__" and ("torch", "classes")[: len(parts) - 1] == parts[1:3]:
        # A shorter name could be another name for a longer one.
        is_known = len(parts) > 3 and parts[3] in _CLASSES  # noqa: PLR2004
        return "" if is_known else f"its code names {name}, a class that is not known to hold weights"
    return ""
