"""`ainode demo`: a node and an archive on loopback, a synthetic study per model, a table of the returned documents."""

import contextlib
import dataclasses
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ainode.node import testing
from ainode.node.app import Node
from ainode.node.commands.demo_end import Ending, temporary_folder
from ainode.node.commands.demo_studies import Demonstration, Tell, Trial, real_weights_first
from ainode.node.errors import installation
from ainode.node.keeping import database
from ainode.node.reading import registry
from ainode.node.settings import CompletenessTable, NodeTable, Peer, Settings, WebTable, load
from ainode.node.starting.requirements import missing_packages
from ainode.node.terminal import program, table

_PERSON = "demo"
_STATUS_SENTENCE = (
    "weights: research = learned from patients, and above every shortcut on others; "
    "demonstration = not so: most are of synthetic studies, they show that the way works"
)
_PASSWORD_BYTES = 15


def free_port() -> int:
    """Return a TCP port that is free on the loopback interface at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def demonstration_settings(folder: Path, archive: Peer) -> Settings:
    """Return settings in which every shipped route delivers to the archive and allows demonstration weights.

    Converted networks stay in the data folder of the user: the next demonstration does not wait for them. No reader
    prepares itself: each has a study at once.
    """
    shipped_settings = load()
    return shipped_settings.model_copy(
        update={
            "node": NodeTable(data=folder / "node", port=free_port(), min_free_bytes=0),
            "completeness": CompletenessTable(default_silence_s=2.0),
            "reader": shipped_settings.reader.model_copy(
                update={"networks": shipped_settings.networks, "prepare": False}
            ),
            "peers": (archive,),
            "routes": tuple(
                dataclasses.replace(route, destinations=(archive.name,), allow_demonstration=True)
                for route in shipped_settings.routes
            ),
        }
    )


def run(*, keep: bool, seed: int, tell: Tell, stays: bool) -> bool:
    """Run the demonstration; return whether every study was read and the archive has its documents.

    `tell` gets each line as soon as it is true. A demonstration that stays ends with a signal. The reports, and the
    captures as PNG pictures, stay in ./ainode-demo.

    Raises: EndedBySignal if a signal came before the end of the studies; node and archive are stopped by then.
    """
    _results_folder().mkdir(exist_ok=True)
    ending = Ending()
    results_folder = contextlib.nullcontext(_results_folder())
    with ending.by_signal(), results_folder if keep else temporary_folder() as folder:
        port = free_port()
        archive = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port, confirm="query")
        settings = with_console(demonstration_settings(folder, archive))
        tell(f"the node starts, and an archive beside it, both in process {os.getpid()}: {_how_to_stop()}")
        with testing.EmbeddedArchive(folder / "archive", port), _started(Node(settings), ending) as node:
            tell(_welcome(settings))
            demonstration = Demonstration(settings, node.ledger, folder, _results_folder(), tell)
            trials = demonstration.trials(real_weights_first(registry.names(), settings), seed)
            # The conclusion says how to stop: whoever obeys at once is answered as later.
            with contextlib.suppress(KeyboardInterrupt):
                tell(_conclusion(trials, stays=stays))
                if stays:
                    node.wait()
    return not any(trial.failure for trial in trials)


@contextlib.contextmanager
def _started(node: Node, ending: Ending) -> Iterator[Node]:
    """Start a node, and stop it in the end; a signal waits while a part of it starts."""
    ending.hold()
    node.start()
    try:
        ending.release()
        yield node
    finally:
        node.request_stop()
        node.stop()


def _how_to_stop() -> str:
    return f"Ctrl-C or `kill {os.getpid()}` ends both"


def _conclusion(trials: Sequence[Trial], *, stays: bool) -> str:
    """Return the table of the studies, how many were read, and what to do next."""
    rows = [
        (trial.name, trial.weights or "-", trial.answer or "not read", trial.report, trial.captures, trial.seconds)
        for trial in trials
    ]
    failures = [f"  {trial.name}: {trial.failure}" for trial in trials if trial.failure]
    count = f"{len(trials) - len(failures)} of {len(trials)} synthetic studies were read, with documents in the archive"
    verdict = [f"FAILED: only {count}. The others:", *failures, _remedies()] if failures else [count, next_steps()]
    console = [f"The console is open; {_how_to_stop()}, and the console with them."] if stays else []
    titles = ("route", "weights", "answer", "report", "captures", "seconds")
    return "\n".join([table(titles, rows), _STATUS_SENTENCE, "", *verdict, *console])


def _remedies() -> str:
    return f"""What to do:
  {program()} check
      see which packages and weights are missing, and whether a reader answers in this Python
  {program()} demo 2> demo.log
      keep the log, whose lines of action=read_failed and action=handler_failed name the place
"""


def with_console(settings: Settings) -> Settings:
    """Return settings with the console on, if the packages of the extra `web` are there.

    The patients are nobody: pages show them in full. A judgement goes to the archive, so that its report can be seen.
    """
    is_installed = not missing_packages(settings.model_copy(update={"web": WebTable(enabled=True)}))
    web = WebTable(enabled=is_installed, port=free_port())
    pages = settings.console.model_copy(update={"patient": "full", "addendum": "assessment"})
    return settings.model_copy(update={"web": web, "console": pages})


def _welcome(settings: Settings) -> str:
    """Add a person with a random password, and return where and how the person logs in."""
    if not settings.web.enabled:
        return f"console: its packages are missing; {installation('web')}"
    from ainode.node.keeping.people import People, Role  # noqa: PLC0415 - of the extra `web`

    password, engine = secrets.token_urlsafe(_PASSWORD_BYTES), database.connect(settings.database_url)
    People(engine).add(_PERSON, Role.ADMINISTRATOR, password, datetime.now(UTC))
    engine.dispose()
    address = f"console: {settings.web.address}  name: {_PERSON}  password: {password}"
    # Its data are where no node.toml says: a token that is added without their folder is for another node.
    token = f"AINODE_NODE__DATA={settings.data} {program()} token add NAME"
    return f"{address}\nprograms: {settings.web.address}docs  token: {token}"


def next_steps() -> str:
    """Return a text that tells a person what to do after the demonstration."""
    ainode = program()
    return f"""
The reports (DICOM SR) and the captures as pictures are in {_results_folder()}.
The patients are synthetic: the answers show that the way works, and nothing else.
Next:
  {ainode} read FILE --out result/
      read a file of your own, without a network
  {ainode} check
      see what is ready on this machine
  README.md, "Connect an archive"
      receive from a PACS or Orthanc, and send results back
  handlers/README.md
      bring a model of your own
"""


def _results_folder() -> Path:
    return Path("ainode-demo").absolute()
