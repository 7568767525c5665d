"""Rows as CSV that a spreadsheet shows and does not run."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

# OWASP, CSV Injection: a cell that begins so is a formula to a spreadsheet, with the letters of full width too.
# Where the spreadsheet of a country parts cells by semicolons or tabulators, a cell begins behind them, too.
_FORMULA: Final = re.compile(r"(^|(?:;|(?<!^)[\t\r\n])\s*[\"']?)(?=[=+\-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20])")
_BLOCK: Final = 65_536


def csv_blocks(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield a CSV in blocks; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(titles)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        if buffer.tell() > _BLOCK:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str):
        return _FORMULA.sub(r"\1'", value)
    return "" if value is None else value
