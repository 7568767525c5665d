"""What the parameters of a search mean whose values have the separators of FHIR in them."""

import pytest

from ainode.node.web.fhir_search import search_of

OTHER = {"identifier": {"system": "urn:oid:1.2", "value": "7"}}


@pytest.mark.parametrize(
    ("token", "system", "value"),
    [
        (r"12\|3", "", "12|3"),
        (r"urn:oid:1.2|12\|3", "urn:oid:1.2", "12|3"),
        (r"12\,3", "", "12,3"),
        (r"8,12\,3", "", "12,3"),
        (r"12\\,8", "", "12\\"),
        (r"12\\|3", "12\\", "3"),
        ("urn:oid:1.2|3", "urn:oid:1.2", "3"),
        ("|3", "", "3"),
    ],
)
def test_a_patient_is_found_whose_identifier_has_separators_in_it(token: str, system: str, value: str) -> None:
    search = search_of([("subject:identifier", token)], handling="strict")
    identifier = {"value": value, **({"system": system} if system else {})}
    assert search.takes({"identifier": identifier}, "")
    assert not search.takes(OTHER, "")
