"""`ainode support-bundle`: what those who help with a node need to know, in a ZIP archive without a patient in it.

The files are made of what the node writes itself, which names no patient: never of headers, documents, results or of
the table of names. UIDs become pseudonyms of this bundle, so that nobody finds a study in an archive by it alone.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import sqlalchemy as sa

from ainode.node.console.system import state
from ainode.node.diagnosis.checks import check_lines
from ainode.node.diagnosis.doctor import examine
from ainode.node.domain import DeliveryState, JobState
from ainode.node.errors import ConfigError, NodeError
from ainode.node.keeping import database
from ainode.node.keeping.backlog import Backlog
from ainode.node.keeping.dead_letters import DeadLetters
from ainode.node.keeping.job_pages import JobFilter, JobPages
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.schema import metadata
from ainode.node.keeping.statistics import Period, Statistics
from ainode.node.settings import Settings, Sources
from ainode.node.settings.in_force import configuration
from ainode.node.starting import requirements
from ainode.node.terminal import table

_UID: Final = re.compile(r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d*)){4,}(?![\w.])")
# Of the standard: SOP classes and transfer syntaxes.
_STANDARD: Final = "1.2.840.10008."
_ADDRESS: Final = re.compile(
    r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7})(?![\w.:])"
)
_LOG_BYTES: Final = 4 << 20
_LOG_LINES: Final = 5_000
_FAILURES: Final = 200
_PERIOD: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person wants in the bundle."""

    log: Path | None = None
    """a file that the log of the node goes to; its last lines are taken"""
    masks_hosts: bool = False
    keeps_uids: bool = False
    calls_peers: bool = False
    """whether the doctor tries each peer with synthetic objects"""


@dataclass(frozen=True, slots=True)
class _Mask:
    """Replaces UIDs and hosts; the same one by the same word in all files of a bundle."""

    hosts: tuple[str, ...]
    choices: Choices
    key: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def __call__(self, text: str) -> str:
        if not self.choices.keeps_uids:
            text = _UID.sub(self._uid, text)
        if self.choices.masks_hosts:
            for host in self.hosts:
                text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-]|\.\w)", self._word("host", host), text)
            text = _ADDRESS.sub(self._address, text)
        return text

    def _uid(self, match: re.Match[str]) -> str:
        return match[0] if match[0].startswith(_STANDARD) else self._word("uid", match[0])

    def _address(self, match: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:  # such as a time
            return match[0]
        return match[0] if address.is_loopback or address.is_unspecified else self._word("address", match[0])

    def _word(self, kind: str, value: str) -> str:
        return f"{kind}-{hmac.new(self.key, value.lower().encode(), hashlib.sha256).hexdigest()[:12]}"


def write_bundle(path: Path, settings: Settings, origin: Sources, choices: Choices) -> list[str]:
    """Write the archive, and return the names of its files; a part that fails is a file that says why.

    Raises: ConfigError if the archive exists or cannot be written, or the log cannot be read.
    """
    mask = _Mask(tuple(_hosts(settings)), choices)
    log = _log_lines(choices.log) if choices.log else ""
    parts = {
        "versions.txt": lambda: table(("what", "version"), state.versions()),
        "configuration.txt": lambda: table(("key", "value"), configuration(settings)),
        "check.txt": lambda: _check(settings, origin),
        "counts.txt": lambda: _counts(settings),
        "failures.txt": lambda: _failures(settings),
    }
    if choices.calls_peers:
        parts["doctor.txt"] = lambda: _doctor(settings)
    if choices.log:
        parts["log.txt"] = lambda: log
    try:
        with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
            for name, make in parts.items():
                archive.writestr(name, mask(_made(make)) + "\n")
    except FileExistsError as error:
        raise ConfigError(f"{path}: exists; give another name, or move the file away") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another folder") from error
    return [*parts]


def _made(make: Callable[[], str]) -> str:
    try:
        return make()
    except (NodeError, OSError) as error:
        return f"not made: {error}"


def _hosts(settings: Settings) -> Iterator[str]:
    """Yield the hosts that the configuration names, the longest first."""
    named = {host for key, text in _texts("", settings.model_dump(mode="json")) for host in _hosts_of(key, text)}
    own = {"", "*", "localhost", "127.0.0.1", "::1"}
    yield from sorted(named - own, key=len, reverse=True)


def _texts(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield each text of the configuration with its key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(name, inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _texts(key, inner)


def _hosts_of(key: str, text: str) -> Iterator[str]:
    """Yield the host of an address, of AE@HOST and of a mailbox, and what stands under a key of a host."""
    if "://" in text:
        rests = text.partition("://")[2], text.rpartition("@")[2]  # a password may have a slash
        yield from (urlsplit(f"//{rest}").hostname or "" for rest in rests)
    elif "@" in text:
        yield text.rpartition("@")[2].rstrip(">")
    elif key in {"host", "hosts", "syslog_host"}:
        yield text


def _log_lines(path: Path) -> str:
    """Return the last lines of a log.

    Raises: ConfigError.
    """
    try:
        with path.open("rb") as file:
            begin = file.seek(max(path.stat().st_size - _LOG_BYTES, 0))
            if begin:
                file.readline()  # the end of a line may begin in a UID, which no pattern knows then
            content = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the file of the log") from error
    return "\n".join(content.decode("utf-8", "replace").splitlines()[-_LOG_LINES:])


def _check(settings: Settings, origin: Sources) -> str:
    problems = [("configuration", "not ready", problem) for problem in requirements.problems(settings, origin)]
    return table(("what", "state", "remedy"), [*problems, *check_lines(settings)])


def _doctor(settings: Settings) -> str:
    parts = []
    for peer in settings.peers:
        try:
            examined = examine(peer, settings, token=secrets.token_hex(8), now=datetime.now(UTC), with_message=False)
            rows: Iterable[tuple[str, ...]] = [
                (trial.name, str(trial.outcome), trial.detail) for trial in examined.trials
            ]
        except NodeError as error:
            rows = [("", "not tried", str(error))]
        parts.append(f"peer {peer.name}\n{table(('tried', 'works', 'detail'), rows)}")
    return "\n\n".join(parts) or "no peer is configured"


def _counts(settings: Settings) -> str:
    engine, now = database.existing(settings.database_url), datetime.now(UTC)
    backlog = Backlog(engine)
    lengths = [("jobs of", entry) for entry in backlog.jobs()] + [
        ("documents to", entry) for entry in backlog.deliveries()
    ]
    rows = [(kind, entry.owner, entry.state, entry.count, f"{entry.oldest:%Y-%m-%d %H:%M}Z") for kind, entry in lengths]
    queues = [
        (queue.name, queue.count, f"{queue.oldest:%Y-%m-%d %H:%M}Z" if queue.oldest else "")
        for queue in backlog.queues()
    ]
    ended = [
        (entry.handler, entry.model, entry.answers, entry.refusals, entry.failures)
        for entry in Statistics(engine).handlers(Period(now - _PERIOD, now))
    ]
    tables = (
        table(("", "route/destination", "state", "count", "oldest"), rows),
        table(("queue", "count", "oldest"), queues),
        table(("handler", "model", "answers", "refusals", "failures"), ended),
        table(("table", "rows"), _row_counts(engine).items()),
        f"dead letters: {DeadLetters(engine).count()}",
    )
    return "\n\n".join(tables)


def _row_counts(engine: sa.Engine) -> Mapping[str, int]:
    with engine.connect() as connection:
        return {
            name: int(connection.execute(sa.select(sa.func.count()).select_from(entries)).scalar_one())
            for name, entries in metadata.tables.items()
        }


def _failures(settings: Settings) -> str:
    """Return the newest failed jobs and deliveries with their reasons, without an archive's own words."""
    engine = database.existing(settings.database_url)
    ledger, pages = Ledger(engine), JobPages(engine)
    rows = [
        (f"{job.queued_at:%Y-%m-%d %H:%M}Z", job.id, job.route, str(job.state), job.attempts, job.reason)
        for job in pages.page(JobFilter(state=JobState.FAILED), count=_FAILURES)
    ]
    for letter in DeadLetters(engine).page(count=_FAILURES):
        for item in ledger.deliveries(letter.job, letter.destination) if letter.destination else ():
            if item.state is DeliveryState.FAILED:
                status = "" if item.archive_status is None else f"{item.archive_status:04X}"
                about = (item.destination, f"{item.document.kind} {status}".strip(), letter.attempts, item.error)
                rows.append(("", letter.job, *about))
    return table(("queued", "job", "route/peer", "state/document", "attempts", "reason"), rows)
