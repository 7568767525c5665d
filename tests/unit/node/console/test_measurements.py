import pytest

from ainode.node.console.measurements import measurements_of


def number(name: str, value: float, unit: str) -> dict[str, object]:
    return {"name": name, "value": value, "unit": unit}


def test_each_number_is_shown_under_the_name_of_its_finding_with_its_unit() -> None:
    findings = [
        {"name": "left lung", "measurements": [number("Volume", 1234567.0, "mm3")]},
        {"name": "diameter", "measurements": [number("Diameter", 5.25, "mm")]},
        {"name": "lung", "measurements": [number("Density", -850.0, "[hnsf'U]"), number("Count", 3.0, "1")]},
    ]
    shown = [(item.name, item.value) for item in measurements_of(findings)]
    assert shown == [
        ("left lung, Volume", "1234567 mm3"),
        ("Diameter", "5.25 mm"),
        ("lung, Density", "-850 HU"),
        ("lung, Count", "3"),
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [(999_999.4, "999999"), (999_999.6, "1000000"), (-999_999.6, "-1000000"), (1e11, "100000000000"), (0.5, "0.5")],
)
def test_a_number_is_written_as_people_write_it(value: float, words: str) -> None:
    (shown,) = measurements_of([{"name": "", "measurements": [number("Volume", value, "1")]}])
    assert shown.value == words


def test_the_probability_that_a_verdict_states_is_not_said_twice_and_what_follows_it_is_shown() -> None:
    measurements = [number("Probability", 90.0, "%"), number("Diameter", 4.0, "mm")]
    finding = {"name": "nodule 1", "verdict": {"presence": "present"}, "measurements": measurements}
    assert [item.name for item in measurements_of([finding])] == ["nodule 1, Diameter"]
    assert len(measurements_of([finding | {"verdict": None}])) == 2
