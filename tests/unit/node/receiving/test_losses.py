"""How long a receiver that ends again and again is paused, and what is said of it."""

import signal
import subprocess
import sys

import pytest

from ainode.node.receiving.losses import Loss, ending_of


def test_the_pause_grows_with_each_loss_in_a_row_and_has_an_end() -> None:
    loss, pauses_s = Loss(1, "ended", 100.0), list[float]()
    for _ in range(12):
        pauses_s.append(loss.due_s - loss.at_s)
        loss = loss.next("ended", loss.due_s + 0.3)
    assert pauses_s == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300])


def test_a_receiver_that_served_for_ten_minutes_begins_from_the_first_pause() -> None:
    loss = Loss(1, "ended", 100.0, count=5)
    assert loss.next("ended", loss.due_s + 599).count == 6
    assert loss.next("ended", loss.due_s + 601).count == 1


def test_what_is_said_names_the_receiver_the_reason_the_count_and_the_pause_that_is_left() -> None:
    assert Loss(1, "ended with exit status 1", 100.0, count=3).sentence(4, 101.0, is_served=True) == (
        "receiver 2 of 4 ended with exit status 1, 3 times in a row; another starts in 3 s, "
        "others serve callers meanwhile"
    )
    assert Loss(0, "ended", 100.0).sentence(1, 500.0, is_served=False) == (
        "receiver 1 of 1 ended; another starts in 0 s, callers wait meanwhile"
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("raise SystemExit(3)", "ended with exit status 3"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", "killed by signal 9 (Killed; see whether the ma"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGRTMIN)})", f"killed by signal {int(signal.SIGRTMIN)} ("),
    ],
)
def test_the_reason_is_the_status_of_the_process(script: str, words: str) -> None:
    assert words in ending_of(subprocess.run([sys.executable, "-c", script], check=False).returncode)
