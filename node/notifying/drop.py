"""A notification as a file in a folder: `ID.json` appears whole, by a rename within the folder."""

import os
from pathlib import Path

from ainode.node.disk import remove_parts, write_durably
from ainode.node.errors import ArchiveUnreachable
from ainode.node.keeping.notices import Notice
from ainode.node.settings import Subscription


def send(subscription: Subscription, notice: Notice) -> None:
    """Put a notice into the folder; the same notice again replaces its own file.

    Raises: ArchiveUnreachable if the folder is not there (a share that is not mounted), or takes no file.
    """
    connect(subscription)
    try:
        write_durably(Path(subscription.folder) / f"{notice.id}.json", notice.body.encode())
    except OSError as error:
        raise ArchiveUnreachable(f"{subscription.name}: {subscription.folder}: {error.strerror}") from error


def connect(subscription: Subscription) -> None:
    """Look whether the folder is there and may be written.

    Raises: ArchiveUnreachable.
    """
    folder = Path(subscription.folder)
    if not folder.is_dir():
        raise ArchiveUnreachable(f"{subscription.name}: there is no folder {folder}; make it, or mount its share")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ArchiveUnreachable(f"{subscription.name}: the user of the node may not write in {folder}")


def tidy(subscription: Subscription) -> None:
    """Remove what a killed node was writing into the folder."""
    remove_parts(Path(subscription.folder), ("*.json.*",))
