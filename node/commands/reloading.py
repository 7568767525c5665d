"""`ainode reload`: ask the node that runs, and wait for what it says."""

import os
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Final

from ainode.node.diagnosis.checks import NOT_READY, route_lines
from ainode.node.diagnosis.scopes import unread_words
from ainode.node.domain import counted
from ainode.node.keeping import database
from ainode.node.keeping.folder_lock import owner
from ainode.node.keeping.gone_routes import sent_reports
from ainode.node.settings import Settings, sources
from ainode.node.starting import reload, requirements

_LIMIT_S: Final = 60.0
_LOOK_S: Final = 0.1
_GONE: Final = re.compile(r"\[\[route\]\] (.*): gone")
"""a route that is gone, as `settings.in_force.changes` says it"""


def reloaded(config: Path | None, settings: Settings) -> tuple[str, int]:
    """Return in words what became of a reload, and the exit status; wrong files are not shown to the node at all.

    Whether a secret is there the node tells: the environment of this shell is another than that of the node.
    """
    origin = sources(config)
    of_this_shell = {*requirements.variable_problems(settings, origin)}
    if problems := [line for line in requirements.problems(settings, origin) if line not in of_this_shell]:
        return "\n".join([*problems, "nothing was changed"]), 2
    process = owner(settings.data)
    if process is None:
        return f"no node runs on {settings.data}; `ainode serve` starts one, with the files as they are", 1
    begin = datetime.now(UTC)
    try:
        os.kill(process, reload.SIGNAL)
    except OSError as error:
        return f"the node, process {process}, takes no signal from you ({error.strerror}); ask as its user", 1
    end_s = time.monotonic() + settings.node.stop_limit_s + _LIMIT_S
    while time.monotonic() < end_s:
        if (outcome := reload.noted(settings.data)) and outcome.at >= begin:
            return words_of(outcome, settings)
        time.sleep(_LOOK_S)
    return "the node has not answered; its log says why", 1


def words_of(outcome: reload.Outcome, settings: Settings) -> tuple[str, int]:
    """Return what became of a reload, and the exit status; of one that was made also which routes cannot read, and why.

    Each handler is asked as `ainode check` asks it. A route that is not ready is no fault of the reload, and neither is
    one that takes what its model never reads.
    """
    if outcome.problems:
        words = "nothing was changed"
        if any("the environment has no" in problem for problem in outcome.problems):
            words += ": the node has the variables of its start, and a restart gives it others"
        return "\n".join([*outcome.problems, words]), 2
    broken = [f"{name} is not ready: {why}" for name, state, why in route_lines(settings) if state == NOT_READY]
    unread = [
        f"route {route.name}: {words}" for route in settings.routes if (words := unread_words(route, settings.models))
    ]
    routes, peers = counted(len(settings.routes), "route"), counted(len(settings.peers), "peer")
    readiness = f", but {len(broken)} of the routes cannot read:" if broken else ""
    changes = (*outcome.changes, *_staying(outcome.changes, settings))
    return "\n".join([*changes, f"the node works with {routes} and {peers}{readiness}", *broken, *unread]), 0


def _staying(changes: Iterable[str], settings: Settings) -> list[str]:
    """Return of each route that is gone how many of its reports stay in archives."""
    gone = [match[1] for change in changes if (match := _GONE.fullmatch(change))]
    if not gone:
        return []
    engine = database.existing(settings.database_url)
    counts = {name: sent_reports(engine, name) for name in gone}
    engine.dispose()
    return [
        f"route {name} is gone: {counted(count, 'report')} that it sent "
        f"{'stays' if count == 1 else 'stay'} in the archives; `ainode jobs --route {quote(name)}` lists them"
        for name, count in counts.items()
        if count
    ]
