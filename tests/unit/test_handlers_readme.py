"""The codes of body sites in handlers/README.md are those by which the node itself knows the parts."""

import re
from pathlib import Path

import pytest

from ainode.node.domain import Code
from ainode.node.imaging.anatomy import body_part
from ainode.node.reading.codes import code_problem

README = Path(__file__).parents[2] / "handlers" / "README.md"
PARAGRAPH = (
    README.read_text(encoding="utf-8").partition("\nCodes of body sites ")[2].partition("\nCodes of findings ")[0]
)
SITES = [
    (" ".join(name.split()), value) for name, value in re.findall(r"([A-Z][a-z]+(?:\s[a-z]+)?) (\d{6,})", PARAGRAPH)
]


def test_the_list_of_sites_holds_the_common_ones() -> None:
    assert len(SITES) == len({value for _, value in SITES}) == PARAGRAPH.partition(":\n")[2].count(",") + 1
    assert {"Chest", "Abdomen", "Spleen", "Lumbar spine"} <= {name for name, _ in SITES}


@pytest.mark.parametrize(("name", "value"), SITES)
def test_the_code_of_a_site_is_that_of_the_part_of_its_name(name: str, value: str) -> None:
    assert not code_problem(Code(value, "SCT", name))
    # Without a meaning the code alone can name the part.
    by_code = body_part({"AnatomicRegionSequence": ({"CodeValue": value, "CodingSchemeDesignator": "SCT"},)})
    assert by_code.parts == body_part({"BodyPartExamined": name}).parts != ()
