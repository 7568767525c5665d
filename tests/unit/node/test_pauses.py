"""How long to wait before whatever failed is tried again."""

from ainode.node.domain.pauses import back_off_s


def test_pauses_double_from_the_first_to_the_longest() -> None:
    assert [back_off_s(attempt, first_s=2.0, longest_s=12.0) for attempt in range(5)] == [2.0, 4.0, 8.0, 12.0, 12.0]


def test_the_pause_after_any_number_of_attempts_is_the_longest() -> None:
    assert back_off_s(10_000, first_s=2.0, longest_s=600.0) == 600.0
