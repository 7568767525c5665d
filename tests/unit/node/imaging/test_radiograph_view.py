"""From where a radiograph was taken and how it lies, by its header."""

import pytest

from ainode.node.domain import Header
from ainode.node.imaging.radiograph_view import not_from_the_front, not_upright

FRONTAL = ("AP", "PA")


def coded(value: str, meaning: str, scheme: str = "SCT") -> Header:
    item: Header = {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}
    return {"ViewCodeSequence": (item,)}


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"ViewPosition": "AP"},
        {"ViewPosition": "pa", "PatientOrientation": ("R", "F")},
        {"PatientOrientation": ("L", "F")},
        {"PatientOrientation": ("", "")},
        coded("399348003", "antero-posterior"),
        coded("272479007", "postero-anterior"),
        coded("R-10206", "antero-posterior", "SRT"),
        coded("V7", "whole spine", "99MAKER"),
    ],
)
def test_a_frontal_view_is_taken(header: Header) -> None:
    assert not_from_the_front(header, FRONTAL) is None
    assert not_upright(header) is None


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"ViewPosition": "LL"}, "View Position is LL"),
        (coded("399067008", "lateral"), "View Code is 399067008 of SCT"),
        (coded("399182000", ""), "View Code is 399182000 of SCT"),
        (coded("R-10236", "Lateral", "SRT"), "named lateral"),
        (coded("V8", "Spine left lateral standing", "99MAKER"), "named lateral"),
        ({"ViewPosition": "AP", "PatientOrientation": ("P", "F")}, "Patient Orientation is P\\F"),
        ({"PatientOrientation": ("AR", "F")}, "Patient Orientation is AR\\F"),
    ],
)
def test_another_view_is_named_by_the_element_that_says_it(header: Header, said: str) -> None:
    assert said in str(not_from_the_front(header, FRONTAL))


@pytest.mark.parametrize("orientation", [("R", "H"), ("L", "H"), ("F", "L"), ("H", "R"), ("L", "P")])
def test_an_image_without_the_head_above_is_told(orientation: tuple[str, str]) -> None:
    assert "\\".join(orientation) in str(not_upright({"PatientOrientation": orientation}))
