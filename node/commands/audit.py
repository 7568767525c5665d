"""`ainode audit`: the trail of what happened with studies."""

from pathlib import Path
from typing import Annotated

import typer

from ainode.node.audit.trail import files, state
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
    """Compare each record of the audit trail with its digest and with the record before; exit 1 if one differs."""
    folder = settings_of(config).data / "audit"
    if not (file.is_file() if file else files(folder)):
        typer.echo(f"{file or folder}: no audit trail is there; [audit] enabled = true writes one", err=True)
        raise typer.Exit(1)
    is_faulty = False
    for fault in copy_faults(file) if file else trail_faults(folder, first=first):
        typer.echo(fault)
        is_faulty = True
    if is_faulty:
        raise typer.Exit(1)
    head = None if file else state(folder)[0]
    end = f"; the last is record {head.number}, sha256 {head.digest}" if head else ""
    typer.echo(f"{file or folder}: every record is as it was written{end}")
