"""What a route wants and what a study has, as one sentence for a person."""

import pytest

from ainode.node.routes import mismatch_sentence


@pytest.mark.parametrize(
    ("attribute", "expected", "found", "sentence"),
    [
        ("BodyPartExamined", "SPINE", "CHEST", "route r takes BodyPartExamined SPINE, and this is CHEST"),
        ("Rows", ">=256", "8", "route r takes Rows >=256, and this is 8"),
        ("Modality", "an image", "SR", "route r takes an image (Modality), and this is SR"),
        ("ImageType", "no localizer", "SCOUT", "route r takes no localizer (ImageType), and this is SCOUT"),
    ],
)
def test_a_failed_condition_says_what_the_route_takes_and_blames_no_header(
    attribute: str, expected: str, found: str, sentence: str
) -> None:
    assert mismatch_sentence("r", attribute, expected, found) == sentence


def test_what_the_node_wants_of_every_study_names_no_route() -> None:
    sentence = mismatch_sentence("", "StudyInstanceUID", "1.2 as indexed", "1.3 in the file of instance 9")
    assert sentence == "StudyInstanceUID: the node wants 1.2 as indexed, and this is 1.3 in the file of instance 9"
