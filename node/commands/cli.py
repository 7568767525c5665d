"""The commands: thin, each imports only what it needs. `ainode --help` lists them."""

import logging
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ainode.node import logs
from ainode.node.commands.model_commands import bench_app, models_app, weights_app
from ainode.node.commands.tokens import app as token_app
from ainode.node.errors import NodeError
from ainode.node.terminal import Config, settings_of, table

if TYPE_CHECKING:
    from ainode.node.keeping.ledger import Ledger
    from ainode.node.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(models_app)
app.add_typer(weights_app, name="weights")
app.add_typer(bench_app, name="bench")
app.add_typer(token_app, name="token")


def main() -> None:
    """Run a command; our own errors are one line for the person who must act, and exit 2."""
    logs.configure()
    try:
        app()
    except (NodeError, LookupError) as error:
        print(f"ainode: {error}", file=sys.stderr)
        sys.exit(2)


def _ledger(settings: "Settings") -> "Ledger":
    from ainode.node.keeping import database
    from ainode.node.keeping.ledger import Ledger

    return Ledger(database.connect(settings.database_url))


@app.command()
def serve(config: Config = None) -> None:
    """Run the node until SIGTERM or SIGINT."""
    from ainode.node.app import Node

    node = Node(settings_of(config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.request_stop())
    node.start()
    asked = node.wait()
    node.stop()
    # A study that is being read ends here as in a crash, and is read again at the next start; waiting for it, or
    # letting it fail because its reader was stopped, would both be worse.
    logging.shutdown()
    os._exit(0 if asked else 1)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="leave the received and made files in ./ainode-demo")] = False,
    seed: Annotated[int, typer.Option(help="of the synthetic studies")] = 0,
) -> None:
    """Start a node and an archive on loopback, send one synthetic study per model, print what came back."""
    from ainode.node.commands.demo import run

    rows, complete = run(keep=keep, seed=seed)
    print(table(("study", "route", "answer", "report", "captures", "seconds"), rows))
    raise typer.Exit(0 if complete else 1)


@app.command()
def read(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders; NRRD, NIfTI, PNG, JPEG, TIFF files")],
    out: Annotated[Path, typer.Option(help="folder for the documents, the reports, and what was converted")],
    model: Annotated[str | None, typer.Option(help="a handler by name, whatever the routes say")] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y,Z", help="a lesion; per study, oldest first, or one alone, in the newest"),
    ] = None,
    point_is: Annotated[str, typer.Option(metavar="mm|index", help="LPS mm, or voxel i,j,k from 0")] = "mm",
    body_part: Annotated[str, typer.Option(help="Body Part Examined of files that are no DICOM, as CHEST")] = "",
    config: Config = None,
) -> None:
    """Read studies from files, without a network.

    With a --model that compares time points, several volumes or DICOM studies are of one patient: volumes are named
    oldest first, DICOM goes by its dates. Of a folder without DICOM the pictures are one series.
    """
    from ainode.node.offline import inputs
    from ainode.node.offline import readings as offline
    from ainode.node.reading import weights

    settings = settings_of(config)
    models = weights.environment(settings)
    options = offline.options_for(model, inputs.read_options(point or (), point_is=point_is, body_part=body_part))
    studies, unread = inputs.input_studies(paths, out / "converted", options=options, settings=settings)
    for file in unread:
        print(f"not read: {file.path}: {file.reason}", file=sys.stderr)
    readings = [(study, route) for study in studies for route in offline.routes_for(study, settings, model)]
    for study, route in readings:
        reading = offline.read(study, route, settings, models)
        print(f"study {study.study_instance_uid}, route {route.name}: {offline.verdict(reading)}")
        for prior in reversed(study.priors):
            print(f"  compared with study {prior.study_instance_uid}")
        for path in offline.save(reading, out / offline.subfolder(study, route, readings)):
            print(f"  {path}")
    if not readings:
        print("no study matched a route; `ainode explain` says why, --model NAME reads it anyway", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def explain(what: str, config: Config = None) -> None:
    """Say which routes a study (files, or the UID of a received one) matches or not, and on what."""
    from ainode.node.offline import readings as offline

    settings = settings_of(config)
    path = Path(what)
    lines = offline.explanation(path, settings) if path.exists() else offline.stored_explanation(what, settings)
    print("\n".join(lines))


@app.command()
def check(config: Config = None) -> None:
    """Say of configuration, routes, weights, packages and destinations whether each is ready; exit 1 if one is not.

    A live route is in state `shadow` while its handler has demonstration weights that the route does not allow.
    """
    from ainode.node.commands.checks import checked

    lines = list(checked(settings_of(config)))
    print(table(("what", "state", "remedy"), lines))
    raise typer.Exit(0 if all(line[1] != "not ready" for line in lines) else 1)


@app.command()
def doctor(name: str, config: Config = None) -> None:
    """Try a configured archive with synthetic objects, and say how to configure it; exit 1 if it is wrong."""
    import json
    from datetime import UTC, datetime

    from ainode.node.commands.diagnosis import advice, problems
    from ainode.node.commands.doctor import examine

    settings = settings_of(config)
    examination = examine(settings.peer(name), settings, token=secrets.token_hex(8), now=datetime.now(UTC))
    rows = ((trial.name, trial.outcome, trial.detail) for trial in examination.trials)
    print(table(("tried", "works", "detail"), rows))
    keys = (f"{key} = {json.dumps(value)}" for key, value in advice(examination).items())
    print("\n".join(["", "Seen to work:", *keys]))
    for study in examination.remaining_studies:
        print(f"not removed: study {study}")
    sentences = problems(examination)
    for sentence in sentences:
        print(f"{name}: {sentence}", file=sys.stderr)
    raise typer.Exit(1 if sentences else 0)


@app.command("send")
def send_files(arguments: Annotated[list[str], typer.Argument(metavar="PATH... NAME")], config: Config = None) -> None:
    """Send files to a configured peer, as its `deliver` says."""
    from ainode.node.archive.delivery import transport
    from ainode.node.archive.store import Outgoing
    from ainode.node.offline.inputs import files

    *paths, name = arguments
    settings = settings_of(config)
    peer = settings.peer(name)
    outgoing = [Outgoing.of(path) for path in files(Path(one) for one in paths)]
    answers = transport(peer, settings.node.ae_title).send(outgoing)
    failed = [answer for answer in answers if answer.error]
    for answer in failed:
        print(f"{answer.sop_instance_uid}: {answer.error}", file=sys.stderr)
    print(f"{len(answers) - len(failed)} of {len(answers)} stored by {name}")
    raise typer.Exit(1 if failed else 0)


@app.command()
def jobs(
    study: Annotated[str, typer.Argument(help="a Study Instance UID; all studies if left out")] = "",
    config: Config = None,
) -> None:
    """List jobs and what became of each document."""
    from ainode.node.domain import UID

    ledger = _ledger(settings_of(config))
    rows: list[tuple[object, ...]] = []
    for job in ledger.jobs(study=UID(study) if study else None):
        took = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in job.overheads.items())
        rows.append((job.id, job.state, job.route, "", job.study_instance_uid, job.explanation or took))
        for one in ledger.deliveries(job.id):
            when = f" {one.confirmed_at:%Y-%m-%d %H:%M:%S}Z by {one.proof}" if one.confirmed_at else ""
            said = f"{one.error}" or when.strip()
            rows.append(("", one.state, one.destination, one.document.kind, one.document.ref.sop_instance_uid, said))
    print(table(("job", "state", "route/peer", "kind", "study/document", "why/took/proof"), rows))


@app.command()
def retry(job: str, config: Config = None) -> None:
    """Revive a failed job or its failed deliveries, or send what was withheld and is allowed now."""
    from ainode.node.jobs import recovery

    settings = settings_of(config)
    revived = recovery.retry(settings, _ledger(settings), job, token=secrets.token_hex(4))
    print(f"job {job}: " + ", ".join(f"to {name}" if name else "reading" for name in revived) + " tried again")


@app.command()
def replay(
    study: str,
    weights: Annotated[Path | None, typer.Option(help="another folder of weights with a manifest.toml")] = None,
    config: Config = None,
) -> None:
    """Read a past study again, without sending anything, and show what differs."""
    from ainode.node.offline import readings as offline

    same, lines = offline.replay(study, settings_of(config), weights)
    print("\n".join(lines))
    raise typer.Exit(0 if same else 1)


if __name__ == "__main__":
    main()
