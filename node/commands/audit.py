"""`ainode audit`: the trail of what happened with studies."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ainode.node.audit.trail import Link, files, state
from ainode.node.audit.verification import copy_faults, trail_faults
from ainode.node.terminal import Config, settings_of

app = typer.Typer(no_args_is_help=True, help="The audit trail: verify.")


@app.callback()
def _audit() -> None:
    """Keep `verify` the name of a command, though there is no other."""


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="one file, such as a copy elsewhere; the whole trail if left out")
    ] = None,
    first: Annotated[int, typer.Option(min=1, help="number of the first record here, if older files were moved")] = 1,
    config: Config = None,
) -> None:
    """Compare each record of the audit trail with its digest and with the record before; exit 1 if one differs.

    Each worker has a trail of its own, in a folder beside the files of the node.
    """
    folder = settings_of(config).data / "audit"
    if not (file.is_file() if file else files(folder)):
        typer.echo(f"{file or folder}: no audit trail is there; [audit] enabled = true writes one", err=True)
        raise typer.Exit(1)
    if file:
        are_whole = [_is_whole(str(file), copy_faults(file), None)]
    else:
        are_whole = [_is_whole(str(folder), trail_faults(folder, first=first), state(folder)[0])]
        of_workers = sorted(path for path in folder.glob("worker-*") if files(path))
        are_whole += [_is_whole(str(path), trail_faults(path), state(path)[0]) for path in of_workers]
    if not all(are_whole):
        raise typer.Exit(1)


def _is_whole(name: str, faults: Iterable[str], head: Link | None) -> bool:
    """Print what is wrong with a trail, or that nothing is."""
    is_faulty = False
    for fault in faults:
        typer.echo(fault)
        is_faulty = True
    end = f"; the last is record {head.number}, sha256 {head.digest}" if head else ""
    if not is_faulty:
        typer.echo(f"{name}: every record is as it was written{end}")
    return not is_faulty
