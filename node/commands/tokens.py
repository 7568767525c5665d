"""`ainode token`: who may call the web interface."""

from pathlib import Path
from typing import Annotated

import typer

from ainode.node.settings import load
from ainode.node.web.tokens import Tokens

app = typer.Typer(no_args_is_help=True, help="Who may call the web interface: add, list, remove.")
_Config = Annotated[Path | None, typer.Option("--config", help="node.toml; routes.toml is looked for beside it")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="whose: the caller, such as `orthanc`")], config: _Config = None
) -> None:
    """Make a token and print it, this once; the node keeps a digest."""
    typer.echo(Tokens(load(config).data).add(name))


@app.command("list")
def list_names(config: _Config = None) -> None:
    """List who has a token."""
    typer.echo("\n".join(Tokens(load(config).data).names()))


@app.command()
def remove(name: str, config: _Config = None) -> None:
    """Forget a token; its owner is refused at once."""
    Tokens(load(config).data).remove(name)
