"""`ainode token`: who may call the web interface."""

from typing import Annotated

import typer

from ainode.node.commands.recording import record_person
from ainode.node.terminal import Config, settings_of
from ainode.node.web.tokens import Tokens

app = typer.Typer(no_args_is_help=True, help="Who may call the web interface: add, list, remove.")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="name of the caller, such as `orthanc`")],
    metrics: Annotated[bool, typer.Option("--metrics", help="a token for Prometheus: it reads /metrics alone")] = False,
    config: Config = None,
) -> None:
    """Create a token for a caller and print the token once; the node keeps only a digest of the token."""
    settings = settings_of(config)
    token = Tokens(settings.data).add(name, for_metrics=metrics)
    record_person(settings, f"token:{name}", "a token was added")
    typer.echo(f"a token for the node whose data are in {settings.data}:", err=True)
    typer.echo(token)


@app.command("list")
def list_names(config: Config = None) -> None:
    """List the names of the callers that have a token."""
    typer.echo("\n".join(Tokens(settings_of(config).data).names()))


@app.command()
def remove(name: str, config: Config = None) -> None:
    """Remove a caller's token; the node refuses the caller from the next request on."""
    settings = settings_of(config)
    Tokens(settings.data).remove(name)
    record_person(settings, f"token:{name}", "a token was removed")
