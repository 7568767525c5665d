"""What of a bundle's configuration is not run here: every place, by key and value, before anything is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from ainode.models.bundles import allowed, expressions
from ainode.models.bundles.config_files import joined, shown
from ainode.models.bundles.tree import METADATA_KEY, Tree
from ainode.models.errors import BundleRefused

REMEDY: Final = (
    "Change a copy of the bundle, or run the bundle as it is in a program of its own, isolated: handlers/README.md."
)
READ: Final = ("network_def", "preprocessing", "inferer", "postprocessing")
"""the keys that are read; what else a configuration holds feeds and starts MONAI's own runner"""
_REFERENCE: Final = re.compile(expressions.REFERENCE, re.ASCII)
_RUNNER_VALUES: Final = {
    "load_pretrain": (True,),
    "network": ("$@network_def.to(@device)", "@network_def"),
    "evaluator#network": ("@network",),
    "evaluator#inferer": ("@inferer",),
    "evaluator#postprocessing": ("@postprocessing",),
    "evaluator#mode": ("eval",),
    "evaluator#decollate": (True,),
    "dataset#transform": ("@preprocessing",),
    "checkpointloader#load_dict": ({"model": "@network"},),
}
"""what MONAI's runner must be told for its answer to be that of the four parts"""
_RUNNER_ARGUMENTS: Final = {
    "evaluator": {
        *("_target_", "amp", "device", "inferer", "network", "postprocessing", "val_data_loader", "val_handlers"),
        *("mode", "decollate"),
    },
    "dataset": {"_target_", "cache_num", "cache_rate", "data", "num_workers", "transform"},
    "dataloader": {"_target_", "batch_size", "dataset", "num_workers", "shuffle"},
}
_LINE: Final = "\n  "
_MAX_LINES: Final = 20


def review(tree: Tree) -> None:
    """Return if every expression, reference and component of a configuration is known here.

    Raises: BundleRefused, with a line for each place that is not: file, key, value, reason.
    """
    problems = [*_problems(tree.content, ""), *_runner_problems(tree)]
    problems += [f"{name}: is missing" for name in READ if not tree.holds(name)]
    if problems:
        raise refusal(tree.file_name, problems)


def refusal(file_name: str, problems: list[str]) -> BundleRefused:
    """Return the refusal of a file with a line for each problem, and what to do."""
    lines = [f"{file_name}, {problem}" for problem in problems[:_MAX_LINES]]
    if len(problems) > _MAX_LINES:
        lines.append(f"and {len(problems) - _MAX_LINES} more")
    return BundleRefused(_LINE.join(["the bundle is not run here:", *lines, REMEDY]))


def _problems(node: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any part of a file
    """Yield `key = value: reason` of what is not known in a part of the configuration."""
    if isinstance(node, dict) and "_target_" in node:
        yield from _component_problems(node, path)
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if joined(path, key) != METADATA_KEY:
                yield from _problems(value, joined(path, key))
    elif isinstance(node, str) and (reason := _text_problem(node)):
        yield f"{path} = {shown(node)}: {reason}{_aside(path)}"


def _text_problem(text: str) -> str:
    """Return why a text is not taken: it is code, or a reference to nothing; empty if it is taken."""
    if text.startswith(expressions.SIGN) and not (expressions.belongs_to_runner(text) or expressions.is_plain(text)):
        return "an expression, which is code; write the value itself"
    if text.startswith("@") and not _REFERENCE.fullmatch(text):
        return "not a reference as MONAI writes them"
    return ""


def _aside(path: str) -> str:
    """Return what may be done with a key that the node does not read."""
    top = path.partition("#")[0]
    return "" if top in READ else ", or remove the key if nothing of " + ", ".join(READ) + " refers to it"


def _component_problems(node: dict[str, Any], path: str) -> Iterator[str]:
    """Yield what is not taken of one component: its name, its mode, the keys that MONAI itself would act on."""
    target = node["_target_"]
    place = joined(path, "_target_")
    if not isinstance(target, str):
        yield f"{place} = {shown(target)}: no name of a component"
    elif not _is_known(target):
        yield f"{place} = {shown(target)}: not on the list of components that are run{_hint(target)}"
    if node.get("_mode_", "default") != "default":
        yield f"{joined(path, '_mode_')} = {shown(node['_mode_'])}: `default` is taken"
    for key, value in node.items():
        if key.startswith("_") and key not in {"_target_", "_mode_", "_desc_", "_disabled_", "_requires_"}:
            yield f"{joined(path, key)} = {shown(value)}: not a key of MONAI's"


def _is_known(target: str) -> bool:
    replaced = allowed.loads_image(target) or allowed.saves_image(target) or allowed.is_compose(target)
    return replaced or target in allowed.RUNNER or allowed.component(target) is not None


def _hint(target: str) -> str:
    if target.startswith("scripts."):
        return " (code that comes with the bundle)"
    return f" of MONAI {allowed.version()}"


def _runner_problems(tree: Tree) -> Iterator[str]:
    """Yield what would make MONAI's own runner do other than preprocess, infer and postprocess."""
    for path, values in _RUNNER_VALUES.items():
        if tree.holds(path) and tree.at(path) not in values:
            yield f"{path} = {shown(tree.at(path))}: {' or '.join(map(shown, values))} is taken"
    for path, taken_keys in _RUNNER_ARGUMENTS.items():
        part = tree.content.get(path)
        for key, value in part.items() if isinstance(part, dict) else ():
            if key not in taken_keys:
                yield f"{joined(path, key)} = {shown(value)}: changes what the runner does; not done here"
    handlers = tree.content.get("handlers")
    for number, handler in enumerate(handlers if isinstance(handlers, list) else ()):
        load = handler.get("load_dict", {"model": "@network"}) if isinstance(handler, dict) else None
        if load != {"model": "@network"}:
            yield f"handlers#{number}#load_dict = {shown(load)}: {{'model': '@network'}} is taken"
