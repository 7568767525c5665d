"""The commands: thin, each imports only what it needs. `ainode --help` lists them."""

import contextlib
import itertools
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ainode.node import logs
from ainode.node.errors import ConfigError, NodeError

if TYPE_CHECKING:
    from ainode.node.ledger import Ledger
    from ainode.node.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
weights_app = typer.Typer(no_args_is_help=True, help="Weight files: list, pull, import, verify.")
bench_app = typer.Typer(no_args_is_help=True, help="Figures side by side with what you would pick instead.")
app.add_typer(weights_app, name="weights")
app.add_typer(bench_app, name="bench")

Config = Annotated[Path | None, typer.Option("--config", help="node.toml; routes.toml is looked for beside it")]


def main() -> None:
    """Run a command; our own errors are one line for the person who must act, and exit 2."""
    logs.configure()
    try:
        app()
    except (NodeError, LookupError) as error:
        print(f"ainode: {error}", file=sys.stderr)
        sys.exit(2)


def _settings(config: Path | None) -> "Settings":
    from ainode.node import settings

    return settings.load(config)


def _ledger(settings: "Settings") -> "Ledger":
    from ainode.node import database
    from ainode.node.ledger import Ledger

    return Ledger(database.connect(settings.database_url))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as aligned columns; a cell of several lines takes several lines."""
    lines = [tuple(head)]
    for row in rows:
        cells = (str(cell).splitlines() for cell in row)
        lines += itertools.zip_longest(*cells, fillvalue="")
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


@app.command()
def serve(config: Config = None) -> None:
    """Run the node until SIGTERM or SIGINT."""
    from ainode.node.app import Node

    node = Node(_settings(config))
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
    from ainode.node.demo import run

    rows, complete = run(keep=keep, seed=seed)
    print(table(("study", "route", "answer", "report", "captures", "seconds"), rows))
    raise typer.Exit(0 if complete else 1)


@app.command()
def read(
    paths: list[Path],
    out: Annotated[Path, typer.Option(help="folder for the documents and reports")],
    model: Annotated[str | None, typer.Option(help="a handler by name, whatever the routes say")] = None,
    config: Config = None,
) -> None:
    """Read studies from files, without a network."""
    from ainode.node import offline, weights

    settings = _settings(config)
    models = weights.environment(settings)
    found, refused = offline.studies(paths, settings)
    for one in refused:
        print(f"not read: {one.path}: {one.why}", file=sys.stderr)
    done = 0
    for study in found:
        for route in offline.routes_for(study, settings, model):
            folder = out if len(found) == 1 else out / study.study_instance_uid
            reading = offline.read(study, route, settings, models)
            written = offline.save(reading, folder)
            print(f"study {study.study_instance_uid}, route {route.name}: {offline.verdict(reading)}")
            print("\n".join(f"  {path}" for path in written))
            done += 1
    if not done:
        print("no study matched a route; `ainode explain` says why, --model NAME reads it anyway", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def explain(what: str, config: Config = None) -> None:
    """Say which routes a study (files, or the UID of a received one) matches or not, and on what."""
    from ainode.node import offline

    settings = _settings(config)
    path = Path(what)
    lines = offline.explained(path, settings) if path.exists() else offline.remembered(what, settings)
    print("\n".join(lines))


@app.command()
def check(config: Config = None) -> None:
    """Say of configuration, routes, weights, packages and destinations whether each is ready; exit 1 if not."""
    from ainode.node.checks import checked

    lines = list(checked(_settings(config)))
    print(table(("what", "state", "remedy"), lines))
    raise typer.Exit(0 if all(line[1] == "ready" for line in lines) else 1)


@app.command("send")
def send_files(arguments: Annotated[list[str], typer.Argument(metavar="PATH... NAME")], config: Config = None) -> None:
    """C-STORE files to a configured peer."""
    from ainode.node.archive.dimse import Link
    from ainode.node.archive.store import Outgoing, send
    from ainode.node.offline import files

    *paths, name = arguments
    settings = _settings(config)
    outgoing = [Outgoing.of(path) for path in files(Path(one) for one in paths)]
    answers = send(Link(settings.peer(name), settings.node.ae_title), outgoing)
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

    ledger = _ledger(_settings(config))
    rows: list[tuple[object, ...]] = []
    for job in ledger.jobs(study=UID(study) if study else None):
        rows.append((job.id, job.state, job.route, "", job.study_instance_uid, job.reason))
        for one in ledger.deliveries(job.id):
            when = f" {one.confirmed_at:%Y-%m-%d %H:%M:%S}Z by {one.proof}" if one.confirmed_at else ""
            said = f"{one.error}" or when.strip()
            rows.append(("", one.state, one.destination, one.document.kind, one.document.ref.sop_instance_uid, said))
    print(table(("job", "state", "route/peer", "kind", "study/document", "why/proof"), rows))


@app.command()
def retry(job: str, config: Config = None) -> None:
    """Revive a failed job, or its failed deliveries; the running node goes on with it."""
    from ainode.node import jobs as workflows

    settings = _settings(config)
    revived = workflows.retry(settings, _ledger(settings), job, token=secrets.token_hex(4))
    print(f"job {job}: " + ", ".join(f"to {name}" if name else "reading" for name in revived) + " tried again")


@app.command()
def replay(
    study: str,
    weights: Annotated[Path | None, typer.Option(help="another folder of weights with a manifest.toml")] = None,
    config: Config = None,
) -> None:
    """Read a past study again, without sending anything, and show what differs."""
    from ainode.node import offline

    same, lines = offline.replayed(study, _settings(config), weights)
    print("\n".join(lines))
    raise typer.Exit(0 if same else 1)


@weights_app.command("list")
def weights_list(config: Config = None) -> None:
    """List every known weight file."""
    from ainode.node.weights import environment

    entries = environment(_settings(config)).weights.entries()
    head = ("name", "model", "version", "status", "MiB", "here", "licence", "trained on")
    print(
        table(
            head,
            (
                (
                    one.name,
                    one.model,
                    one.version,
                    one.status,
                    f"{one.size_bytes / 2**20:.1f}",
                    "yes" if one.path.exists() else "no",
                    one.licence,
                    one.training_data,
                )
                for one in entries
            ),
        )
    )


@weights_app.command("pull")
def weights_pull(name: str, config: Config = None) -> None:
    """Download weights by the manifest's address; other bytes than it names are refused."""
    from ainode.node.weights import environment

    print(environment(_settings(config)).weights.pull(name))


@weights_app.command("import")
def weights_import(
    file: Path,
    name: Annotated[str, typer.Option(help="the name by which the model asks for them")],
    model: Annotated[str, typer.Option()],
    licence: Annotated[str, typer.Option()],
    trained_on: Annotated[str, typer.Option(help="which data, which split, n")],
    version: Annotated[str, typer.Option()] = "1",
    config: Config = None,
) -> None:
    """Add a file of your own; it wins over the shipped one of that name and is marked as the site's."""
    from ainode.node.domain import WeightsStatus
    from ainode.node.weights import WeightsEntry, environment, sha256_of

    entry = WeightsEntry(
        name=name,
        path=Path(file.name),
        sha256=sha256_of(file),
        size_bytes=file.stat().st_size,
        licence=licence,
        model=model,
        version=version,
        status=WeightsStatus.SITE,
        training_data=trained_on,
    )
    print(environment(_settings(config)).weights.add(file, entry))


@weights_app.command("verify")
def weights_verify(config: Config = None) -> None:
    """Compare every present file with its manifest; exit 1 on a difference."""
    from ainode.node.errors import WeightsError
    from ainode.node.weights import environment

    store = environment(_settings(config)).weights
    wrong = 0
    for entry in store.entries():
        try:
            store.verified(entry.name)
            print(f"{entry.name}: ready")
        except WeightsError as error:
            wrong += 1
            print(error)
    raise typer.Exit(1 if wrong else 0)


@bench_app.command("ingest")
def bench_ingest(
    rounds: Annotated[int, typer.Option(help="interleaved repetitions; medians are printed")] = 5,
    ct: Annotated[int, typer.Option(help="CT images of 512 x 512")] = 300,
    radiographs: Annotated[int, typer.Option(help="radiographs of 3000 x 3000")] = 20,
) -> None:
    """Send to this node, to Debian's Orthanc and to DCMTK's storescp, in one run."""
    from ainode.node.bench_ingest import ingest

    ingest(rounds, ct, radiographs)


@bench_app.command("infer")
def bench_infer(
    full_size: Annotated[bool, typer.Option("--full-size", help="the originals' networks, random weights")] = False,
    runs: Annotated[int, typer.Option(help="interleaved readings each")] = 15,
    config: Config = None,
) -> None:
    """Time a whole reading by each model, beside eager PyTorch, in one run."""
    from ainode.node import registry
    from ainode.node.weights import environment

    models = environment(_settings(config))
    for name in registry.names():
        print(name)
        print(table(*registry.module(name).benchmark(models, full_size=full_size, runs=runs)))


@contextlib.contextmanager
def _one_line(kind: type[Exception]) -> Iterator[None]:
    """Turn what a model says of its data or files into a line for the person who gave them."""
    try:
        yield
    except kind as error:
        raise ConfigError(str(error)) from error


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="folder of models/, such as skin_lesion")],
    data: Annotated[Path, typer.Option(help="folder of the data set; the model's card says in which layout")],
    out: Annotated[Path, typer.Option(help="checkpoints, log.csv, loss.png, weights; empty, or with --resume")],
    epochs: Annotated[int | None, typer.Option(min=1, help="instead of the model's own number")] = None,
    minutes: Annotated[float, typer.Option(min=0, help="end after the epoch in which they pass")] = float("inf"),
    seed: Annotated[int, typer.Option(help="of everything that is drawn")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="go on where the folder's training stopped")] = False,
) -> None:
    """Train a model on the part `train` of a data set."""
    from ainode.node.registry import laboratory

    models = laboratory()
    options = models.TrainingOptions(epochs=epochs, minutes=minutes, seed=seed, device=device, resume=resume)
    with _one_line(models.ModelError):
        made = models.train(model, data, out, options)
    for name, path in made.items():
        print(f"{name}: {path}")
    print(f"next: ainode evaluate {model} --data {data} --weights {out} --out {out / 'evaluation'}")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="folder of models/, such as skin_lesion")],
    data: Annotated[Path, typer.Option(help="folder of the data set")],
    out: Annotated[Path, typer.Option(help="metrics.json and plots")],
    weights: Annotated[Path | None, typer.Option(help="folder of a training; else what the node serves")] = None,
    part: Annotated[str, typer.Option(help="test, or train")] = "test",
    config: Config = None,
) -> None:
    """Put a model to the test: intervals by patient or lesion, trivial baselines, plots."""
    import json

    from ainode.node.registry import laboratory
    from ainode.node.weights import environment

    models, store = laboratory(), environment(_settings(config)).weights
    served = (one.name for one in store.entries() if one.model == model)
    with _one_line(models.ModelError):
        files = models.trained(weights) if weights else {name: store.verified(name) for name in served}
        print(json.dumps(models.evaluate(model, data, files, out, part), indent=2))


if __name__ == "__main__":
    main()
