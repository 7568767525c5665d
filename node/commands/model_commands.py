"""The commands about models: `weights`, `train`, `evaluate`, `bench`."""

import contextlib
import itertools
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ainode.node.domain import counted
from ainode.node.errors import ConfigError
from ainode.node.settings import Settings
from ainode.node.terminal import Config, plain_path, settings_of, table

models_app = typer.Typer()
weights_app = typer.Typer(no_args_is_help=True, help="Weight files: list, pull, import, verify.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure ainode beside the program that you would use instead.")


@weights_app.command("list")
def weights_list(config: Config = None) -> None:
    """List every weight file that a manifest names."""
    from ainode.node.reading.weights import environment

    titles = ("name", "model", "version", "status", "MiB", "here", "licence", "trained on")
    rows = (
        (
            entry.name,
            entry.model,
            entry.version,
            entry.status,
            f"{entry.size_bytes / 2**20:.1f}",
            "yes" if entry.is_present else "no",
            entry.licence,
            entry.training_data,
        )
        for entry in environment(settings_of(config)).weights.entries()
    )
    print(table(titles, rows))


@weights_app.command("precisions")
def weights_precisions(config: Config = None) -> None:
    """Show which precision the key `precision = "auto"` gave each network here, and what it was chosen of."""
    from ainode.node.reading.precisions import TITLES, choices

    settings = settings_of(config)
    rows = [choice.row for choice in choices(settings.networks)]
    if rows:
        print(table(TITLES, rows))
    if settings.reader.precision != "auto":
        print(f'[reader] precision = "{settings.reader.precision}": networks run in it, and none is chosen')
    elif not rows:
        print("no network was loaded yet: its first load measures and chooses")


@weights_app.command("pull")
def weights_pull(name: str, config: Config = None) -> None:
    """Download weights from the address in the manifest, and print their path; refuse bytes with another sha256."""
    from ainode.node.commands.recording import record_change
    from ainode.node.reading.weights import environment

    settings = settings_of(config)
    weights = environment(settings).weights
    print(weights.pull(name))
    record_change(settings, f"weights:{name}", "downloaded", {"sha256": weights.entry(name).sha256})


@weights_app.command("import")
def weights_import(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, callback=plain_path)],
    name: Annotated[str, typer.Option(help="the name by which the model asks for the weights")],
    model: Annotated[str, typer.Option(help="folder of models/, such as skin_lesion")],
    licence: Annotated[str, typer.Option(help="the license of the weights")],
    trained_on: Annotated[str, typer.Option(help="the data set, its split, and the number of cases")],
    version: Annotated[str, typer.Option()] = "1",
    config: Config = None,
) -> None:
    """Add a file of your own, marked as the site's; your file replaces a shipped file of that name."""
    from ainode.node.commands.recording import record_change
    from ainode.node.disk import sha256_of
    from ainode.node.domain import WeightsStatus
    from ainode.node.reading.weights import WeightsEntry, environment

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
    settings = settings_of(config)
    print(environment(settings).weights.add(file, entry))
    record_change(settings, f"weights:{name}", "imported", {"sha256": entry.sha256})


@weights_app.command("verify")
def weights_verify(config: Config = None) -> None:
    """Compare every weight file with its manifest; exit 1 if a file is absent or differs."""
    from ainode.node.errors import WeightsError
    from ainode.node.reading.weights import environment

    store = environment(settings_of(config)).weights
    errors = 0
    for entry in store.entries():
        try:
            store.verified(entry.name)
            print(f"{entry.name}: ready")
        except WeightsError as error:
            errors += 1
            print(error)
    raise typer.Exit(1 if errors else 0)


@bench_app.command("ingest")
def bench_ingest(
    rounds: Annotated[int, typer.Option(help="interleaved repetitions; medians are printed")] = 5,
    ct: Annotated[int, typer.Option(help="CT images of 512 x 512")] = 300,
    radiographs: Annotated[int, typer.Option(help="radiographs of 3000 x 3000")] = 20,
) -> None:
    """Time C-STORE to this node, to Debian's Orthanc and to DCMTK's storescp, in one run."""
    from ainode.node.bench.ingest import ingest

    ingest(rounds, ct, radiographs)


@bench_app.command("node")
def bench_node(
    rounds: Annotated[int, typer.Option(min=1, help="number of fresh nodes; medians are printed")] = 3,
    slices: Annotated[int, typer.Option(min=1, help="slices of 512 x 512 in a CT")] = 300,
    priors: Annotated[int, typer.Option(min=1, help="patients with two earlier CTs each")] = 8,
    peer: Annotated[bool, typer.Option("--peer", help="also wait once for Orthanc's StableAge of 60 s")] = False,
    waiting: Annotated[
        int, typer.Option(min=0, help="studies that wait while urgent ones arrive; 0: none is measured")
    ] = 200,
    urgent_alone: Annotated[bool, typer.Option("--urgent", help="measure the urgent lane alone")] = False,
    load_alone: Annotated[
        bool, typer.Option("--load", help="measure the idle node and many studies at once alone")
    ] = False,
    at_once: Annotated[int, typer.Option(min=8, help="studies at once, with --load")] = 1_000,
) -> None:
    """Time what the node adds to a model: its own time per study, that of earlier studies, and of urgent findings."""
    from ainode.node.bench.load import load_lines
    from ainode.node.bench.own_time import measurement_lines
    from ainode.node.bench.urgent import measured_lane

    if load_alone:
        for line in load_lines(at_once):
            print(line, flush=True)
        return
    if not urgent_alone:
        for line in measurement_lines(rounds=rounds, slices=slices, patients=priors, with_stable_age=peer):
            print(line, flush=True)
    if waiting:
        for line in measured_lane(waiting):
            print(line, flush=True)


@bench_app.command("console")
def bench_console(
    studies: Annotated[int, typer.Option(min=100, help="studies in the catalog")] = 20_000,
    pages: Annotated[int, typer.Option(min=1, help="pages that are open at a time")] = 50,
    requests: Annotated[int, typer.Option(min=20, help="requests for each filter")] = 40,
    database: Annotated[str, typer.Option(help="address of an empty PostgreSQL, which is filled; else SQLite")] = "",
) -> None:
    """Time the worklist of a node with many studies for every filter; measure what open pages and all pages cost."""
    import tempfile

    from ainode.node.bench.console import measurement_lines

    with tempfile.TemporaryDirectory() as folder:
        for line in measurement_lines(Path(folder), studies=studies, pages=pages, requests=requests, url=database):
            print(line, flush=True)


@bench_app.command("infer")
def bench_infer(
    full_size: Annotated[
        bool, typer.Option("--full-size", help="time networks of the originals' size, with random weights")
    ] = False,
    runs: Annotated[int, typer.Option(min=1, help="readings by each program, interleaved")] = 15,
    model: Annotated[
        list[str] | None, typer.Option(help="name of a handler that is timed, once for each; else all that ship")
    ] = None,
    config: Config = None,
) -> None:
    """Time a whole reading by each model, beside eager PyTorch or Keras, in one run.

    Then the precision that "auto" gives each network; the first and later readings of a file by `ainode read`; and the
    memory of a long CT.
    """
    from ainode.node.bench.chosen_precisions import choice_rows
    from ainode.node.bench.file_readings import cost_lines
    from ainode.node.bench.long_scans import peak_lines
    from ainode.node.reading import registry
    from ainode.node.reading.precisions import TITLES as CHOICE_TITLES
    from ainode.node.reading.weights import environment

    settings = settings_of(config)
    models, names = environment(settings), tuple(model or registry.names())
    for name in names:
        registry.refuse_route(name, settings.routes)
        registry.refuse_unknown(name)
    for name in names:
        print(f"{name}: {counted(runs, 'reading')} by each program", flush=True)
        comparison = registry.module(name).benchmark(models, full_size=full_size, runs=runs)
        print(table(comparison.titles, comparison.rows), flush=True)
        if comparison.note:
            print(comparison.note, flush=True)
    print(table(CHOICE_TITLES, list(choice_rows(models, names))), flush=True)
    for line in itertools.chain(cost_lines(names, models, runs=runs), peak_lines(names, models)):
        print(line, flush=True)


@contextlib.contextmanager
def _as_config_error(kind: type[Exception]) -> Iterator[None]:
    """Turn an error of a model about its data or files into a ConfigError, which the command prints as one line."""
    try:
        yield
    except kind as error:
        raise ConfigError(str(error)) from error


@models_app.command()
def train(
    model: Annotated[str, typer.Argument(help="folder of models/, such as skin_lesion")],
    data: Annotated[Path, typer.Option(help="folder of the data set, in the layout that the model's card describes")],
    out: Annotated[
        Path, typer.Option(help="folder for checkpoints, log.csv, loss.png, weights; empty, or with --resume")
    ],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="number of epochs, instead of the model's own number")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="end after the epoch in which this time passes")] = float("inf"),
    seed: Annotated[int, typer.Option(help="seed of every random number")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="continue the training in the folder")] = False,
) -> None:
    """Train a model on the part `train` of a data set."""
    from ainode.node.reading.registry import laboratory

    models = laboratory()
    options = models.TrainingOptions(epochs=epochs, minutes=minutes, seed=seed, device=device, resume=resume)
    with _as_config_error(models.ModelError):
        weights = models.train(model, data, out, options)
    for name, path in weights.items():
        print(f"{name}: {path}")
    print(f"next: ainode evaluate {model} --data {data} --weights {out} --out {out / 'evaluation'}")


@models_app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="folder of models/, such as skin_lesion; with --external a handler")],
    data: Annotated[Path, typer.Option(help="folder of the data set")],
    out: Annotated[Path, typer.Option(help="folder for metrics.json and plots")],
    weights: Annotated[
        Path | None, typer.Option(help="folder of a training; if left out, the weights that the node serves")
    ] = None,
    part: Annotated[str, typer.Option(help="test, or train")] = "test",
    external: Annotated[
        Path | None,
        typer.Option(help="CSV of truths (path, label; patient, point if known) of DICOM below --data"),
    ] = None,
    route: Annotated[str, typer.Option(help="with --external: a route of routes.toml, its conditions included")] = "",
    record: Annotated[
        bool, typer.Option("--record", help="with --external: keep the figures beside the weights of this node")
    ] = False,
    config: Config = None,
) -> None:
    """Evaluate a model on a data set and print a table: figures with confidence intervals, beside trivial baselines.

    With --external the data are a site's own patients: the node reads them as it reads a received study, refuses what
    it would refuse, and answers.csv has a line for each row of the table.
    """
    from ainode.node.commands.evaluation_lines import evaluation_lines
    from ainode.node.reading.registry import laboratory
    from ainode.node.reading.weights import environment

    settings, models = settings_of(config), laboratory()
    if external:
        if weights or part != "test":
            raise ConfigError("--external reads with the weights that the node serves: leave out --weights and --part")
        metrics = _external_metrics(settings, model, external, data, out, route=route, is_recorded=record)
    elif route or record:
        raise ConfigError("--route and --record go with --external; leave them out")
    else:
        store = environment(settings).weights
        served = (entry.name for entry in store.entries() if entry.model == model)
        with _as_config_error(models.ModelError):
            files = models.finished_weights(weights) if weights else {name: store.verified(name) for name in served}
            metrics = models.evaluate(model, data, files, out, part, weights)
    for line in evaluation_lines(metrics):
        print(line)
    print(f"every figure, and plots: {out / 'metrics.json'}")


def _external_metrics(
    settings: Settings, handler: str, table: Path, data: Path, out: Path, *, route: str, is_recorded: bool
) -> Mapping[str, object]:
    """Return the figures of a handler on a site's own patients, recorded if that is wanted."""
    from ainode.node.commands.recording import record_change
    from ainode.node.offline import external
    from ainode.node.reading import registry
    from ainode.node.reading.weights import environment

    registry.refuse_route(handler, settings.routes, settings.models)
    if route:
        handler = external.handler_of(route, settings)
    trial = external.Trial(settings, environment(settings), handler, route)
    metrics = external.evaluate(trial, table, data, out, partial(print, file=sys.stderr, flush=True))
    if is_recorded:
        path = external.record(out / "metrics.json", settings.data / "weights", handler)
        record_change(settings, f"evaluation:{handler}", "recorded", {"file": path.name})
    return metrics
