"""What names a job and its documents, and what does not."""

from datetime import UTC, datetime

from ainode.node.domain import DocumentKind
from ainode.node.identity import configuration_hash, document_context, wishes
from ainode.node.routes import Route
from ainode.node.settings import Peer, Settings

ROUTE = Route("spine", "spine_radiograph", destinations=("a", "b"))
PR, FRACTIONAL, LABELMAP = (kind for kind in DocumentKind if kind.is_optional)


def a_peer(name: str, **keys: object) -> Peer:
    return Peer(name=name, ae_title="A", host="127.0.0.1", port=104).model_copy(update=keys)


def settings_with(**first: object) -> Settings:
    peers = (a_peer("a", **first), a_peer("b", segmentation="labelmap"), a_peer("c", segmentation="fractional"))
    return Settings(peers=peers)


def test_a_reading_makes_what_any_destination_of_its_route_asks_for() -> None:
    def made(settings: Settings) -> tuple[DocumentKind, ...]:
        return document_context(settings, ROUTE, host="here", created=datetime(2026, 1, 1, tzinfo=UTC)).optional

    assert made(settings_with()) == (LABELMAP,)
    assert made(settings_with(segmentation="fractional", presentation_state=True)) == (PR, FRACTIONAL, LABELMAP)


def test_a_destination_gets_what_it_asks_for_and_one_that_is_gone_asks_for_nothing() -> None:
    settings = settings_with(presentation_state=True, segmentation="fractional")
    assert wishes(settings, ["a", "b", "gone"]) == {"a": (PR, FRACTIONAL), "b": (LABELMAP,)}
    assert wishes(Settings(peers=(a_peer("a"),)), ["a"]) == {"a": ()}


def test_a_new_wish_makes_no_study_a_new_one_and_renames_no_document() -> None:
    plain, wishful = settings_with(), settings_with(presentation_state=True)
    assert configuration_hash(plain, ROUTE) == configuration_hash(wishful, ROUTE)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    before, after = (document_context(one, ROUTE, host="here", created=now) for one in (plain, wishful))
    assert before != after
    assert repr(before) == repr(after), "reports.uids.run_digest names documents by it"
