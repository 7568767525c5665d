"""Whoever waits for a long command reads that it goes on, and how far it has come."""

from __future__ import annotations

from threading import Event
from threading import enumerate as running_threads

import pytest

from ainode.models.training.progress import counted_off, heard_from


def test_each_tenth_has_a_line_where_nobody_sees_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted_off(range(652), "cases")) == list(range(652))
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines), lines[0], lines[-1]) == (10, "cases: 66 of 652", "cases: 652 of 652")


def test_what_says_nothing_for_long_is_heard_from_until_it_ends() -> None:
    beats: list[str] = []
    second_beat, threads = Event(), running_threads()

    def write(line: str) -> None:
        beats.append(line)
        if len(beats) == 2:
            second_beat.set()

    with heard_from("evaluate known", 0.01, write):
        assert second_beat.wait(60)
    assert all(line.startswith("evaluate known: goes on, ") for line in beats)
    assert not {*running_threads()} - {*threads}
