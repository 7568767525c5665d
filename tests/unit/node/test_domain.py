"""The nouns of the node refuse what they cannot be."""

import json
from math import inf, nan

import pytest

from ainode.node.domain import FARTHEST_MM, REQUEST, Location, is_position
from ainode.node.keeping.announcements import locations_json, locations_of

NO_POSITIONS = [(nan, 0.0, 0.0), (0.0, inf, 0.0), (0.0, 0.0, -inf), (0.0, 0.0, 1.001 * FARTHEST_MM), (-1e300, 0.0, 0.0)]


@pytest.mark.parametrize("numbers", NO_POSITIONS)
def test_numbers_that_are_no_position_make_no_location(numbers: tuple[float, float, float]) -> None:
    assert not is_position(numbers)
    with pytest.raises(ValueError, match="no position"):
        Location(numbers, REQUEST)


def test_a_location_that_an_earlier_version_accepted_leaves_the_others_readable() -> None:
    location = Location((-FARTHEST_MM, 0.5, FARTHEST_MM), REQUEST)
    values = json.loads(locations_json([location]))
    text = json.dumps([values[0] | {"position_mm": numbers} for numbers in NO_POSITIONS] + values)
    assert locations_of(text) == (location,)
