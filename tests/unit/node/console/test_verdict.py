"""What the head of the page System says is wrong."""

from datetime import UTC, datetime

from ainode.node.console.system.verdict import Condition, Statement, statements
from ainode.node.keeping.backlog import Failures

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ALL_IS_WELL = {"faults": {"receiver": ""}, "failures": Failures(0, None, ""), "troubles": (), "queues": ()}


def test_a_receiver_that_others_stand_in_for_is_told_though_the_receiver_is_ready() -> None:
    sentence = "receiver 2 of 2 ended with exit status 1; another starts in 4 s, others serve callers meanwhile"
    condition = Condition(**ALL_IS_WELL, dead_letters=0, missing_receivers=(sentence,))  # type: ignore[arg-type]
    assert statements(condition, now=NOW, zone=None) == (Statement(f"R{sentence[1:]}"),)
