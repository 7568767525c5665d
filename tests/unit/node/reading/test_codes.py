import pytest

from ainode.node.domain import Code
from ainode.node.reading.codes import code_problem, unit_problem


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        ("39607008", "SCT"),
        ("263654008", "SCT"),
        ("816094009", "SCT"),
        ("122157", "DCM"),
        ("24627-2", "LN"),
        ("mm3", "UCUM"),
        ("{ratio}", "UCUM"),
        ("of our own", "99SITE"),
    ],
)
def test_a_code_of_a_known_scheme_is_one(value: str, scheme: str) -> None:
    assert code_problem(Code(value, scheme, "Meaning")) == ""


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (Code("39607009", "SCT", "Lung"), "no identifier of SNOMED CT"),
        (Code("T-28000", "SCT", "Lung"), "no identifier of SNOMED CT"),
        (Code("24627-3", "LN", "CT"), "no code of LOINC"),
        (Code("probability", "DCM", "Probability"), "no code of DICOM"),
        (Code("square meter", "UCUM", "m2"), "no unit of UCUM"),
        (Code("T-28000", "SRT", "Lung"), "its scheme is not SCT, DCM, LN, UCUM or a private one, 99…"),
        (Code("1", "99", "A scheme without a name"), "its scheme is not SCT"),
        (Code("1", "99SITE", ""), "its meaning is empty"),
        (Code("1", "99SITE", "m" * 65), "its meaning is empty, longer than 64"),
        (Code("", "99SITE", "Nothing"), "its value is empty"),
    ],
)
def test_what_is_no_code_is_named_with_the_reason(code: Code, problem: str) -> None:
    assert problem in code_problem(code)


def test_a_unit_is_of_ucum() -> None:
    assert unit_problem(Code("mm", "UCUM", "mm")) == ""
    assert "a unit is of UCUM" in unit_problem(Code("122157", "DCM", "Probability"))
