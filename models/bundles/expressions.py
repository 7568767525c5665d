"""The `$` expressions that public bundles use, known by their form; none is evaluated.

A bundle's expression is Python. Here it is either one of the few forms that stand for a plain value (a device, a type
of numbers, a list, text put together, a choice between two values), which are computed from the parsed text by the
functions below; or one of those that belong to MONAI's own runner, which the node replaces and never looks at; or it is
refused.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any, Final

import torch

SIGN: Final = "$"
REFERENCE: Final = r"@[A-Za-z_]\w*(?:(?:#|::)\w+)*"

_MAX_CHARACTERS: Final = 300
_TEXT = r"'[^'\\]*'"
_ARGUMENT = rf"(?:\w+=)?(?:{REFERENCE}|{_TEXT}|True|False)"
_MODULES = "glob|os|json|math|random|numpy|numpy as np|torch|torchvision|monai|ignite|pandas as pd"
_RUNNER: Final = tuple(
    re.compile(form, re.ASCII)
    for form in (
        rf"import (?:{_MODULES})",
        r"monai\.utils\.set_determinism\((?:seed=)?\d{1,10}\)",
        r"setattr\(torch\.backends\.cudnn, ?'benchmark', ?(?:True|False)\)",
        r"@evaluator\.run\(\)",
        r"@checkpointloader\(@evaluator\)(?: if @load_pretrain else None)?",
        r"@network_def\.to\(@device\)",
        rf"(?:list\(sorted\(|sorted\(|list\()glob\.glob\({REFERENCE}(?: ?\+ ?{_TEXT})?\)\){{1,2}}",
        r"list\(@dataset_dir \+ pd\.read_csv\(@dataset_dir \+ '[\w.]+'\)\.\w+\)",
        rf"\[\{{(?:'image'|{REFERENCE}): ?i\}} for i in {REFERENCE}\]",
        rf"monai\.data\.load_decathlon_datalist\({_ARGUMENT}(?:, ?{_ARGUMENT})*\)",
        r"monai\.handlers\.from_engine\(\['\w+'(?:, ?'\w+')*\]\)",
    )
)
"""what sets up, feeds and starts MONAI's runner"""
_DEVICE: Final = re.compile(
    r"torch\.device\((['\"])(?:cuda(?::0)?|cpu)\1(?: if torch\.cuda\.is_available\(\) else (['\"])cpu\2)?\)", re.ASCII
)
_NUMBER_TYPES: Final = frozenset({"float32", "float64", "float16", "uint8", "int16", "int32", "int64", "bool"})


class UnknownForm(ValueError):
    """The expression has none of the forms that are known here; the message says why."""


def belongs_to_runner(text: str) -> bool:
    """Return whether an expression sets up or starts MONAI's own runner, which the node replaces."""
    return len(text) <= _MAX_CHARACTERS and any(form.fullmatch(text.removeprefix(SIGN)) for form in _RUNNER)


def is_plain(text: str) -> bool:
    """Return whether an expression has a form that stands for a plain value."""
    try:
        _parsed(text)
    except UnknownForm:
        return False
    return True


def plain_value(text: str, value_of: Callable[[str], Any], device: str) -> Any:  # noqa: ANN401 - whatever it stands for
    """Return what an expression of a known form stands for; `value_of` gives the value of `id#sub`.

    Raises: UnknownForm if the form is not known, or the values do not fit together.
    """
    body, references = _parsed(text)
    if body is None:
        return torch.device(device)
    try:
        return _value(body, lambda name: value_of(references[name]))
    except (TypeError, ValueError) as error:
        raise UnknownForm(str(error)) from error


def _parsed(text: str) -> tuple[ast.expr | None, dict[str, str]]:
    """Return the parsed form and its references by the names that stand for them; None is the device.

    Raises: UnknownForm.
    """
    body = text.removeprefix(SIGN).strip()
    if not body.isascii() or len(body) > _MAX_CHARACTERS:
        raise UnknownForm("not ASCII, or too long")
    if _DEVICE.fullmatch(body):
        return None, {}
    references: dict[str, str] = {}

    def named(reference: re.Match[str]) -> str:
        name = f"reference_{len(references)}"
        references[name] = reference[0].removeprefix("@")
        return name

    try:
        tree = ast.parse(re.sub(REFERENCE, named, body, flags=re.ASCII), mode="eval").body
    except (SyntaxError, RecursionError, ValueError, MemoryError):
        raise UnknownForm("not a form that is known") from None
    _refuse_unknown(tree, references)
    return tree, references


def _refuse_unknown(node: ast.expr, references: dict[str, str]) -> None:
    """Return if a form and all its parts are known.

    Raises: UnknownForm.
    """
    parts = _parts(node, references)
    if parts is None:
        raise UnknownForm("not a form that is known")
    for part in parts:
        _refuse_unknown(part, references)


def _parts(node: ast.expr, references: dict[str, str]) -> list[ast.expr] | None:
    """Return the forms within a form; None if the form is not known."""
    match node:
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            return [operand]
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return elements
        case ast.IfExp(test=test, body=first, orelse=second):
            return [test, first, second]
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return [left, right]
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name() as argument], keywords=[]):
            return [argument]
    return [] if _is_leaf(node, references) else None


def _is_leaf(node: ast.expr, references: dict[str, str]) -> bool:
    """Return whether a form is a plain value, a reference, or a type of numbers of torch or NumPy."""
    match node:
        case ast.Constant(value=value):
            return value is None or isinstance(value, str | int | float)
        case ast.Attribute(value=ast.Name(id="torch" | "numpy" | "np"), attr=name):
            return name in _NUMBER_TYPES
        case ast.Name(id=name):
            return name in references
        case _:
            return False


def _value(node: ast.expr, value_of: Callable[[str], Any]) -> Any:  # noqa: ANN401 - of any plain type
    """Return the value of a form that `_refuse_unknown` knows."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, value_of)
        case ast.UnaryOp(operand=operand):
            return not _value(operand, value_of)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_value(element, value_of) for element in elements]
        case ast.IfExp(test=test, body=first, orelse=second):
            return _value(first if _value(test, value_of) else second, value_of)
        case ast.BinOp(left=left, right=right):
            return _sum(_value(left, value_of), _value(right, value_of))
    return _leaf(node, value_of)


def _leaf(node: ast.expr, value_of: Callable[[str], Any]) -> Any:  # noqa: ANN401 - of any plain type
    """Return the value of a form without forms in it, or the length of what a reference names."""
    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.Attribute(attr=number_type):
            return getattr(torch, number_type)
        case ast.Name(id=name):
            return value_of(name)
        case ast.Call(args=[ast.Name(id=name)]):
            return len(value_of(name))
    raise UnknownForm("not a form that is known")


def _sum(left: object, right: object) -> str | list[Any] | int | float:
    """Return two texts, lists or numbers put together.

    Raises: TypeError.
    """
    match left, right:
        case str(), str():
            return left + right
        case list(), list():
            return left + right
        case int() | float(), int() | float():
            return left + right
    raise TypeError(f"{type(left).__name__} + {type(right).__name__} is not known")
