"""Models that a site describes in a file: what the node itself reads of `<data>/models/NAME/model.toml`.

The rest of the file is of the handler that reads by it. A model's identity is that of all its files and of its words:
a changed threshold is another model.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ainode.node.domain import WeightsStatus
from ainode.node.errors import ConfigError, WeightsError
from ainode.node.reading.manifest import WeightsEntry
from ainode.node.reading.tables import Table

DESCRIPTION: Final = "model.toml"
PROGRAM: Final = "program"
KINDS: Final = ("classify", "detect", "landmarks", "segment", PROGRAM)
"""the handlers that read by a description; each is a module of `handlers/`"""
FORMATS: Final = ("onnx", "torchscript", "safetensors", "keras", "bundle")
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_TODO: Final = re.compile(r"""=\s*.*["']TODO""")
_OF_THE_NODE: Final = ("handler", "title", "version", "licence", "trained_on", "status", "file")
# A description has some thirty lines.
_MOST_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class DescribedModel:
    """A model by its description."""

    name: str
    folder: Path
    kind: str
    """the handler that reads by the description"""
    title: str
    format: str
    entry: WeightsEntry
    table: Table
    """the keys that the handler reads; those of the node are known to it"""
    file: Table
    """the keys of [file], of which the handler reads `architecture`"""


def names(models: Path | None) -> tuple[str, ...]:
    """Return the names of the models that have a description, be it wrong."""
    if models is None:
        return ()
    try:
        return tuple(sorted(folder.name for folder in models.iterdir() if is_described(folder.name, models)))
    except OSError:
        return ()


def is_described(name: str, models: Path | None) -> bool:
    """Return whether there is a description of that name, be it wrong."""
    return models is not None and bool(NAME.fullmatch(name)) and (models / name / DESCRIPTION).is_file()


def is_program(name: str, models: Path | None) -> bool:
    """Return whether a model is a program of the site, which no reader holds in its own process."""
    try:
        return is_described(name, models) and described(name, models).kind == PROGRAM
    except ConfigError:  # `ainode check` names the fault
        return False


def refuse_name(name: str, shipped: Iterable[str]) -> None:
    """Return if a model may have a name; `shipped` are the names of handlers.

    Raises: ConfigError.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a model: small letters, digits and _, 40 at most, a letter first")
    if name in {*shipped, *KINDS}:
        raise ConfigError(f"a handler that ships is named {name}; give the model another name")


def entries(models: Path | None) -> Iterator[WeightsEntry]:
    """Yield the weights of every model whose description can be read."""
    for name in names(models):
        try:
            yield entry(name, models)
        except WeightsError:  # `ainode model list` and `ainode check` name it
            continue


def entry(name: str, models: Path | None) -> WeightsEntry:
    """Return the weights of a model.

    Raises: WeightsError if its description is wrong.
    """
    try:
        return described(name, models).entry
    except ConfigError as error:
        raise WeightsError(str(error)) from error


def described(name: str, models: Path | None) -> DescribedModel:
    """Return a model as its description says it.

    Raises: ConfigError that names the file, the key, its value, and what is allowed.
    """
    if models is None or not is_described(name, models):
        raise ConfigError(f"no model is named {name!r}: there is no {DESCRIPTION} in {(models or Path()) / name}")
    folder = models / name
    values, digest = _content(folder / DESCRIPTION)
    table = Table(f"{folder / DESCRIPTION}", values)
    table.allow(*_OF_THE_NODE)
    title = table.text("title")
    kind = table.text("handler", choices=KINDS)
    file = table.table("file")
    model_format = file.text("format", choices=(PROGRAM,) if kind == PROGRAM else FORMATS)
    return DescribedModel(
        name, folder, kind, title, model_format, _entry(name, folder, (table, file), digest), table, file
    )


def _content(path: Path) -> tuple[dict[str, Any], str]:
    """Return the keys of a description and the sha256 of its bytes.

    Raises: ConfigError.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path}: has more than {_MOST_BYTES} bytes; it is a description of some thirty lines")
    try:
        text = content.decode()
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
    lines = [f"line {n}: {line.strip()}" for n, line in enumerate(text.splitlines(), start=1) if _TODO.search(line)]
    if len(lines) == 1:
        raise ConfigError(f"{path}: {lines[0]}; write the answer there")
    if lines:
        raise ConfigError("\n  ".join([f"{path}: {len(lines)} lines wait for an answer; write it there", *lines]))
    return values, hashlib.sha256(content).hexdigest()


def _entry(name: str, folder: Path, tables: tuple[Table, Table], description_sha256: str) -> WeightsEntry:
    table, file = tables
    (path, sha256), *companions = _files(folder, file)
    try:
        size_bytes = path.stat().st_size
    except OSError:
        size_bytes = 0
    return WeightsEntry(
        name=name,
        path=path,
        sha256=sha256,
        size_bytes=size_bytes,
        licence=table.text("licence"),
        model=name,
        version=table.text("version"),
        status=WeightsStatus(table.text("status", "site", choices=[status.value for status in WeightsStatus])),
        training_data=table.text("trained_on"),
        companions=(*companions, (folder / DESCRIPTION, description_sha256)),
    )


def _files(folder: Path, file: Table) -> Iterator[tuple[Path, str]]:
    """Yield path and sha256 of the model's file, then of the files that belong to it.

    Raises: ConfigError if a path leads out of the model's folder.
    """
    for table in (file, *file.tables("companions")):
        path, sha256 = table.text("path"), table.text("sha256")
        if not _SHA256.fullmatch(sha256):
            raise table.wrong("sha256", "64 hexadecimal digits are needed: `sha256sum FILE` prints them")
        place = PurePosixPath(path)
        if place.is_absolute() or ".." in place.parts or "\\" in path or "\0" in path:
            raise table.wrong("path", "a file inside the folder of the model is needed")
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise table.wrong("path", "it leads out of the folder of the model by a link; put the file into the folder")
        if table is not file:
            table.refuse_unknown()
        yield folder / path, sha256
