"""The three ways of a notification."""

from datetime import datetime

from ainode.node.keeping.notices import Notice
from ainode.node.notifying import drop, mail, webhook
from ainode.node.settings import Subscription


def send(subscription: Subscription, notice: Notice, now: datetime) -> None:
    """Send a notice; whoever is told has taken it when this returns.

    Raises: ArchiveUnreachable if another attempt can help, ArchiveRefused if not; ConfigError if a secret or a file is
    missing.
    """
    match subscription.to:
        case "webhook":
            webhook.send(subscription, notice, now)
        case "mail":
            mail.send(subscription, notice)
        case "folder":
            drop.send(subscription, notice)


def connect(subscription: Subscription) -> None:
    """Try whatever can be tried without telling anybody.

    Raises: as `send`.
    """
    {"webhook": webhook, "mail": mail, "folder": drop}[subscription.to].connect(subscription)
