"""The table of truths of a site's own patients: a CSV with a header, a row for each study.

`path` is a file, folder or ZIP below the folder of the data; several, oldest first and divided by `;`, where the model
compares dates. `label` is 1 for ill and 0 for not ill. `patient` groups the rows of a patient; without it the Patient
ID of the files does. `point` is X,Y,Z of a lesion in mm (LPS), one for each path.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ainode.node.errors import ConfigError
from ainode.node.offline.options import read_options

_NEEDED: Final = ("path", "label")
_COLUMNS: Final = (*_NEEDED, "patient", "point")


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table."""

    row: int
    """line of the table, where the header is line 1"""
    paths: tuple[Path, ...]
    is_ill: bool
    patient: str
    points: tuple[str, ...] = ()


def cases(table: Path, folder: Path) -> tuple[Case, ...]:
    """Return the rows of a table of truths, whose paths lie below a folder.

    Raises: ConfigError with the line of the first fault.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            _refuse_columns(table, rows.fieldnames or ())
            table_cases = tuple(_case(table, rows.line_num, row, folder) for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{table}: cannot be read as CSV in UTF-8: {error}") from error
    if {case.is_ill for case in table_cases} != {True, False}:
        raise ConfigError(f"{table}: has no row with label 1, or none with label 0; without both there is no figure")
    return table_cases


def _refuse_columns(table: Path, names: Iterable[str]) -> None:
    columns = tuple(names)
    if missing := [name for name in _NEEDED if name not in columns]:
        raise ConfigError(f"{table}: has no column {' and no column '.join(missing)}; its first line names the columns")
    if unknown := [name for name in columns if name not in _COLUMNS]:
        raise ConfigError(f"{table}: the column {unknown[0]!r} is none of {', '.join(_COLUMNS)}; leave it out")


def _case(table: Path, line: int, row: Mapping[str, str | None], folder: Path) -> Case:
    values = {name: (value or "").strip() for name, value in row.items() if name}
    if values["label"] not in {"0", "1"}:
        raise ConfigError(f"{table}: line {line}: label {values['label']!r} is neither 0 nor 1")
    paths = tuple(folder / name.strip() for name in values["path"].split(";") if name.strip())
    if not paths or not all(path.exists() for path in paths):
        raise ConfigError(f"{table}: line {line}: there is no {values['path']!r} below {folder}")
    points = tuple(point.strip() for point in values.get("point", "").split(";") if point.strip())
    try:
        read_options(points)
    except ConfigError as error:
        raise ConfigError(f"{table}: line {line}: {error}") from error
    return Case(line, paths, values["label"] == "1", values.get("patient", ""), points)
