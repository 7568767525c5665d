"""What a start must find besides sound files: certificates, handlers, packages, free ports, room for the data folder.

The checks come before the data folder is made and before anything listens.
"""

import errno
import importlib.util
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy.engine import make_url

from ainode.node import tls
from ainode.node.deciding import router
from ainode.node.disk import make_folder
from ainode.node.errors import ConfigError, installation
from ainode.node.keeping.folder_lock import LOCK_NAME
from ainode.node.keeping.permissions import Permissions
from ainode.node.reading import registry
from ainode.node.receiving.negotiation import allowed_caller, bound_certificates
from ainode.node.settings import Peer, Settings, Sources, Subscription
from ainode.node.settings.frozen import Frozen
from ainode.node.web.tokens import Tokens

T = TypeVar("T")
_WEB_PACKAGES: Final = ("fastapi", "uvicorn")
_CONSOLE_PACKAGES: Final = ("argon2", "jinja2", "python_multipart")
# The receiver of a node that was killed notes that within a second, and ends its associations.
_LONGEST_END_S: Final = 3.0
# What commands and earlier versions leave in a data folder, and what a disk of its own, or a configuration there, has.
_OWN_FOLDERS: Final = ("spool", "documents", "priors", "commitments", "weights", "models", "networks", "audit")
_OWN_FILES: Final = ("tokens", "catalog.sqlite", "workflows.sqlite", "node.id")
_OWN_NAMES: Final = (*_OWN_FOLDERS, *_OWN_FILES, "lost+found", "node.toml", "routes.toml")
_PORT_PAUSE_S: Final = 0.1
# PS3.5 6.2.
_MAX_AE_TITLE: Final = 16
# From this Python on, DBOS asks for unixepoch('subsec'), which SQLite has since 3.42.
_MILLISECONDS_FROM: Final = (3, 12)
_MILLISECONDS_IN_SQLITE: Final = (3, 42)
_OF_A_SUBSCRIPTION: Final = ("key_env", "user_env", "password_env")
_OF_A_PEER: Final = ("user_env", "password_env", "token_env")
_OF_OAUTH2: Final = ("client_id_env", "client_secret_env")


def refuse_unfit(settings: Settings, sources: Sources, *, has_ports: bool = False) -> None:
    """Return if the node can start; with `has_ports` its receiver runs already.

    Raises: ConfigError with a line for each problem: "FILE: key: what is wrong; what to do".
    """
    if lines := [*problems(settings, sources), *(() if has_ports else port_problems(settings, sources))]:
        raise ConfigError("\n".join(lines))


def make_data_folder(settings: Settings, sources: Sources) -> None:
    """Make the data folder.

    Raises: ConfigError.
    """
    try:
        make_folder(settings.data)
    except OSError as error:
        subject = sources.key("node", "data")
        raise ConfigError(
            f"{subject}: {settings.data} cannot be made ({error.strerror}); give another folder"
        ) from error


def problems(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a sentence for each problem, those of the ports left out: beside a running node its ports are in use."""
    yield from _folder_problems(settings, sources)
    yield from _database_problems(settings, sources)
    yield from _caller_problems(settings, sources)
    yield from _certificate_problems(settings, sources)
    yield from _web_problems(settings, sources)
    for subscription in settings.subscriptions:
        yield from _subscription_problems(subscription, sources)
    if settings.audit.syslog_host:
        yield from _error_lines(f"{sources.origin('audit', 'ca_file')}: ", tls.collecting, settings.audit)
    for peer in settings.peers:
        yield from peer_problems(peer, sources)
    for route in settings.routes:
        subject = f"{sources.routes}: "
        yield from _error_lines(subject, router.refuse_broken, route)
        is_known = partial(registry.refuse_unknown, models=settings.models)
        yield from _error_lines(f"{subject}route {route.name!r}: handler: ", is_known, route.handler)


def port_problems(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a sentence for each port that the node cannot have."""
    tables = {"node": settings.node} | ({"web": settings.web} if settings.web.enabled else {})
    # Without a lock no node has run on the data folder, so that no receiver of a killed node can hold the port.
    wait_s = _LONGEST_END_S if os.path.exists(settings.data / LOCK_NAME) else 0.0
    for name, table in tables.items():
        try:
            _bind(table.bind, table.port, wait_s)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", "") or "the name is no name of a machine"
            is_of_port = getattr(error, "errno", None) in {errno.EADDRINUSE, errno.EACCES}
            remedy = "give a free port, or stop what has it" if is_of_port else "give an address of this machine"
            key = sources.key(name, "port" if is_of_port else "bind")
            yield f"{key}: cannot listen on {table.bind}:{table.port} ({reason}); {remedy}"


def _bind(bind: str, port: int, wait_s: float) -> None:
    """Bind a port and let it go without listening; wait for a port that is in use.

    Raises: OSError, UnicodeError if it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    end = time.monotonic() + wait_s
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            # As `socket.create_server` does.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind((bind, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > end:
                    raise
            else:
                return
        time.sleep(_PORT_PAUSE_S)


def _error_lines(subject: str, check: Callable[[T], object], value: T) -> Iterator[str]:
    """Yield the subject and the ConfigError of a check, nothing if there is none."""
    try:
        check(value)
    except ConfigError as error:
        yield f"{subject}{error}"


def _nearest_folder(folder: Path) -> Path:
    """Return the folder, or the nearest of its parents that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))


def _folder_problems(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a sentence if the data folder cannot be made or written, or has too small a disk."""
    subject, folder = sources.key("node", "data"), settings.data
    nearest = _nearest_folder(folder)
    if not os.path.isdir(nearest):
        yield f"{subject}: {nearest} is no folder; give the path of a folder"
        return
    yield from _error_lines(f"{sources.origin('node', 'group')}: ", Permissions.of_group, settings.node.group)
    disk = os.statvfs(nearest)
    if disk.f_flag & os.ST_RDONLY:
        yield f"{subject}: {nearest} is on a read-only disk; give a folder on a disk that can be written"
    elif not os.access(nearest, os.W_OK | os.X_OK):
        yield f"{subject}: {nearest} cannot be written; change its rights, or give another folder"
    yield from _strangers_in(folder, subject)
    yield from _damage_in(folder, subject)
    if max(map(len, map(os.fsencode, folder.parts))) > os.pathconf(nearest, "PC_NAME_MAX"):
        yield f"{subject}: has a name that is too long for the disk; give a shorter one"
    total_bytes = disk.f_blocks * disk.f_frsize
    if settings.node.min_free_bytes > total_bytes > 0:
        yield (
            f"{sources.key('node', 'min_free_bytes')}: the disk of {nearest} has {total_bytes} bytes, so that every "
            "object would be refused; give fewer"
        )


def _strangers_in(folder: Path, subject: str) -> Iterator[str]:
    """Yield a sentence if a folder on which no node has run holds what is of others: a start takes it from them."""
    if not os.path.isdir(folder) or not os.access(folder, os.R_OK | os.X_OK) or os.path.lexists(folder / LOCK_NAME):
        return
    names = (name for name in sorted(os.listdir(folder)) if not name.startswith((".", *_OWN_NAMES)))
    if name := next(names, None):
        yield (
            f"{subject}: {folder} holds {name!r}, which is not of a node, and a start would take all files in the "
            "folder from their users; give a folder for the node alone"
        )


def _damage_in(folder: Path, subject: str) -> Iterator[str]:
    """Yield a sentence for each file of a data folder where a folder belongs, and for each folder in a file's place."""
    for name in _OWN_FOLDERS:
        if os.path.lexists(folder / name) and not os.path.isdir(folder / name):
            yield f"{subject}: {folder / name} is no folder; move the file away, or give another data folder"
    for name in _OWN_FILES:
        if os.path.isdir(folder / name):
            yield f"{subject}: {folder / name} is a folder; move the folder away, or give another data folder"


def _database_problems(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a sentence if SQLite is too old for the workflows, or cannot make its file."""
    url = make_url(settings.database_url)
    is_too_old = sys.version_info >= _MILLISECONDS_FROM and sqlite3.sqlite_version_info < _MILLISECONDS_IN_SQLITE
    if url.drivername == "sqlite" and is_too_old:
        yield (
            f"{sources.key('database', 'url')}: this Python has SQLite {sqlite3.sqlite_version}; its workflows need "
            "3.42; give a PostgreSQL, or install ainode with a Python that has a newer SQLite"
        )
    if url.drivername != "sqlite" or not settings.database.url:
        return
    path, subject = Path(str(url.database)), sources.key("database", "url")
    others = {settings.data / LOCK_NAME, settings.data / "workflows.sqlite"}
    if os.path.isdir(path):
        yield f"{subject}: {path} is a folder; give the path of a file in it"
    elif (os.path.exists(path) and not path.is_file()) or path in others:
        yield f"{subject}: {path} is a device, or a file that the node uses otherwise; give another file"
    elif path.parent != settings.data and not os.path.isdir(path.parent):
        yield f"{subject}: the folder {path.parent} does not exist; make the folder, or give another"
    elif not os.access(_nearest_folder(path), os.W_OK):
        yield f"{subject}: {path} cannot be written; change the rights, or give another file"


def _caller_problems(settings: Settings, sources: Sources) -> Iterator[str]:
    for entry in settings.node.allow:
        caller = partial(allowed_caller, are_certified=bool(settings.node.tls_client_ca))
        yield from _error_lines(f"{sources.origin('node', 'allow')}: ", caller, entry)
        title = entry.rpartition("@")[0]
        if title != "*" and ("*" in title or "\\" in title or title != title.strip() or not title.isascii()):
            yield (
                f"{sources.key('node', 'allow')}: {entry!r}: no caller has this AE title; give all of it in letters, "
                "digits and single spaces, or * alone for any"
            )
        if len(title) > _MAX_AE_TITLE:
            yield f"{sources.key('node', 'allow')}: {entry!r}: no AE title has more than 16 characters; shorten it"
    yield from _error_lines(f"{sources.origin('peer')}: ", bound_certificates, settings)


def _certificate_problems(settings: Settings, sources: Sources) -> Iterator[str]:
    web = settings.web
    yield from _error_lines(f"{sources.origin('node', 'tls_certificate')}: ", tls.context_of, settings.node)
    if web.enabled and (files := tls.server_files(web)):
        origin = sources.origin("web", "tls_certificate")
        yield from _error_lines(f"{origin}: ", lambda files: tls.accepting(files, "[web]"), files)


def missing_packages(settings: Settings) -> list[str]:
    """Return the names of the packages that the interface or its console needs and that are not installed."""
    names = (*_WEB_PACKAGES, *(_CONSOLE_PACKAGES if settings.console.enabled else ()))
    return [name for name in names if importlib.util.find_spec(name) is None]


def _web_problems(settings: Settings, sources: Sources) -> Iterator[str]:
    if not settings.web.enabled:
        return
    if missing := missing_packages(settings):
        packages = " and ".join(missing)
        yield (
            f"{sources.key('web', 'enabled')}: needs the missing package {packages}; {installation('web')}, or "
            "give false"
        )
    yield from _error_lines("", Tokens.names, Tokens(settings.data))


def variable_problems(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a sentence for each secret that the environment of this process lacks; those of `problems` have them, too.

    A running node has another environment than the shell of a person.
    """
    for subscription in settings.subscriptions:
        yield from _missing_variables(subscription, _OF_A_SUBSCRIPTION, sources.key("notification"), subscription.name)
    for peer in settings.peers:
        yield from _missing_of_peer(peer, sources)


def _missing_of_peer(peer: Peer, sources: Sources) -> Iterator[str]:
    subject = sources.key("peer")
    yield from _missing_variables(peer, _OF_A_PEER, subject, peer.name)
    if peer.oauth2:
        yield from _missing_variables(peer.oauth2, _OF_OAUTH2, f"{subject}.oauth2", peer.name)


def _missing_variables(table: Frozen, keys: Iterable[str], subject: str, name: str) -> Iterator[str]:
    for key in keys:
        variable = getattr(table, key)
        if variable and not os.environ.get(variable):
            yield (
                f"{subject}.{key}: the environment has no {variable}; set the variable for the node (config/README.md, "
                f"Secrets), or correct its name (in {name!r})"
            )


def _subscription_problems(subscription: Subscription, sources: Sources) -> Iterator[str]:
    """Yield a sentence for each secret and each file of a notification that is missing."""
    yield from _missing_variables(subscription, _OF_A_SUBSCRIPTION, sources.key("notification"), subscription.name)
    if subscription.ca_file or subscription.tls_certificate or subscription.crl_files:
        yield from _error_lines(f"{sources.origin('notification')}: ", tls.notifying, subscription)


def peer_problems(peer: Peer, sources: Sources) -> Iterator[str]:
    """Yield a sentence for each file and each variable of the peer that is missing."""
    yield from _missing_of_peer(peer, sources)
    if peer.ca_file or peer.tls_certificate or peer.crl_files:
        yield from _error_lines(f"{sources.origin('peer')}: ", tls.calling, peer)
