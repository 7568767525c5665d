"""What `ainode send` leaves in the ledger: a document of the node that a person sent is in the archive, too."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ainode.node.archive.store import SendOutcome
from ainode.node.disk import sha256_of
from ainode.node.errors import ConfigError, DatabaseUnavailable
from ainode.node.keeping import database
from ainode.node.keeping.sent_by_hand import ArchivedFile, note_sent
from ainode.node.settings import Peer, Settings


def recorded_lines(settings: Settings, peer: Peer, sent: Iterable[tuple[Path, SendOutcome]]) -> Iterator[str]:
    """Write down which documents of the node a peer took; yield a line for each of their jobs, or why nothing is.

    Other files are nothing to the ledger, and need none.
    """
    archived = [(path, answer) for path, answer in sent if answer.is_proven]
    folder = (settings.data / "documents").resolve()
    are_documents = any(path.resolve().is_relative_to(folder) for path, _ in archived)
    try:
        engine = database.existing(settings.database_url)
        try:
            files = [
                ArchivedFile(answer.sop_instance_uid, sha256_of(path), answer.status, answer.comment)
                for path, answer in archived
            ]
            is_settled = peer.name in settings.unconfirmed
            for job in note_sent(engine, peer.name, files, datetime.now(UTC), settled=is_settled):
                yield f"job {job}: written down as sent to {peer.name}; `ainode jobs` shows it"
        finally:
            engine.dispose()
    except (ConfigError, DatabaseUnavailable) as error:
        if are_documents:
            yield f"not written down that {peer.name} has documents of the node: {error}"
