"""What the node has to say of itself to people, such as a self-test that failed: callable from any of its processes."""

from datetime import datetime

import sqlalchemy as sa

from ainode.node.keeping.notices import Notices
from ainode.node.notifying.bodies import alert_notices
from ainode.node.settings import Settings


def alert(settings: Settings, engine: sa.Engine, kind: str, words: str, at: datetime) -> int:
    """Keep an alert for each subscription to alerts, and return how many that are; the node sends them.

    `kind` is a short word by which a receiver sorts, such as `self_test`; `words` name no patient.

    Raises: DatabaseUnavailable.
    """
    notices = alert_notices(settings, kind, words, at)
    Notices(engine).keep(notices)
    return len(notices)
