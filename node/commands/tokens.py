"""`ainode token`: who may call the web interface."""

from typing import Annotated

import typer

from ainode.node.terminal import Config, settings_of
from ainode.node.web.tokens import Tokens

app = typer.Typer(no_args_is_help=True, help="Who may call the web interface: add, list, remove.")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="name of the caller, such as `orthanc`")], config: Config = None
) -> None:
    """Create a token for a caller and print the token once; the node keeps only a digest of the token."""
    typer.echo(Tokens(settings_of(config).data).add(name))


@app.command("list")
def list_names(config: Config = None) -> None:
    """List the names of the callers that have a token."""
    typer.echo("\n".join(Tokens(settings_of(config).data).names()))


@app.command()
def remove(name: str, config: Config = None) -> None:
    """Remove a caller's token; the node refuses the caller from the next request on."""
    Tokens(settings_of(config).data).remove(name)
