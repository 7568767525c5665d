"""Tables and JSON that a person may have written: what is wrong with one is said with the name of the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ainode.models.errors import ModelError


class Row(dict[str, str]):
    """The entries of a line of a table by their columns; '' where the line is too short.

    A column that the table lacks raises a ModelError that names the table; `get` returns None for it.
    """

    def __init__(self, table: Path, line: int, entries: Mapping[str, str]) -> None:
        super().__init__(entries)
        self._table, self._line = table, line

    def __missing__(self, column: str) -> str:
        raise ModelError(f"{self._table}: no column {column}; there are {', '.join(self)}")

    def refusal(self, reason: str) -> ModelError:
        """Return the error that says what is wrong with the line."""
        return ModelError(f"{self._table}, line {self._line}: {reason}")


def table_rows(table: Path, columns: Iterable[str] = ()) -> Iterator[Row]:
    """Yield the lines of a CSV file whose first line names the columns; their names are read in small letters.

    Raises: ModelError if the file is absent or not in UTF-8, lacks one of `columns` or has it twice, or a line has more
    entries than the first.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            _refuse_columns(table, names, columns)
            reader.fieldnames = names
            for entries in reader:
                row = Row(table, reader.line_num, {name: text for name, text in entries.items() if name is not None})
                if None in entries:
                    raise row.refusal(f"more entries than the {len(names)} columns that the first line names")
                yield row
    except UnicodeDecodeError as error:
        raise ModelError(f"{table}: not in UTF-8 (byte {error.start}); save the table as CSV in UTF-8") from error
    except (OSError, csv.Error) as error:
        raise ModelError(f"{table}: cannot be read as CSV ({error})") from error


def _refuse_columns(table: Path, names: list[str], columns: Iterable[str]) -> None:
    needed = tuple(columns)
    if missing := [name for name in needed if name not in names]:
        raise ModelError(f"{table}: no column {', '.join(missing)}; there are {', '.join(names) or 'none'}")
    if repeated := [name for name in needed if names.count(name) > 1]:
        raise ModelError(f"{table}: more than one column {', '.join(repeated)}")


def json_object(path: Path) -> Mapping[str, Any]:
    """Return the object of a JSON file.

    Raises: ModelError if the file cannot be read as JSON in UTF-8, or is no object.
    """
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON in UTF-8 ({error})") from error
    if not isinstance(entries, dict):
        raise ModelError(f"{path}: no JSON object of names and values")
    return entries
