import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainode.node.deciding.patterns import compiled
from ainode.node.domain import Value
from ainode.node.errors import ConfigError


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("FOR PRESENTATION", "for presentation"),
        ("*LAT*", "Cervical LAT"),
        ("AP|PA|LL", "PA"),
        ("!AP|PA", "LL"),
        ("!FOR PROCESSING", None),
        ("!*", ""),
        ("*", "x"),
        (">=256", 256),
        ("<2.5", 2.49),
        (">0", "1e3"),
        ("0.4..1.25", 0.4),
        ("-700..-500", "-0600"),
        ("-700..-500", (-700, 50)),
        ("50", "-700\\50"),
        ("2.50", 2.5),
        (r"ORIGINAL\PRIMARY*", ("ORIGINAL", "PRIMARY", "AXIAL")),
        ("AXIAL", ("ORIGINAL", "PRIMARY", "AXIAL")),
        ("T-11502", ({"CodeValue": "T-11502", "CodingSchemeDesignator": "SRT"},)),
        ("a.b", "A.B"),
    ],
)
def test_a_value_fits(pattern: str, value: "Value | None") -> None:
    assert compiled(pattern)(value)


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("LAT", "Cervical LAT"),
        ("*", ""),
        ("*", None),
        ("!*", 0),
        ("!AP|PA", "PA"),
        ("!AXIAL", ("ORIGINAL", "PRIMARY", "AXIAL")),
        (">=256", 16),
        (">=256", "many"),
        (">=256", None),
        ("<5", "nan"),
        ("0.4..1.25", 1.26),
        ("a.b", "axb"),
        ("[ab]", "a"),
    ],
)
def test_a_value_does_not_fit(pattern: str, value: "Value | None") -> None:
    assert not compiled(pattern)(value)


@pytest.mark.parametrize("pattern", ["", "!", "a||b", ">=many", ">", "9..1"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        compiled(pattern)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_comparison_agrees_with_python(limit: float, value: float) -> None:
    assert compiled(f">={limit}")(value) == (value >= limit)
    assert compiled(f"!>={limit}")(value) == (value < limit)


@pytest.mark.timeout(10)
def test_a_pattern_of_many_stars_takes_no_time_over_a_long_value() -> None:
    assert not compiled("*a*a*a*a*a*a*a*a*a*ab")("a" * 1000)
    assert not compiled("*A*B*")("a" * 1_000_000)
    assert compiled("*a*b*ab")("xxaxbxab")
