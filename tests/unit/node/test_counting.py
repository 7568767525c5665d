import pytest

from ainode.node.domain import counted


@pytest.mark.parametrize(
    ("count", "nouns", "words"),
    [
        (1, ("reading",), "1 reading"),
        (0, ("reading",), "0 readings"),
        (2, ("reading",), "2 readings"),
        (1, ("study", "studies"), "1 study"),
        (1234, ("study", "studies"), "1,234 studies"),
    ],
)
def test_a_count_of_one_has_a_singular_noun_and_every_other_count_a_plural(
    count: int, nouns: tuple[str, ...], words: str
) -> None:
    assert counted(count, *nouns) == words
