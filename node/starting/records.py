"""What a start leaves in the audit trail and in the log besides that the node is ready."""

import logging
from collections.abc import Callable

from ainode.node.audit.changes import start_alert
from ainode.node.audit.messages import Message
from ainode.node.errors import WeightsError
from ainode.node.reading import confinement
from ainode.node.reading.weights import environment
from ainode.node.settings import Settings

log = logging.getLogger(__name__)


def record_configuration(settings: Settings, record: Callable[[Message], None]) -> None:
    """Record the digests of configuration and weights; what cannot be read or written costs a line of the log."""
    if not settings.audit.enabled:
        return
    try:
        entries = environment(settings).weights.entries()
        record(start_alert(settings, {entry.name: entry.sha256 for entry in entries}))
    except (WeightsError, OSError) as error:
        log.warning("audit: configuration and weights are not recorded: %s", error, extra={"action": "audit_failed"})


def log_unconfined(settings: Settings) -> None:
    """Log what this system cannot confine of the models of others, if a route reads with one."""
    handlers = (route.handler for route in settings.routes)
    state = confinement.state_of(handlers, settings.reader, settings.models)
    if state and not state[0]:
        log.warning("%s", state[1], extra={"action": "unconfined"})
