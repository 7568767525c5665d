"""The commands of who sets a node up and runs it, such as `init`, `reload` and `worker`; each imports what it needs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ainode.node.terminal import Config, settings_of

_SOMETHING_STAYED = 3

operations_app = typer.Typer()


@operations_app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(help="folder for node.toml and routes.toml; this folder if left out")
    ] = Path(),
    ae_title: Annotated[str, typer.Option(help="AE title of the node")] = "",
    port: Annotated[str, typer.Option(metavar="PORT", help="port on which the node receives")] = "",
    archive: Annotated[
        str, typer.Option(metavar="AE@HOST:PORT", help="archive that sends studies and gets the results")
    ] = "",
    data: Annotated[
        # of the user of the node, who may be another than the one who types this
        Path | None,
        typer.Option(readable=False, help="folder for what the node receives and makes"),
    ] = None,
    user: Annotated[str, typer.Option(help="login name of an administrator of the console")] = "",
    models: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME", help="shipped models that get a route, such as lung_nodule,ct_tumor, or none; else all"
        ),
    ] = "",
    console_port: Annotated[str, typer.Option(metavar="PORT", help="port of the console; 8080 if left out")] = "",
    password_stdin: Annotated[
        bool,
        typer.Option("--password-stdin", help="read the password of --user from standard input: 15 characters or more"),
    ] = False,
) -> None:
    """Write the configuration of a new node with its console on; overwrite nothing.

    On a terminal five questions are asked, unless an option answers one of them. An archive of another machine may
    call the node, which listens on all addresses then; without an archive it listens to this machine alone.
    """
    from ainode.node.commands import init as setup
    from ainode.node.commands.initial_routes import models_of
    from ainode.node.commands.users import add_person, entered_password

    folder = folder.expanduser().absolute()
    choices = setup.Choices(setup.port_of(console_port or "8080"), models_of(models))
    is_asked = sys.stdin.isatty() and not any((ae_title, port, archive, data, user))
    answers = (
        setup.answers_from_terminal(folder, choices.console_port)
        if is_asked
        else setup.Answers(
            setup.ae_title_of(ae_title or "AINODE"),
            setup.receiving_port_of(port or "11112", choices.console_port),
            setup.archive_of(archive),
            data.expanduser().absolute() if data else None,
            setup.user_of(user),
        )
    )
    password = entered_password(answers.user, from_stdin=password_stdin) if answers.user else None
    config = setup.write_configuration(folder, answers, choices)
    if answers.user:
        add_person(settings_of(config), answers.user, "administrator", password)
    print(setup.next_commands(config, answers, choices))


@operations_app.command()
def reload(config: Config = None) -> None:
    """Have the running node take up changed routes and peers, after the checks of a start; no association is lost.

    Exit 0 once the node works with them, with a line for each route that cannot read. Exit 2 if the files are wrong:
    the node goes on with those of before then, and a line says what is wrong. Exit 1 if no node runs, or if it does
    not answer within a minute.
    """
    from ainode.node.commands.reloading import reloaded

    sentence, status = reloaded(config, settings_of(config))
    print(sentence, file=sys.stderr if status else sys.stdout)
    raise typer.Exit(status)


@operations_app.command()
def worker(
    models: Annotated[
        str, typer.Option(metavar="A,B", help="handlers to read with, as routes name them; all of them if left out")
    ] = "",
    name: Annotated[str, typer.Option(help="how people know this worker; the name of the machine if left out")] = "",
    check: Annotated[
        bool, typer.Option("--check", help="say whether the worker could start, and start nothing: exit 0, or 2")
    ] = False,
    config: Config = None,
) -> None:
    """Read and deliver beside the node of node.toml, on its PostgreSQL and data folder, until SIGTERM or SIGINT.

    Exit 0 if a signal asked for the end, 1 if others took the worker for dead or the database is away, 2 if it may not
    work there: a supervisor repeats the start after 1 alone.
    """
    from ainode.node.commands.working import run_worker
    from ainode.node.settings import sources

    handlers = [handler.strip() for handler in models.split(",") if handler.strip()]
    run_worker(settings_of(config), sources(config), handlers, name, is_trial=check)


@operations_app.command()
def workers(config: Config = None) -> None:
    """Print the processes that work at the jobs, and how long ago each was last known to be alive."""
    from ainode.node.commands.working import worker_rows
    from ainode.node.terminal import table

    print(table(("name", "kind", "machine", "state", "last beat", "handlers"), worker_rows(settings_of(config))))


@operations_app.command("support-bundle")
def support_bundle(
    out: Annotated[Path, typer.Argument(metavar="OUT.zip", help="the archive to write")],
    log: Annotated[
        Path | None, typer.Option(help="the file of the node's log, such as the output of `journalctl -u ainode`")
    ] = None,
    mask_hosts: Annotated[
        bool, typer.Option("--mask-hosts", help="write words for the hosts and addresses of peers and callers")
    ] = False,
    keep_uids: Annotated[
        bool, typer.Option("--keep-uids", help="leave UIDs of studies as they are, so that others find them")
    ] = False,
    doctor: Annotated[
        bool, typer.Option("--doctor", help="try each peer with synthetic objects, as `ainode doctor` does")
    ] = False,
    config: Config = None,
) -> None:
    """Write versions, configuration, checks, counts and failures for those who help; no patient is in it, no secret.

    Read it before you give it away: it has the names of peers and routes, AE titles, and with --log what the log says.
    """
    from ainode.node.commands.support_bundle import Choices, write_bundle
    from ainode.node.settings import sources

    choices = Choices(log, masks_hosts=mask_hosts, keeps_uids=keep_uids, calls_peers=doctor)
    names = write_bundle(out, settings_of(config), sources(config), choices)
    print(f"wrote {out}: {', '.join(names)}")


@operations_app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="a folder that is new or empty")],
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Study Instance UIDs, of `ainode jobs`")],
    key: Annotated[
        Path | None,
        typer.Option(help="file with the key of the pseudonyms, made if absent; the same key, the same words"),
    ] = None,
    crosswalk: Annotated[
        Path | None, typer.Option(help="a new CSV with the UIDs here and there; it leads back to the patients")
    ] = None,
    shift_dates: Annotated[
        bool, typer.Option("--shift-dates", help="keep dates, moved by the same days for all images of a patient")
    ] = False,
    pixels_seen: Annotated[
        bool, typer.Option("--pixels-seen", help="a person has looked: no pixel shows a name, a face or a date")
    ] = False,
    config: Config = None,
) -> None:
    """Write de-identified copies of images for an evaluation (basic profile of PS3.15 E.1).

    The values of pixels are not changed: images whose pixels may show letters stay here unless --pixels-seen. Exit 3 if
    an object of the studies stays here.
    """
    from ainode.node.audit.messages import copied, study_subject
    from ainode.node.audit.recorder import record_command
    from ainode.node.domain import UID
    from ainode.node.keeping import database
    from ainode.node.keeping.catalog import Catalog
    from ainode.node.keeping.data_folder import refuse_another
    from ainode.node.offline import export as exporting
    from ainode.node.offline.deidentification import LETTERS, Pseudonyms

    settings = settings_of(config)
    engine = database.existing(settings.database_url)
    refuse_another(engine, settings.data)
    catalog = Catalog(engine)
    pseudonyms = Pseudonyms(exporting.key_of(key), shifts_dates=shift_dates)
    uids = [UID(study) for study in studies]
    done = exporting.export(uids, catalog.instances, out, pseudonyms, pixels_were_seen=pixels_seen)
    for study in done.studies:
        subject = study_subject(study.study_instance_uid, {"": study.images})
        record_command(settings, copied(out.absolute().as_uri(), subject))
        print(f"{study.study_instance_uid}: {study.images} images in {out / study.folder}")
    if crosswalk:
        exporting.write_crosswalk(crosswalk, done)
    for (uid, reason), count in sorted(done.left_out.items()):
        print(f"{uid}: {count} stayed here: {reason}", file=sys.stderr)
    if any(LETTERS in reason for _, reason in done.left_out):
        print("look at the pixels: if no name, face or date is in them, --pixels-seen lets them leave", file=sys.stderr)
    if not done.studies:
        print(f"nothing left, {out} is empty", file=sys.stderr)
    if done.left_out:
        raise typer.Exit(_SOMETHING_STAYED)
