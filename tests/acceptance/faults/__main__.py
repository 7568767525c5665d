"""`python -m acceptance.faults`: run the fault campaign, print its table, end with 1 if anything was lost."""

import argparse
import sys
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path

from acceptance.faults.campaign import GROUPS, SHORT, Scale, header, line, rows, write

from ainode.node.bench.servers import print_line


def main() -> int:
    """Return 1 if a row has something lost, missing, duplicate or stuck."""
    parser = argparse.ArgumentParser(prog="acceptance.faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the scale of the test suite")
    for field in fields(Scale):
        parser.add_argument(f"--{field.name}", type=int, help=f"{field.default} by default")
    parser.add_argument("--only", nargs="+", choices=tuple(GROUPS), default=tuple(GROUPS), help="groups of faults")
    parser.add_argument("--table", type=Path, default=Path("faults.json"), help="the table; .tsv is written beside it")
    arguments = parser.parse_args()
    given = {field.name: value for field in fields(Scale) if (value := getattr(arguments, field.name)) is not None}
    scale = replace(SHORT if arguments.short else Scale(), **given)
    started, table = time.monotonic(), []
    print_line(header())
    with tempfile.TemporaryDirectory(prefix="ainode-faults-") as folder:
        for row in rows(Path(folder), scale, arguments.only):
            table.append(row)
            print_line(f"{line(row)}  [{time.monotonic() - started:.0f} s]")
            write(arguments.table, table)
    return int(any(row.cost for row in table))


if __name__ == "__main__":
    sys.exit(main())
