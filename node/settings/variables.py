"""The AINODE_* variables of the environment, each of which names a key of node.toml and wins over the file."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_origin

from ainode.node.settings.frozen import Frozen
from ainode.node.settings.whole import Tables

_PREFIX: Final = "AINODE_"
_LISTS: Final = {"peer": "ct", "notification": "pager"}
"""what may be repeated in node.toml, and the name in an example of an entry"""
# The Orthanc plug-in reads the first two, the tests of the project read the others.
_OF_OTHERS: Final = frozenset({"AINODE_URL", "AINODE_TOKEN", "AINODE_SHARED", "AINODE_SCREENSHOTS"})
# Kubernetes and Docker links name a service `ainode` so; a port is then an address, such as tcp://10.0.0.1:11112.
_OF_A_CLUSTER: Final = re.compile(
    r"AINODE_(\w+_)?(SERVICE_HOST=|SERVICE_PORT(_\w+)?=|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=|PORT=(tcp|udp|sctp)://).*"
)
_OF_CREDENTIALS: Final = ("user_env", "password_env", "token_env", "key_env", "client_id_env", "client_secret_env")


@dataclass(frozen=True, slots=True)
class Variable:
    """A value for one key of a table, or, where `key` is empty, for a whole table or a list of tables."""

    name: str
    table: str
    key: str
    value: object


def variables(environment: Mapping[str, str]) -> tuple[list[Variable], list[str]]:
    """Return the variables that name a table or a key of node.toml, and a sentence for each that is no JSON."""
    entries, problems = [], []
    for name, text in sorted(environment.items()):
        table, key = _location(name)
        if not _is_setting(table, key):
            continue
        if not _is_json(table, key):
            entries.append(Variable(name, table, key, text))
            continue
        try:
            entries.append(Variable(name, table, key, json.loads(text)))
        except (ValueError, RecursionError):
            problems.append(f"{name}: is no JSON; {_json_remedy(table, key)}")
    return entries, problems


def overridden(values: Mapping[str, Any], entries: Iterable[Variable]) -> dict[str, Any]:
    """Return the values of node.toml with those of the environment in their place."""
    merged = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
    # A whole table comes before its keys: the keys win.
    for entry in sorted(entries, key=lambda entry: bool(entry.key)):
        table = merged.setdefault(entry.table, {})
        if entry.key and isinstance(table, dict):
            table[entry.key] = entry.value
        elif isinstance(entry.value, dict) and isinstance(table, dict):
            table.update(entry.value)
        elif not entry.key:
            merged[entry.table] = entry.value
    return merged


def unknown(environment: Mapping[str, str], values: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each AINODE_* variable that names no table, and that nothing else is known to read."""
    full_names = _names()
    others = _OF_OTHERS | _credentials(values)
    problems = []
    for name, value in sorted(environment.items()):
        if not name.upper().startswith(_PREFIX) or _is_setting(*_location(name)) or name in others:
            continue
        if _OF_A_CLUSTER.fullmatch(f"{name}={value}"):
            continue
        key = name.upper().removeprefix(_PREFIX)
        resembling = [full_name for full_name in full_names if full_name.endswith(f"__{key}")]
        resembling = resembling or difflib.get_close_matches(name.upper(), full_names, n=1, cutoff=0.7)
        question = f" (did you mean {resembling[0]}?)" if resembling else ""
        problems.append(f"{name}: is no setting{question}; write AINODE_<TABLE>__<KEY>, or rename the variable")
    return problems


def _location(name: str) -> tuple[str, str]:
    """Return the table and the key that a variable names; '' for the key of a whole table, twice '' for neither."""
    prefix, location = name[: len(_PREFIX)].upper(), name[len(_PREFIX) :].lower()
    table, _, key = location.partition("__")
    return (table, key) if prefix == _PREFIX else ("", "")


def _is_setting(table: str, key: str) -> bool:
    """Return whether there is such a table; whether it has the key, pydantic tells."""
    return table in Tables.model_fields or (table in _LISTS and not key)


def _is_json(table: str, key: str) -> bool:
    """Return whether a variable holds JSON: a whole table, a list of tables, a list."""
    if not key:
        return True
    field = _table(table).model_fields.get(key)
    return field is not None and get_origin(field.annotation) is tuple


def _json_remedy(table: str, key: str) -> str:
    if table in _LISTS:
        return f"""write a list of tables, such as [{{"name": "{_LISTS[table]}", …}}]"""
    if not key:
        return f"""write a table, such as {{"key": 1}}, or one key: AINODE_{table.upper()}__<KEY>"""
    return """write a list of texts in double quotes, such as ["*@127.0.0.0/8"]"""


def _table(name: str) -> type[Frozen]:
    return type(Tables.model_fields[name].default)


def _names() -> list[str]:
    keys = (f"{table}__{key}" for table in Tables.model_fields for key in _table(table).model_fields)
    return [f"{_PREFIX}{name}".upper() for name in (*keys, *_LISTS)]


def _credentials(values: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the variables that hold the credentials for peers, and the keys of notifications."""
    lists = [entries for entries in map(values.get, _LISTS) if isinstance(entries, list)]
    entries_of_lists = [entry for entries in lists for entry in entries if isinstance(entry, dict)]
    logins = [entry["oauth2"] for entry in entries_of_lists if isinstance(entry.get("oauth2"), dict)]
    tables = [*entries_of_lists, *logins]
    return frozenset(str(entry[key]) for entry in tables for key in _OF_CREDENTIALS if key in entry)
