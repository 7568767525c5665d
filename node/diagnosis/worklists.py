"""What `ainode doctor` tries with a worklist: a search, and where it is configured a subscription and its channel."""

from collections.abc import Iterator

from ainode.node.archive import ups
from ainode.node.archive.web import WebLink
from ainode.node.diagnosis.advice import NO, SEARCH, SUBSCRIPTION, YES, Trial
from ainode.node.errors import ArchiveError
from ainode.node.settings import Peer, Settings

_ANSWER_S = 20.0
_MOST = 100
# PS3.5 6.2: an AE title has 16 characters.
_TITLE = 9


def worklist_trials(peer: Peer, settings: Settings) -> Iterator[Trial]:
    """Yield the outcome of a search and of the event channel; no item is claimed.

    The subscriber has a title of its own, and is removed again: a worklist may have one channel for each AE title, and
    the running node needs its own.
    """
    if not peer.worklist:
        return
    link = WebLink(peer, _ANSWER_S)
    try:
        items = ups.search(link, peer.worklist, _MOST)
    except ArchiveError as error:
        yield Trial(SEARCH, NO, str(error))
        return
    count = f"{_MOST} or more" if len(items) == _MOST else str(len(items))
    yield Trial(SEARCH, YES, f"{count} scheduled and ready")
    if not peer.worklist.subscribe:
        return
    from ainode.node.archive import ups_channel  # noqa: PLC0415 - its library is an extra

    title = f"{settings.node.ae_title[:_TITLE]}_DOCTOR"
    try:
        address = ups.subscribe(link, title, ups.filters(peer.worklist))
        try:
            with ups_channel.channel(link, address):
                pass
        finally:
            ups.unsubscribe(link, title)
        yield Trial(SUBSCRIPTION, YES, f"subscribed as {title}, the channel opens, unsubscribed")
    except ArchiveError as error:
        yield Trial(SUBSCRIPTION, NO, str(error))
