import pytest

from ainode.node.domain import Verdict, probability_text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.9951, "> 0.99"),
        (0.999999, "> 0.99"),
        (0.004, "< 0.01"),
        (0.99, "0.99"),
        (0.5, "0.50"),
        (0.0, "0.00"),
        (1.0, "1.00"),
    ],
)
def test_no_probability_is_rounded_to_certainty(value: float, words: str) -> None:
    assert probability_text(value) == words


def test_more_digits_are_no_certainty_either() -> None:
    assert (probability_text(0.99999, 4), probability_text(0.00001, 4)) == ("> 0.9999", "< 0.0001")


def test_a_verdict_does_not_say_a_certain_probability() -> None:
    assert Verdict.of(0.9951, 0.5).numbers == "> 0.99, threshold 0.50"
