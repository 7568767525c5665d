"""A change of two keys of a route leaves every other byte of routes.toml as a person wrote it."""

import tomllib

import pytest

from ainode.node.errors import ConfigError
from ainode.node.settings.route_text import with_keys

ROUTES = """# the routes of our department
[[route]]
name = "chest"             # the old model
handler = "ct_pneumonia"
modality = ["CT"]
mode = "live"              # answers
destinations = [
    "orthanc",
    "ris",
]

[route.priors]
from = "orthanc"

[[route]]
  name = 'chest next'
  handler = "ct_tumor"     # [[route]] in a comment is none
  tags = { SeriesDescription = "[[route]]" }
  mode = 'shadow'
  destinations = []        # nothing yet
"""


def test_comments_order_and_spaces_stay_and_the_values_are_new() -> None:
    changed = with_keys(ROUTES, "chest next", {"mode": "live", "destinations": ("orthanc", "ris")})
    changed = with_keys(changed, "chest", {"mode": "shadow"})
    expected = ROUTES.replace("mode = 'shadow'", 'mode = "live"').replace('mode = "live"   ', 'mode = "shadow"   ')
    assert changed == expected.replace("destinations = []", 'destinations = ["orthanc", "ris"]')


def test_a_list_of_several_lines_becomes_one_and_what_was_not_there_stands_below_the_name() -> None:
    changed = with_keys(ROUTES, "chest", {"destinations": ("pacs",)})
    assert 'destinations = ["pacs"]\n\n[route.priors]' in changed
    without = ROUTES.replace('mode = "live"              # answers\n', "")
    assert 'the old model\nmode = "shadow"\nhandler' in with_keys(without, "chest", {"mode": "shadow"})


def test_nothing_but_the_keys_changes_its_meaning() -> None:
    before, after = (tomllib.loads(text) for text in (ROUTES, with_keys(ROUTES, "chest", {"mode": "shadow"})))
    assert after["route"][0].pop("mode") == "shadow"
    before["route"][0].pop("mode")
    assert after == before


@pytest.mark.parametrize(
    "text",
    [
        'route = [{ name = "chest", handler = "x" }]\n',
        ROUTES.replace('    "ris",', '    "ris",  # the RIS'),
        ROUTES.replace('mode = "live"  ', 'mode = """live"""  '),
        ROUTES.replace('"chest" ', '"lung" '),
    ],
)
def test_what_only_a_person_can_change_is_left_and_the_lines_are_told(text: str) -> None:
    with pytest.raises(ConfigError, match=r'only a person changes; write mode = "shadow"; destinations = \["pacs"\]'):
        with_keys(text, "chest", {"mode": "shadow", "destinations": ("pacs",)})


def test_a_name_with_a_quotation_mark_finds_its_route() -> None:
    text = ROUTES.replace('name = "chest" ', 'name = "the \\"chest\\"" ')
    assert tomllib.loads(with_keys(text, 'the "chest"', {"mode": "shadow"}))["route"][0]["mode"] == "shadow"
