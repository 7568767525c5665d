"""The commands about models: weights, training, evaluation, figures."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ainode.node.errors import ConfigError
from ainode.node.terminal import Config, settings_of, table

models_app = typer.Typer()
weights_app = typer.Typer(no_args_is_help=True, help="Weight files: list, pull, import, verify.")
bench_app = typer.Typer(no_args_is_help=True, help="Figures side by side with what you would pick instead.")


@weights_app.command("list")
def weights_list(config: Config = None) -> None:
    """List every known weight file."""
    from ainode.node.reading.weights import environment

    entries = environment(settings_of(config)).weights.entries()
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
    from ainode.node.reading.weights import environment

    print(environment(settings_of(config)).weights.pull(name))


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
    print(environment(settings_of(config)).weights.add(file, entry))


@weights_app.command("verify")
def weights_verify(config: Config = None) -> None:
    """Compare every present file with its manifest; exit 1 on a difference."""
    from ainode.node.errors import WeightsError
    from ainode.node.reading.weights import environment

    store = environment(settings_of(config)).weights
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
    from ainode.node.bench.ingest import ingest

    ingest(rounds, ct, radiographs)


@bench_app.command("node")
def bench_node(
    rounds: Annotated[int, typer.Option(min=1, help="fresh nodes; medians are printed")] = 3,
    slices: Annotated[int, typer.Option(min=1, help="of 512 x 512 in a CT")] = 300,
    priors: Annotated[int, typer.Option(min=1, help="patients with two earlier CTs each")] = 8,
    peer: Annotated[bool, typer.Option("--peer", help="also wait once for Orthanc's StableAge of 60 s")] = False,
) -> None:
    """Time what the node adds to a model: its own time per study, and what earlier studies cost."""
    from ainode.node.bench.own_time import measurement_lines

    for line in measurement_lines(rounds=rounds, slices=slices, patients=priors, with_stable_age=peer):
        print(line, flush=True)


@bench_app.command("infer")
def bench_infer(
    full_size: Annotated[bool, typer.Option("--full-size", help="the originals' networks, random weights")] = False,
    runs: Annotated[int, typer.Option(help="interleaved readings each")] = 15,
    config: Config = None,
) -> None:
    """Time a whole reading by each model, beside eager PyTorch, in one run."""
    from ainode.node.reading import registry
    from ainode.node.reading.weights import environment

    models = environment(settings_of(config))
    for name in registry.names():
        print(name)
        comparison = registry.module(name).benchmark(models, full_size=full_size, runs=runs)
        print(table(comparison.titles, comparison.rows))
        if comparison.note:
            print(comparison.note)


@contextlib.contextmanager
def _one_line(kind: type[Exception]) -> Iterator[None]:
    """Turn what a model says of its data or files into a line for the person who gave them."""
    try:
        yield
    except kind as error:
        raise ConfigError(str(error)) from error


@models_app.command()
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
    from ainode.node.reading.registry import laboratory

    models = laboratory()
    options = models.TrainingOptions(epochs=epochs, minutes=minutes, seed=seed, device=device, resume=resume)
    with _one_line(models.ModelError):
        made = models.train(model, data, out, options)
    for name, path in made.items():
        print(f"{name}: {path}")
    print(f"next: ainode evaluate {model} --data {data} --weights {out} --out {out / 'evaluation'}")


@models_app.command()
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

    from ainode.node.reading.registry import laboratory
    from ainode.node.reading.weights import environment

    models, store = laboratory(), environment(settings_of(config)).weights
    served = (one.name for one in store.entries() if one.model == model)
    with _one_line(models.ModelError):
        files = models.trained(weights) if weights else {name: store.verified(name) for name in served}
        print(json.dumps(models.evaluate(model, data, files, out, part), indent=2))
