"""What a person wrote into a table is refused in words that say what is needed."""

import pytest

from ainode.node.errors import ConfigError
from ainode.node.reading.tables import Table


@pytest.mark.parametrize(("counts", "words"), [((1, 1), "list of 1 number is"), ((1, 3), "list of 1 or 3 numbers is")])
def test_a_count_of_numbers_is_named_once(counts: tuple[int, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Table("model.toml: [input]", {"std": [1.0, 1.0]}).numbers("std", counts=counts)
