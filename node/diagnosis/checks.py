"""`ainode check`: a line for each part of the node that must be ready before the node can read and return a study."""

import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import Engine

from ainode.node import tls
from ainode.node.archive import dimse, orthanc, qido, ups
from ainode.node.archive.delivery import reach_listener
from ainode.node.archive.web import WebLink
from ainode.node.deciding import router
from ainode.node.diagnosis.scopes import unread_words
from ainode.node.domain import Needs, counted
from ainode.node.errors import ConfigError, NodeError
from ainode.node.identity import on_clock
from ainode.node.keeping import database
from ainode.node.keeping.backlog import Backlog
from ainode.node.keeping.data_folder import refuse_another
from ainode.node.keeping.notices import Notices
from ainode.node.keeping.readership import Readership
from ainode.node.keeping.workitems import KeptWorkitem, Workitems, WorkitemState
from ainode.node.notifying import sending
from ainode.node.reading import confinement
from ainode.node.reading.boundary import installation_of
from ainode.node.reading.reader import Reader
from ainode.node.reading.weights import HandlerWeights, ModelEnvironment, environment
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import Peer, ReaderTable, Settings, Subscription, WorklistTable

Line = tuple[str, str, str]
"""name of a part, state (`ready`, `shadow`, `attention` or `not ready`), the remedy or the reason; '' needs neither"""
StateOf = Callable[[HandlerWeights, Route], tuple[str, str]]
"""how the state of a live route and the reason are told"""
READY = "ready"
NOT_READY = "not ready"
_LOOKED_BACK = timedelta(days=1)
ATTENTION = "attention"
"""nothing keeps the node from reading, and somebody has to look at what it did"""
_LOOK = "`ainode jobs --failed` says why and `ainode retry JOB` tries again (with the --config of this check)"
_ECHO_S = 5.0
_MOST_COUNTED = 100
_NOTICE = timedelta(days=30)
_FIRST_PERSON = (
    "nobody can log in yet: `ainode user add NAME --role administrator` adds a person (with the --config of this check)"
)
_RENEW = "replace the file: a running node takes the new file up without a restart"
# A reader process that imports a network library takes some 200 MB.
_READERS_AT_ONCE = 4


def check_lines(settings: Settings) -> Iterator[Line]:
    """Yield the lines of disk, certificates, what failed lately, routes and peers; an error is a line, never raised.

    Every weight file is compared with its digest. Every peer is called, by C-ECHO, QIDO-RS or Orthanc's REST interface;
    a listener is connected with, and gets no message.
    """
    yield _disk_line(settings)
    yield _clock_line(settings)
    yield from _tls_lines(settings)
    yield from _console_lines(settings)
    yield from _worker_lines(settings)
    yield from _failure_lines(settings)
    yield _reader_line(settings)
    yield from _confinement_lines(settings)
    yield from route_lines(settings, HandlerWeights.short_state_of)
    for subscription in settings.subscriptions:
        yield _subscription_line(settings, subscription)
    for peer in settings.peers:
        yield from _peer_certificate_lines(peer)
        yield _peer_line(settings, peer)
        if peer.worklist:
            yield _worklist_line(peer, peer.worklist)


def _peer_line(settings: Settings, peer: Peer) -> Line:
    """Return whether a peer answers by every way that the node has to it."""
    is_pulled_from = settings.web.enabled or any(other.worklist for other in settings.peers)
    try:
        if peer.is_listener:
            reach_listener(peer)
        if peer.speaks_dimse:
            dimse.echo(dimse.Link(peer, settings.node.ae_title, _ECHO_S))
        if peer.dicomweb:
            qido.echo(WebLink(peer, _ECHO_S))
        if peer.orthanc and (is_pulled_from or peer.deliver == "orthanc"):
            orthanc.echo(WebLink(peer, _ECHO_S))
    except NodeError as error:
        return (f"peer {peer.name}", NOT_READY, str(error))
    return (f"peer {peer.name}", READY, _peer_words(peer))


def _worklist_line(peer: Peer, table: WorklistTable) -> Line:
    """Return whether a worklist answers a search; a subscription would change something there."""
    name = f"worklist {peer.name}"
    try:
        found = ups.search(WebLink(peer, _ECHO_S), table, _MOST_COUNTED)
    except NodeError as error:
        return (name, NOT_READY, str(error))
    count = "many" if len(found) == _MOST_COUNTED else str(len(found))
    channel = f"; `ainode doctor {peer.name}` tries the event channel" if table.subscribe else ""
    return (name, READY, f"{count} scheduled and ready{channel}")


def _peer_words(peer: Peer) -> str:
    if peer.is_listener:
        was_asked = "it was asked what it is" if peer.deliver == "fhir" else "a connection was opened"
        return f"{was_asked} and no message sent; `ainode doctor {peer.name} --message` sends a test"
    return "it only calls the node: no host and port" if peer.only_calls else ""


def _disk_line(settings: Settings) -> Line:
    """Return the line of the disk that holds, or will hold, the data folder."""
    folder = settings.data
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < settings.node.min_free_bytes:
        return ("disk", NOT_READY, f"{free_bytes} bytes free below {folder}; [node] min_free_bytes requires more")
    return ("disk", READY, "")


def _clock_line(settings: Settings) -> Line:
    """Return the line of the clock of documents whose source states no offset from UTC."""
    now = on_clock(settings, datetime.now(UTC))
    time = f"documents say {now:%Y-%m-%d %H:%M}"
    if settings.node.time_zone:
        return ("clock", READY, f"{time} and the offset {now:%z} of {settings.node.time_zone}")
    hint = 'set [node] time_zone, such as "Europe/Berlin", if the hospital has another clock'
    return ("clock", READY, f"{time}, the time of this process ({now:%Z}), and no offset from UTC; {hint}")


def _console_lines(settings: Settings) -> Iterator[Line]:
    """Yield a line if the console is on and its packages are there: whether somebody can log in."""
    if not (settings.web.enabled and settings.console.enabled) or not find_spec("argon2"):
        return
    try:
        yield ("console", READY, "" if _has_person(settings) else _FIRST_PERSON)
    except NodeError as error:
        yield ("console", NOT_READY, str(error))


def _has_person(settings: Settings) -> bool:
    """Return whether a person has a password, or a proxy names the persons.

    Raises: DatabaseUnavailable.
    """
    from ainode.node.keeping.people import People  # noqa: PLC0415 - of the extra `web`

    with _catalog(settings) as engine:
        persons = People(engine).all() if engine else ()
    return any(person.has_password or settings.console.login_header for person in persons)


@contextmanager
def _catalog(settings: Settings) -> Iterator[Engine | None]:
    """Yield the database; None where no node has run yet, and where the next start brings the database up to date.

    Raises: DatabaseUnavailable.
    """
    try:
        engine = database.existing(settings.database_url)
    except ConfigError:
        yield None
        return
    try:
        yield engine
    finally:
        engine.dispose()


def _worker_lines(settings: Settings) -> Iterator[Line]:
    """Yield a line for each handler that no process reads with, and for each whose readings wait for a lost worker."""
    try:
        with _catalog(settings) as engine:
            shortages = Readership(engine).shortages(settings.handlers) if engine else ()
    except NodeError:
        return  # the line of the catalog says so
    for shortage in shortages:
        yield ("workers", ATTENTION, f"{shortage.summary}; {shortage.remedy}")


def _failure_lines(settings: Settings) -> Iterator[Line]:
    """Yield a line each for readings that failed, destinations in trouble, and documents and workitems given up."""
    since = datetime.now(UTC) - _LOOKED_BACK
    try:
        with _catalog(settings) as engine:
            if engine is None:
                return
            refuse_another(engine, settings.data)
            backlog = Backlog(engine)
            failures, undelivered = backlog.failures(since), backlog.undelivered_count(since)
            troubles, untold = backlog.troubles(), Notices(engine).failed_count()
            given_up = [item for item in Workitems(engine).all() if _is_given_up(item, since)]
    except NodeError as error:
        yield ("catalog", NOT_READY, str(error))
        return
    if failures.count:
        last = failures.last_reason or "no reason was kept"
        yield ("readings", ATTENTION, f"{failures.count} failed in the last 24 hours, {_LOOK}; the last: {last}")
    for trouble in troubles:
        yield ("deliveries", ATTENTION, f"{trouble.words}; {trouble.last_error}")
    if undelivered:
        yield ("deliveries", ATTENTION, f"{counted(undelivered, 'document')} given up in the last 24 hours, {_LOOK}")
    if untold:
        yield ("notifications", ATTENTION, f"{untold} given up; `ainode notify list` says why, `ainode notify retry`")
    if given_up:
        words = f"the end of {counted(len(given_up), 'item')} given up in the last 24 hours, see `ainode workitems`"
        yield ("workitems", ATTENTION, f"{words}; the last: {given_up[-1].error}")


def _is_given_up(item: KeptWorkitem, since: datetime) -> bool:
    return item.state is WorkitemState.FAILED and item.ended_at is not None and item.ended_at > since


def _subscription_line(settings: Settings, subscription: Subscription) -> Line:
    """Return the line of a notification: its routes, its secret, and its server or folder; nobody is told anything."""
    name = f"notification {subscription.name}"
    try:
        sending.connect(subscription)
    except NodeError as error:
        return (name, NOT_READY, str(error))
    live = [route.name for route in settings.routes if route.mode is RouteMode.LIVE]
    if subscription.routes and subscription.tells_of_live_routes and not set(subscription.routes) & set(live):
        shadows, known = ", ".join(subscription.routes), ", ".join(live) or "none"
        words = f"each of its routes is a shadow ({shadows}), of which no answer is told; add a live route to `routes`"
        return (name, ATTENTION, f"{words} (live: {known})")
    return (name, READY, f"nobody was told anything; `ainode notify test {subscription.name}` sends a test")


def _reader_line(settings: Settings) -> Line:
    """Return the line of the way between the node and a reader process: a whole answer of nobody takes that way."""
    reader = Reader("rehearsal", environment(settings), settings.reader)
    try:
        reader.rehearse()
    except NodeError as error:
        python = f"Python {platform.python_version()} ({sys.executable})"
        return ("reader", NOT_READY, f"{error}; {python} can read no study: try another Python, and report this line")
    finally:
        reader.kill_unless_reading()
    return ("reader", READY, "")


def _confinement_lines(settings: Settings) -> Iterator[Line]:
    """Yield a line if a route reads with a model of others: whether this system confines the process of the model."""
    if state := confinement.state_of((route.handler for route in settings.routes), settings.reader, settings.models):
        is_confined, words = state
        lacking = ATTENTION if settings.reader.allow_unconfined else NOT_READY
        yield ("confinement", READY if is_confined else lacking, words)


def _tls_lines(settings: Settings) -> Iterator[Line]:
    """Yield a line for `[node]` and `[web]` with a certificate, and one for each certificate that ends."""
    for table, values in (("[node]", settings.node), ("[web]", settings.web)):
        if files := tls.server_files(values):
            try:
                tls.accepting(files, table)
                yield (f"{table} TLS", *_validity(files.certificate, files.revocation_lists))
            except NodeError as error:
                yield (f"{table} TLS", NOT_READY, str(error))


def _peer_certificate_lines(peer: Peer) -> Iterator[Line]:
    """Yield a line if what the node shows to a peer ends, or a revocation list; else the line of the peer is enough."""
    try:
        state, words = _validity(peer.tls_certificate, peer.crl_files)
    except NodeError:  # the line of the peer says so
        return
    if words:
        yield (f"peer {peer.name} TLS", state, words)


def _validity(certificate: str | Path, revocation_lists: Iterable[str | Path]) -> tuple[str, str]:
    """Return the state of a certificate ('' is none) and of revocation lists, and what to do about an end of validity.

    Raises: ConfigError if one of them cannot be read.
    """
    now = datetime.now(UTC)
    ends = [(path, tls.list_expiry(path)) for path in revocation_lists]
    ends += [(certificate, tls.expiry(certificate))] if certificate else []
    expired = [f"{path} expired on {end:%Y-%m-%d %H:%M} UTC" for path, end in ends if end and end <= now]
    if expired:
        return (NOT_READY, f"{', '.join(expired)}; {_RENEW}")
    if certificate and (end := tls.expiry(certificate)) < now + _NOTICE:
        return (READY, f"{certificate} expires on {end:%Y-%m-%d}; {_RENEW}")
    return (READY, "")


def route_lines(settings: Settings, state_of: StateOf = HandlerWeights.state_of) -> Iterator[Line]:
    """Yield the line of each route; each handler is asked in a reader process of its own, all of them at once.

    `state_of` says in which words, where all that a route needs is here.
    """
    models = environment(settings)
    handlers = sorted({route.handler for route in settings.routes})
    if handlers:
        with ThreadPoolExecutor(_READERS_AT_ONCE) as threads:
            questions = {name: threads.submit(_needs, name, models, settings.reader) for name in handlers}
            for route in settings.routes:
                yield _route_line(route, models, questions[route.handler], state_of)


def _needs(handler: str, models: ModelEnvironment, limits: ReaderTable) -> Needs:
    """Return what a handler needs.

    Raises: NodeError.
    """
    reader = Reader(handler, models, limits)
    try:
        return reader.needs()
    finally:
        reader.kill_unless_reading()


def _route_line(route: Route, models: ModelEnvironment, question: Future[Needs], state_of: StateOf) -> Line:
    """Return the line of a route: `shadow`, with the reason, if the route is live and withholds its documents."""
    name = f"route {route.name}"
    try:
        router.refuse_broken(route)
        needs = question.result()
        for weights in needs.weights:
            models.weights.verified(weights)
        state, words = state_of(models.weights.of_handler(needs.weights), route)
    except NodeError as error:
        return (name, NOT_READY, str(error))
    if needs.missing_packages:
        packages = ", ".join(needs.missing_packages)
        return (name, NOT_READY, f"missing: {packages}; {installation_of(needs.missing_packages)}")
    words = "; ".join(filter(None, [words, unread_words(route, models.models)]))
    if state == READY and not route.live_destinations:
        is_shadow = route.mode is RouteMode.SHADOW
        silence = (
            'its documents stay in the node: mode = "shadow"' if is_shadow else "it sends nothing: no destinations"
        )
        return (name, "shadow" if is_shadow else READY, f"{silence}; {words}" if words else silence)
    return (name, state, words)
