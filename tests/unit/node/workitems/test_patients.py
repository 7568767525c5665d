import pytest

from ainode.node.domain import Patient
from ainode.node.workitems.patients import is_another


@pytest.mark.parametrize(
    ("images", "item", "is_other"),
    [
        (Patient("A"), Patient("A"), False),
        (Patient("A"), Patient("B"), True),
        (Patient(""), Patient("B"), False),
        (Patient("A", "NORTH"), Patient("", "SOUTH"), False),
        (Patient("A", "NORTH"), Patient("A", "SOUTH"), True),
        (Patient("A", "NORTH"), Patient("A"), False),
        (Patient("A", "NORTH", universal_issuer="1.2"), Patient("A", "SOUTH", universal_issuer="1.2"), False),
        (Patient("A", "NORTH", universal_issuer="1.2"), Patient("A", "NORTH", universal_issuer="1.3"), True),
        (Patient("A", "NORTH", universal_issuer="1.2"), Patient("A", "SOUTH"), True),
        (Patient("A", universal_issuer="1.2"), Patient("A", "SOUTH"), False),
    ],
)
def test_two_statements_name_two_patients_where_identifier_or_issuer_differ(
    images: Patient, item: Patient, *, is_other: bool
) -> None:
    assert is_another(images, item) is is_other
    assert is_another(item, images) is is_other
