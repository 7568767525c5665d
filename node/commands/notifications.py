"""`ainode notify`: what the node tells people."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ainode.node.domain import Occasion
from ainode.node.terminal import Config, settings_of, table

if TYPE_CHECKING:
    from ainode.node.keeping.notices import Notices
    from ainode.node.settings import Settings

app = typer.Typer(no_args_is_help=True, help="What the node tells people by node.toml: test, list, retry.")
_LISTED = 100


def _notices(settings: "Settings") -> "Notices":
    """Return the notices of the node.

    Raises: ConfigError if no node of this version has run.
    """
    from ainode.node.keeping import database
    from ainode.node.keeping.notices import Notices

    return Notices(database.existing(settings.database_url))


@app.command("test")
def send_test(
    name: Annotated[str, typer.Argument(help="name of a notification of node.toml")], config: Config = None
) -> None:
    """Send a notification that nothing has happened, at once and from here; exit 1 or 2 if nobody took it."""
    from ainode.node.notifying import sending
    from ainode.node.notifying.bodies import trial_notice

    settings = settings_of(config)
    subscription = settings.subscription(name)
    notice = trial_notice(settings, subscription, datetime.now(UTC))
    sending.send(subscription, notice, datetime.now(UTC))
    typer.echo(f"{name}: taken; its id is {notice.id}")


@app.command("list")
def list_notices(config: Config = None) -> None:
    """List each notification: what waits, what was sent in the last 24 hours, what was given up, and why."""
    settings = settings_of(config)
    notices, since = _notices(settings), datetime.now(UTC) - timedelta(days=1)
    rows = []
    for subscription in settings.subscriptions:
        tally = notices.tally(subscription.name, since)
        counts = (tally.waiting, tally.sent, tally.failed)
        rows.append((subscription.name, ", ".join(map(Occasion, subscription.on)), *map(str, counts), tally.last_error))
    typer.echo(table(("name", "on", "waits", "sent in 24 h", "given up", "last error"), rows))
    for notice in notices.failed(count=_LISTED):
        typer.echo(f"{notice.id}  {notice.subscription}  {notice.occasion}  {notice.subject}: {notice.error}")


@app.command()
def retry(
    notice: Annotated[str, typer.Argument(help="id of a notification that was given up; all if left out")] = "",
    config: Config = None,
) -> None:
    """Have what was given up sent again, with the same id: now if the node runs, else at its start."""
    count = _notices(settings_of(config)).retry(datetime.now(UTC), notice)
    if not count:
        raise LookupError("nothing is given up, or nothing of that id; `ainode notify list` shows what is")
    typer.echo(f"{count} sent again")
