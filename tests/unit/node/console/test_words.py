"""The page of words explains each word that a state, a verdict or a document has on a page."""

from collections.abc import Iterator

from ainode.node.console.answers import KIND_WORDS
from ainode.node.console.entry.access import Role
from ainode.node.console.judgements.judging import OPINIONS
from ainode.node.console.routing.unread import WORDS as UNREAD_WORDS
from ainode.node.console.states import STATE_WORDS
from ainode.node.console.words import WORDS
from ainode.node.console.worklist.question import DOCUMENTS_WORDS
from ainode.node.domain import DeliveryState, Occasion, Presence, WeightsStatus

EXPLAINED = {name.casefold() for names in WORDS for name in names}


def shown_words() -> Iterator[str]:
    """Yield what the pages call states, verdicts, documents, opinions and occasions."""
    yield from STATE_WORDS.values()
    yield from (words for words, _ in UNREAD_WORDS.values())
    yield from DOCUMENTS_WORDS.values()
    yield from DeliveryState
    yield from Presence
    yield from (f"{status} weights" for status in WeightsStatus)
    yield from (words for words, _ in OPINIONS.values())
    yield from (occasion.replace("_", " ") for occasion in Occasion)
    yield from (words.partition(" (")[0] for words in KIND_WORDS.values() if words != "PDF")
    yield from (role.word for role in Role)
    yield from ("positive", "live", "shadow", "not sent", "sends nothing", "live or shadow")
    yield from ("synthetic", "urgent", "addendum")


def test_every_word_of_a_state_a_verdict_a_document_or_an_occasion_is_explained() -> None:
    unexplained = {words for words in shown_words() if words.partition(":")[0].casefold() not in EXPLAINED}
    assert not unexplained


def test_each_word_is_explained_once_and_is_found_by_the_alphabet() -> None:
    names = [name for names in WORDS for name in names]
    assert len(names) == len(EXPLAINED)
    firsts = [names[0].casefold() for names in WORDS]
    assert firsts == sorted(firsts)
