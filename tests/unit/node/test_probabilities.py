import pytest

from ainode.node.domain import Verdict, probability_text, score_text


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


def test_a_score_that_is_no_share_has_no_false_precision() -> None:
    assert [score_text(value) for value in (0.91883, 1.0, 1771.6000, -0.25)] == [
        "0.9188",
        "1.0000",
        "1771.6",
        "-0.2500",
    ]
