"""Says what pydantic refuses: which file or variable, which key, what is wrong, what to do."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ainode.node.domain import UrgentRule
from ainode.node.routes import PriorRule, Route
from ainode.node.settings.frozen import Frozen
from ainode.node.settings.peers import Peer
from ainode.node.settings.subscriptions import Subscription
from ainode.node.settings.values import PATTERN_WORDS
from ainode.node.settings.variables import Variable
from ainode.node.settings.whole import Tables

# By pydantic's error types; the braces hold what pydantic says about the limits. A value is shown where it is a number
# or one of a few words, and never where it may be an address with a password.
_SENTENCES: Final[Mapping[str, str]] = {
    "missing": "is missing; give it",
    "less_than_equal": "{input!r} is too large; give {le} or less",
    "greater_than_equal": "{input!r} is too small; give {ge} or more",
    "greater_than": "{input!r} is too small; give more than {gt}",
    "finite_number": "{input!r} is not finite; give a number",
    "literal_error": "is not known; give {expected}",
    "enum": "is not known; give {expected}",
    "string_too_long": "has more than {max_length} characters; shorten it",
    "string_too_short": "is empty; give a text",
    "too_short": "is empty; give a text",
    "too_long": "is longer than {max_length}; shorten it",
    "predicate_failed": "has a character that cannot be printed; remove it",
    "string_type": 'is no text; write it in double quotes: "…"',
    "path_type": 'is no path; write it in double quotes: "…"',
    "int_type": "is no whole number; give one without quotes",
    "int_parsing": "is no whole number; give one without quotes",
    "int_parsing_size": "has too many digits; give a smaller number",
    "int_from_float": "{input!r} is no whole number; give one without a fraction",
    "float_type": "is no number; give one without quotes",
    "float_parsing": "is no number; give one without quotes",
    "bool_type": "is neither true nor false; give one of them",
    "bool_parsing": "is neither true nor false; give one of them",
    "tuple_type": 'is no list; write it in brackets: ["…"]',
    "mapping_type": 'is no table of patterns; write {{ Keyword = "pattern" }}',
    "dict_type": 'is no table of patterns; write {{ Keyword = "pattern" }}',
    "model_type": "is no table; write its keys below [{location}]",
    "model_attributes_type": "is no table; write its keys below [{location}]",
    "dataclass_type": "is no table; write its keys below [[{location}]]",
}
_UNKNOWN_KEY: Final = frozenset({"extra_forbidden", "unexpected_keyword_argument"})


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the values come from: the two files, and the variables that win over node.toml."""

    node: Path
    routes: Path
    variables: tuple[Variable, ...] = ()

    def origin(self, table: str, key: str = "") -> str:
        """Return where an operator corrects a key of node.toml: the variables that win, else the file."""
        names = [entry.name for entry in self.variables if entry.table == table and entry.key in ("", key)]
        return " or ".join(names) or str(self.node)

    def key(self, table: str, key: str = "") -> str:
        """Return where an operator corrects a key of node.toml, and the key: "FILE: table.key"."""
        return f"{self.origin(table, key)}: {table}.{key}" if key else f"{self.origin(table)}: {table}"


def refusals(sources: Sources, values: Mapping[str, Any], error: ValidationError, *, of_routes: bool) -> Iterator[str]:
    """Yield the sentence of each problem: "FILE: key: what is wrong; what to do"."""
    for problem in error.errors():
        location = problem["loc"]
        text = ".".join(map(str, location))
        table, key = str(location[0]), str(location[1]) if len(location) > 1 else ""
        origin = sources.routes if of_routes else sources.origin(table, key)
        yield f"{origin}: {text}: {_sentence(problem)}{_entry_name(location, values)}"


def _sentence(problem: ErrorDetails) -> str:
    kind, location = problem["type"], problem["loc"]
    context = problem.get("ctx", {})
    if kind == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    if kind in _UNKNOWN_KEY:
        return f"unknown key{_resembling_key(str(location[-1]))}; correct it, or remove it"
    if kind == "string_pattern_mismatch":
        return PATTERN_WORDS.get(context["pattern"], f"does not match {context['pattern']}; correct it")
    if kind in _SENTENCES:
        return _SENTENCES[kind].format(**context, input=problem["input"], location=location[0])
    return f"{problem['msg']}; correct it"


def _resembling_key(key: str) -> str:
    """Return a question that names the key which an unknown key resembles, '' if the key resembles none.

    A key of another table is unknown where it stands: the question would name the very key.
    """
    tables = {table for outermost in (Tables, Peer, Subscription) for table in _with_inner(outermost)}
    keys = {name for table in tables for name in table.model_fields} | {"peer", "notification", "route"}
    keys |= {field.name for table in (Route, PriorRule, UrgentRule) for field in fields(table)} | {"from"}
    keys -= {"source"}  # `from` in the file
    if key in keys:
        return " (it is a key of another table)"
    resembling_keys = difflib.get_close_matches(key, sorted(keys), n=1, cutoff=0.7)
    return f" (did you mean {resembling_keys[0]}?)" if resembling_keys else ""


def _with_inner(table: type[Frozen]) -> Iterator[type[Frozen]]:
    """Yield a table and the tables in it, such as `[peer.hl7]`, whether or not each has to be there."""
    yield table
    for field in table.model_fields.values():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Frozen):
                yield from _with_inner(kind)


def _entry_name(location: Sequence[str | int], values: Mapping[str, Any]) -> str:
    """Return the name of the [[peer]] or [[route]] that a location counts from 0, '' if the location is in no entry."""
    match location:
        case (str(table), int(number), *_) if number < len(values.get(table, ())):
            entry = values[table][number]
            return f" (in {entry['name']!r})" if isinstance(entry, dict) and "name" in entry else ""
    return ""
