"""The three things of a bundle that are read: configuration, metadata, weights."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ainode.models.bundles import config_files, weights
from ainode.models.bundles.review import REMEDY, review
from ainode.models.bundles.tree import Tree, tree
from ainode.models.errors import BundleRefused

METADATA: Final = PurePosixPath("configs/metadata.json")
CONFIGURATIONS: Final = tuple(PurePosixPath(f"configs/inference.{suffix}") for suffix in ("json", "yaml", "yml"))
WEIGHTS_FOLDER: Final = PurePosixPath("models")
LOGGING: Final = PurePosixPath("configs/logging.conf")
_LOGGING: Final = {
    "args": re.compile(r"\(sys\.std(?:out|err),?\)"),
    "class": re.compile(r"(?:logging\.)?StreamHandler"),
    "format": re.compile(r"[ \w%()\-:.,\[\]]*"),
}
_HARMLESS: Final = re.compile(r"[\w, ]*")


@dataclass(frozen=True, slots=True)
class Contents:
    """A bundle's folder, read and reviewed; nothing of it is built yet."""

    tree: Tree
    metadata: dict[str, Any] = field(repr=False)
    weights: Path

    @classmethod
    def of(cls, folder: Path, names: Sequence[PurePosixPath] | None = None) -> Contents:
        """Return the contents of a bundle's folder; of the files in `names` alone, if they are given.

        Raises: BundleRefused; CheckpointRefused if the weights are none that may be opened.
        """
        if names is None:
            names = [PurePosixPath(path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*"))]
        configuration, file = configuration_name(names), weights_name(names)
        metadata = config_files.read(folder / METADATA, strict_text=False)
        content = config_files.read(folder / configuration, strict_text=True)
        if LOGGING in names:
            refuse_code_in_logging((folder / LOGGING).read_text("utf-8", errors="replace"))
        built = tree(content, metadata, configuration.name)
        review(built)
        weights.refuse_unfit(folder / file)
        return cls(built, metadata, folder / file)


def configuration_name(names: Iterable[PurePosixPath]) -> PurePosixPath:
    """Return the file of a bundle that says how it infers.

    Raises: BundleRefused if there is none, there are two, or metadata.json is missing.
    """
    present = set(names)
    if METADATA not in present:
        raise BundleRefused(f"no {METADATA}: not a MONAI bundle")
    configurations = [name for name in CONFIGURATIONS if name in present]
    if len(configurations) != 1:
        one_of = ", ".join(map(str, CONFIGURATIONS))
        raise BundleRefused(f"{len(configurations)} files say how the bundle infers; one of {one_of} is read")
    return configurations[0]


def refuse_code_in_logging(text: str) -> None:
    """Return if a logging.conf is the one of all public bundles, which writes to the terminal.

    Python's logging evaluates its arguments, so any other is code; neither is ever used here.
    Raises: BundleRefused that names section, key and value.
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise BundleRefused(f"{LOGGING}: cannot be read: {type(error).__name__}; leave the file out") from error
    for section in parser.sections():
        for key, value in parser.items(section):
            if not _LOGGING.get(key, _HARMLESS).fullmatch(value):
                place = f"{LOGGING}, [{section}] {key} = {config_files.shown(value)}"
                raise BundleRefused(f"{place}: code for Python's logging; leave the file out of a copy. {REMEDY}")


def weights_name(names: Iterable[PurePosixPath]) -> PurePosixPath:
    """Return the file of a bundle's weights: safetensors, else TorchScript.

    Raises: BundleRefused, with the command that converts a pickle, if the bundle has neither.
    """
    files = [name for name in names if name.parent == WEIGHTS_FOLDER]
    for suffix in weights.SUFFIXES:
        named = [name for name in files if name.suffix == suffix]
        chosen = [name for name in named if name.stem == "model"] or named
        if len(chosen) > 1:
            listed = ", ".join(map(str, chosen))
            raise BundleRefused(
                f"several files of weights: {listed}; keep one, or name the one that is meant model{suffix}"
            )
        if chosen:
            return chosen[0]
    pickled = [str(name) for name in files if name.suffix in weights.PICKLES]
    if pickled:
        raise BundleRefused(f"{', '.join(pickled)}: pickled weights, which are a program; {weights.CONVERSION}")
    raise BundleRefused(f"no weights below {WEIGHTS_FOLDER}/: {' or '.join(weights.SUFFIXES)} is read")
