"""`ainode audit`: the trail of what happened with studies."""

from pathlib import Path
from typing import Annotated

import typer

from ainode.node.audit.trail import faults, files
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
    config: Config = None,
) -> None:
    """Compare each record of the audit trail with its digest and with the record before; exit 1 if one differs."""
    folder = settings_of(config).data / "audit"
    if not (file.is_file() if file else files(folder)):
        typer.echo(f"{file or folder}: no audit trail is there; [audit] enabled = true writes one", err=True)
        raise typer.Exit(1)
    is_faulty = False
    for fault in faults(folder, file):
        typer.echo(fault)
        is_faulty = True
    if is_faulty:
        raise typer.Exit(1)
    typer.echo(f"{file or folder}: every record is as it was written")
