"""The commands of `ainode`. Each command imports its modules when it runs, so that every command starts quickly."""

import itertools
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ainode.node import logs
from ainode.node.commands.audit import app as audit_app
from ainode.node.commands.job_commands import jobs_app
from ainode.node.commands.model_app import model_app
from ainode.node.commands.model_commands import bench_app, models_app, weights_app
from ainode.node.commands.notifications import app as notify_app
from ainode.node.commands.operation_commands import operations_app
from ainode.node.commands.route_commands import compare_app, route_app
from ainode.node.commands.tokens import app as token_app
from ainode.node.commands.users import app as user_app
from ainode.node.errors import ConfigError, HandlerError, NodeError, PointRefused, ReportError
from ainode.node.terminal import Config, refuse_empty, refuse_repeated, settings_of, table

_HELP = (
    "ainode receives DICOM studies, reads each study with the AI model that is made for it, and sends reports and "
    "pictures back to the archive; type `ainode demo` first, which shows all of this on your own machine."
)

_EVERYTHING_REFUSED = 3

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=_HELP)
app.add_typer(jobs_app)
app.add_typer(operations_app)
app.add_typer(models_app)
app.add_typer(model_app, name="model")
app.add_typer(compare_app)
app.add_typer(route_app, name="route")
app.add_typer(weights_app, name="weights")
app.add_typer(bench_app, name="bench")
app.add_typer(token_app, name="token")
app.add_typer(user_app, name="user")
app.add_typer(audit_app, name="audit")
app.add_typer(notify_app, name="notify")


def main() -> None:
    """Run a command; print an error of the node, a line for each problem of the configuration.

    Exit 2 after an error, or 1 if trying again can help.
    """
    logs.configure()
    try:
        refuse_empty(sys.argv[1:])
        refuse_repeated(app, sys.argv[1:])
        typer.main.get_command(app)()  # `app()` replaces the hook of `logs`, which prints no word of a library
    except (NodeError, LookupError) as error:
        if isinstance(error, (KeyError, IndexError)):  # of a library: may hold the value of a header
            raise
        for line in str(error).splitlines():
            print(f"ainode: {logs.printable(line)}", file=sys.stderr)
        sys.exit(1 if isinstance(error, NodeError) and error.retry else 2)


@app.command()
def serve(config: Config = None) -> None:
    """Run the node until SIGTERM or SIGINT; SIGHUP has it look at routes and peers again, as `ainode reload` does.

    Exit 0 if a signal asked for the end, 1 if a part of the node ended by itself or the database is away, 2 if the
    configuration is wrong: a supervisor repeats the start after 1 alone.
    """
    from ainode.node.jobs import memory
    from ainode.node.keeping.permissions import Permissions
    from ainode.node.receiving import handover
    from ainode.node.settings import sources
    from ainode.node.starting import requirements

    settings, origin, receiver = settings_of(config), sources(config), handover.taken()
    logs.choose_format(settings.node.log_format)
    requirements.refuse_unfit(settings, origin, has_ports=receiver is not None)
    Permissions.of_group(settings.node.group).apply_to_process()
    requirements.make_data_folder(settings, origin)
    memory.bound_heaps()  # before the first thread
    with memory.without_collections():
        from ainode.node.app import Ending, Node
        from ainode.node.commands.ending import end_process
        from ainode.node.starting import reload

        node = Node(settings, receiver, takes_reload=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.request_stop())
    signal.signal(reload.SIGNAL, lambda *_: node.request_reload())
    # A terminal that is closed ends what runs in it.
    has_terminal = sys.stdin is not None and sys.stdin.isatty()
    signal.signal(signal.SIGHUP, lambda *_: node.request_stop() if has_terminal else node.request_reload())
    node.start()
    if receiver:
        reload.note_end(settings.data)
    while (ending := node.wait()) in {None, Ending.TAKEN_FOR_DEAD, Ending.RECEIVER_LOST}:
        problems, changes = reload.judged(config, settings)
        if problems:
            reload.note_refusal(settings.data, problems)
            if ending is Ending.TAKEN_FOR_DEAD:
                break
            if ending is Ending.RECEIVER_LOST:
                node.replace_lost_receivers()
        else:
            reload.note_beginning(settings.data, changes)
            reload.replace_program(node.hand_over(settings.node.stop_limit_s))
    end_process(node.stop, settings.node.stop_limit_s, is_requested=ending is Ending.REQUESTED)


@app.command()
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="keep the received files and the documents in ./ainode-demo, too")
    ] = False,
    seed: Annotated[int, typer.Option(help="seed of the synthetic studies")] = 0,
    console: Annotated[
        bool | None,
        typer.Option("--console/--no-console", help="keep the console open until Ctrl-C; by default on a terminal"),
    ] = None,
) -> None:
    """Start a node and an archive on this machine, send a synthetic study per model, print a table of the documents.

    Each step is a line, the address of the node's console, a name and a password among the first. Exit 1 if a study was
    not read, or its documents are not in the archive: the last lines say which study, why, and what to do. Ctrl-C or
    SIGTERM stops node and archive at any time, and removes what they kept; exit 130 or 143 if studies were left then.
    """
    from ainode.node.commands.demo import run
    from ainode.node.commands.demo_end import EndedBySignal

    stays = sys.stdin.isatty() if console is None else console
    try:
        is_complete = run(keep=keep, seed=seed, tell=partial(print, flush=True), stays=stays)
    except EndedBySignal as end:
        print("the demonstration was ended before its studies were read; node and archive are stopped", flush=True)
        logging.shutdown()
        os._exit(end.exit_status)  # a reading that runs ends with the process, as at the end of `serve`
    raise typer.Exit(0 if is_complete else 1)


@app.command()
def read(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, folders, ZIP archives; NRRD, NIfTI, pictures")],
    out: Annotated[Path, typer.Option(help="folder for the documents, the reports and the converted files")],
    model: Annotated[
        str | None, typer.Option(help="name of a handler that reads every study, instead of the routes")
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,Z",
            help="position of a lesion: one per study, oldest study first, or a single one in the newest study",
        ),
    ] = None,
    point_is: Annotated[
        str, typer.Option(metavar="mm|index", help="unit of --point: LPS mm, or voxel index i,j,k from 0")
    ] = "mm",
    body_part: Annotated[str, typer.Option(help="Body Part Examined of files that are not DICOM, such as CHEST")] = "",
    repair_uids: Annotated[
        bool, typer.Option("--repair-uids", help="read copies with new UIDs of files whose UIDs are no UIDs")
    ] = False,
    config: Config = None,
) -> None:
    """Read studies from files, without a network.

    If --model compares time points, all volumes or DICOM studies belong to one patient: name the volumes oldest first;
    DICOM studies are sorted by date. The pictures of a folder without DICOM are one series.

    Exit 0 if a study was read, 1 if a reading failed or no study matches, 2 if the configuration or an option is wrong,
    3 if the models refused every study.
    """
    from ainode.node.commands import program_terminal
    from ainode.node.offline import inputs
    from ainode.node.offline import readings as offline
    from ainode.node.offline.options import read_options
    from ainode.node.reading import registry

    settings = settings_of(config)
    registry.refuse_route(model or "", settings.routes, settings.models)
    texts = read_options(point or (), point_is=point_is, body_part=body_part, repair_uids=repair_uids)
    options = offline.options_for(model, texts, settings.models)
    with _option_named():
        readable = inputs.input_studies(paths, out / "converted", options=options, settings=settings)
    for line in offline.unread_lines(readable.unread):
        print(line, file=sys.stderr)
    readings = [(study, route) for study in readable.studies for route in offline.routes_for(study, settings, model)]
    failures = refusals = 0
    for study, route in readings:
        title = f"study {study.study_instance_uid}, route {route.name}"
        try:
            reading = program_terminal.read(study, route, settings, readable.notes(study))
        except (HandlerError, ReportError) as error:  # the other studies are read all the same
            failures += 1
            print(f"{title}: not read: {error}", file=sys.stderr)
            continue
        refusals += offline.is_refusal(reading)
        print(f"{title}: {offline.verdict(reading)}")
        for prior in reversed(study.priors):
            print(f"  compared with study {prior.study_instance_uid}")
        for path in offline.save(reading, out / offline.subfolder(study, route, readings)):
            print(f"  {path}")
    if not readable.studies:
        print("no study is in these files", file=sys.stderr)
    elif not readings:
        print(
            "no study matched a route; `ainode explain` says why, --model NAME reads the study anyway", file=sys.stderr
        )
    raise typer.Exit(_status_of_reading(len(readings), failures, refusals))


@contextmanager
def _option_named() -> Iterator[None]:
    """Name the options of a point that is refused: its words are those of a web page, too."""
    try:
        yield
    except PointRefused as error:
        raise PointRefused(f"{error} (see --point and --point-is)") from error


def _status_of_reading(readings: int, failures: int, refusals: int) -> int:
    """Return the exit status: a script can tell a study that the models refuse from a failure."""
    if failures or not readings:
        return 1
    return _EVERYTHING_REFUSED if refusals == readings else 0


@app.command()
def explain(
    study: Annotated[str, typer.Argument(metavar="PATH|UID", help="files, or the UID of a study that was received")],
    config: Config = None,
) -> None:
    """Print which routes a study matches, and the attribute and value that each other route does not match."""
    from ainode.node.offline.explanation_lines import explanation, stored_explanation

    settings = settings_of(config)
    path = Path(study)
    lines = explanation(path, settings) if path.exists() else stored_explanation(study, settings)
    print("\n".join(map(logs.printable, lines)))


@app.command()
def check(config: Config = None) -> None:
    """Print whether configuration, disk, certificates, readers, routes and peers are ready; exit 1 if one is not ready.

    Exit 2 if the configuration is wrong, so that `ainode serve` would not start. A live route has the state `shadow`
    while the route does not allow the demonstration weights of its handler. Readings and deliveries that failed in the
    last 24 hours have the state `attention`, which changes no exit status.
    """
    from ainode.node.diagnosis.checks import READY, check_lines
    from ainode.node.settings import sources
    from ainode.node.starting import requirements

    settings = settings_of(config)
    origin = sources(config)
    problems = [("configuration", "not ready", problem) for problem in requirements.problems(settings, origin)]
    groups = problems or [("configuration", READY, "")], [*check_lines(settings)]
    print(table(("what", "state", "remedy"), itertools.chain(*groups)))
    if any(requirements.variable_problems(settings, origin)):
        print(
            "Variables are those of this command. Where the node gets its own from a file, give the command the same "
            "(config/README.md, Secrets)."
        )
    is_wrong, is_unready = (any(state == "not ready" for _, state, _ in lines) for lines in groups)
    raise typer.Exit(2 if is_wrong else int(is_unready))


@app.command()
def doctor(
    name: str,
    message: Annotated[
        bool, typer.Option("--message", help="send an HL7 listener a test message of nobody, processing id T")
    ] = False,
    config: Config = None,
) -> None:
    """Try an archive with synthetic objects, and print how to configure it; exit 1 if the configuration is wrong."""
    import json
    from datetime import UTC, datetime

    from ainode.node.diagnosis.advice import advice, problems
    from ainode.node.diagnosis.doctor import examine

    settings = settings_of(config)
    token, now = secrets.token_hex(8), datetime.now(UTC)
    examination = examine(settings.peer(name), settings, token=token, now=now, with_message=message)
    rows = ((trial.name, trial.outcome, trial.detail) for trial in examination.trials)
    print(table(("tried", "works", "detail"), rows))
    if keys := [f"{key} = {json.dumps(value)}" for key, value in advice(examination).items()]:
        print("\n".join(["", f"Seen to work, as keys of the [[peer]] {name!r} in node.toml:", *keys]))
    for study in examination.remaining_studies:
        print(f"not removed: study {study}")
    sentences = problems(examination)
    for sentence in sentences:
        print(f"{name}: {sentence}", file=sys.stderr)
    if not sentences:
        choice = "; the keys above are a choice, not a need" if keys else ""
        print(f"{name}: what node.toml says now works{choice}")
    raise typer.Exit(1 if sentences else 0)


@app.command("send")
def send_files(arguments: Annotated[list[str], typer.Argument(metavar="PATH... NAME")], config: Config = None) -> None:
    """Send files to a configured peer, by the transport that the peer's key `deliver` names.

    Documents of the node are written down as sent.
    """
    from ainode.node.archive.audited import transfers_to
    from ainode.node.archive.delivery import transport
    from ainode.node.archive.store import Outgoing
    from ainode.node.audit.recorder import record_command
    from ainode.node.commands.sending import recorded_lines
    from ainode.node.domain import DocumentKind
    from ainode.node.offline.inputs import files
    from ainode.node.priors.shelf import study_identity

    *names, name = arguments
    settings = settings_of(config)
    peer = settings.peer(name)
    if peer.is_listener:
        raise ConfigError(f"peer {name} takes messages and no files; `ainode deliver JOB {name}` sends a job's message")
    suffixes = {kind.suffix for kind in DocumentKind if kind.is_message}
    paths = [path for path in files(Path(path) for path in names) if path.suffix not in suffixes]
    outgoing = [Outgoing.of(path) for path in paths]
    answers = transport(peer, settings.node.ae_title).send(outgoing)
    studies = (study_identity(path).study_instance_uid for path in paths)
    classes = (document.sop_class_uid for document in outgoing)
    for message in transfers_to(peer, zip(studies, classes, answers, strict=True)):
        record_command(settings, message)
    unproven = [answer for answer in answers if not answer.is_proven]
    for answer in unproven:
        reason = answer.error or f"{name} reports success, and does not name it as stored; look for it there"
        words = f" ({name} says: {answer.comment})" if answer.comment else ""
        print(logs.printable(f"{answer.sop_instance_uid}: {reason}{words}"), file=sys.stderr)
    print(f"{len(answers) - len(unproven)} of {len(answers)} stored by {name}")
    for line in recorded_lines(settings, peer, zip(paths, answers, strict=True)):
        print(line)
    raise typer.Exit(1 if unproven else 0)


@app.command()
def replay(
    study: str,
    weights: Annotated[Path | None, typer.Option(help="another folder of weights with a manifest.toml")] = None,
    config: Config = None,
) -> None:
    """Read a past study again, deliver nothing, and print the differences; exit 1 if the results differ."""
    from ainode.node.offline.replay_lines import replay as replayed

    is_same, lines = replayed(study, settings_of(config), weights)
    print("\n".join(lines))
    raise typer.Exit(0 if is_same else 1)


if __name__ == "__main__":
    main()
