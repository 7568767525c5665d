"""The order in which a node has its handlers load their networks after a start."""

from collections.abc import Callable, Collection

from ainode.node.errors import DatabaseUnavailable, HandlerError
from ainode.node.reading.preparation import Preparation

# Two that ship, and two of a site: a described model and a module.
SIZES = {"skin_lesion": 1, "ct_tumor": 2, "hip": 30, "my_site.brain": 20}
BY_SIZE = ["my_site.brain", "hip", "skin_lesion", "ct_tumor"]


class Readers:
    """Readers that note what they are asked; `on_prepared` gets the name of each handler that has prepared."""

    def __init__(self, on_prepared: Callable[[str], None] = lambda _: None, broken: str = "") -> None:
        self.prepared: list[str] = []
        self.sized: list[str] = []
        self._on_prepared, self._broken = on_prepared, broken

    def weights_bytes(self, handler: str) -> int:
        """Return the size of the weights of a handler."""
        self.sized.append(handler)
        return SIZES[handler]

    def prepare(self, handler: str, is_unwanted: Callable[[], bool]) -> None:
        """Note a handler."""
        assert not is_unwanted()
        self.prepared.append(handler)
        self._on_prepared(handler)
        if handler == self._broken:
            raise HandlerError("broken")


def run(readers: Readers, awaited_handlers: Callable[[], Collection[str]] = tuple) -> list[str]:
    """Return the handlers in the order in which they prepared."""
    preparation = Preparation(readers, SIZES, awaited_handlers)
    preparation.start()
    preparation.join()
    return readers.prepared


def test_the_models_of_the_site_come_before_those_that_ship_each_by_their_memory() -> None:
    assert run(Readers()) == BY_SIZE


def test_a_handler_whose_study_waits_comes_first_and_no_other_is_asked_before() -> None:
    readers = Readers()
    asked_before: list[list[str]] = []

    def awaited() -> Collection[str]:
        asked_before.append([*readers.sized])
        return ["ct_tumor", "a_shadow"]

    assert run(readers, awaited) == ["ct_tumor", "my_site.brain", "hip", "skin_lesion"]
    assert asked_before[:2] == [[], []]


def test_of_handlers_whose_studies_wait_the_one_with_less_memory_comes_first() -> None:
    assert run(Readers(), lambda: ["ct_tumor", "hip", "skin_lesion"])[:3] == ["skin_lesion", "ct_tumor", "hip"]


def test_a_study_that_comes_meanwhile_has_its_handler_prepare_next() -> None:
    awaited: list[str] = []
    readers = Readers(lambda _: awaited.append("ct_tumor"))
    assert run(readers, lambda: awaited) == ["my_site.brain", "ct_tumor", "hip", "skin_lesion"]


def test_a_database_that_is_away_and_a_broken_handler_cost_the_others_nothing() -> None:
    def awaited() -> Collection[str]:
        raise DatabaseUnavailable("away")

    assert run(Readers(broken="hip"), awaited) == BY_SIZE


def test_nothing_prepares_after_the_stop() -> None:
    readers = Readers(lambda _: preparation.stop())
    preparation = Preparation(readers, SIZES, tuple)
    preparation.start()
    preparation.join()
    assert readers.prepared == BY_SIZE[:1]
