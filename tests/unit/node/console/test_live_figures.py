import csv
import io
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from xml.etree.ElementTree import fromstring
from zoneinfo import ZoneInfo

import pytest
from fastapi import HTTPException

from ainode.node.console.csv_rows import csv_blocks
from ainode.node.console.days import Days, days, last_days
from ainode.node.console.models import live_figures
from ainode.node.console.models.compare import choices, table
from ainode.node.keeping.answer_search import REFUSED
from ainode.node.keeping.intervals import wilson
from ainode.node.keeping.statistics import AnswerCount, Sample
from ainode.node.routes import Route, RouteMode

VIENNA = ZoneInfo("Europe/Vienna")
MARCH = Days(date(2026, 3, 1), date(2026, 3, 31))
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)


def a_sample(*answers: tuple[datetime, float | None, str]) -> Sample:
    return Sample(
        [at.timestamp() for at, _, _ in answers],
        [probability for _, probability, _ in answers],
        [2.0] * len(answers),
        [presence for _, _, presence in answers],
        [probability is not None for _, probability, _ in answers],
    )


def description(svg: str) -> str:
    return fromstring(svg).findtext("{http://www.w3.org/2000/svg}desc") or ""  # noqa: S314 - our own


def test_a_study_counts_on_the_day_that_it_was_where_the_node_stands() -> None:
    # 23:30 in Vienna, before and after the night in which the clocks change
    late = (datetime(2026, 3, 28, 22, 30, tzinfo=UTC), datetime(2026, 3, 29, 21, 30, tzinfo=UTC))
    sample = a_sample(*((at, 0.9, "present") for at in late))
    words = description(live_figures.volume_chart(sample, MARCH, VIENNA))
    assert "2026-03-28: 1; 2026-03-29: 1; 2026-03-30: 0" in words


def test_a_day_without_a_verdict_interrupts_the_line_of_positives() -> None:
    days_of_answers = (datetime(2026, 3, day, 12, tzinfo=UTC) for day in (1, 1, 2, 3))
    presences = (("present", 0.9), ("absent", 0.1), ("", None), ("absent", 0.1))
    sample = a_sample(*((at, p, presence) for at, (presence, p) in zip(days_of_answers, presences, strict=True)))
    svg = live_figures.positives_chart(sample, MARCH, VIENNA)
    assert "positive: 2 points, from 0.5 to 0" in description(svg)


@pytest.mark.parametrize(("count", "length"), [(30, 1), (60, 1), (61, 7), (365, 7), (1000, 30), (20_000, 20_000)])
def test_a_long_period_has_longer_parts_which_cover_each_day_once(count: int, length: int) -> None:
    period = last_days(count, date(2026, 3, 31))
    parts = period.buckets(60)
    assert len(parts) <= 60
    assert parts[0].count == min(length, count)
    assert sum(part.count for part in parts) == count
    assert (parts[0].since, parts[-1].until) == (period.since, period.until)
    assert all(after.since == part.until + timedelta(days=1) for part, after in pairwise(parts))


def test_what_an_address_leaves_out_is_of_the_default() -> None:
    assert days("", "", MARCH) == MARCH
    assert days("2026-03-05", "", MARCH) == Days(date(2026, 3, 5), MARCH.until)
    assert MARCH.before(28) == Days(date(2026, 2, 1), date(2026, 2, 28))
    with pytest.raises(HTTPException, match="ends before it begins"):
        days("2026-04-01", "", MARCH)


def test_refusals_are_counted_by_code_as_a_share_of_all_answers() -> None:
    counts = [
        AnswerCount("", "", "", "too-small", 3, NOW, NOW),
        AnswerCount("1", "a", "present", "", 4, NOW, NOW),
        AnswerCount("1", "a", "absent", "", 8, NOW - timedelta(1), NOW),
        AnswerCount("", "", "", "no-image", 5, NOW, NOW),
    ]
    assert [(row.code, row.count, row.share) for row in live_figures.refusals(tuple(counts), 0)] == [
        ("no-image", 5, 0.25),
        ("too-small", 3, 0.15),
    ]
    (kind,) = live_figures.by_weights(tuple(counts))
    assert (kind.answers, kind.positives, kind.first_at) == (12, 4, NOW - timedelta(1))


def test_a_95th_percentile_needs_twenty_readings_and_no_refusal_is_one() -> None:
    few = live_figures.durations(a_sample(*[(NOW, 0.5, "absent")] * 19, *[(NOW, None, "")] * 9))
    many = live_figures.durations(a_sample(*[(NOW, 0.5, "absent")] * 20))
    assert few is not None
    assert many is not None
    assert (few.n, few.median, few.p95) == (19, 2.0, None)
    assert many.p95 == 2.0
    assert live_figures.durations(a_sample((NOW, None, ""))) is None


def test_the_words_on_drift_say_how_many_scores_are_missing() -> None:
    assert live_figures.drift_words(None, 3, 500)[0].startswith("too few scores to compare: 3 in this period, 500")


def test_answers_of_two_routes_stand_in_rows_and_columns_refusals_included() -> None:
    kinds = {("present", "present"): 1, ("present", "absent"): 1, (REFUSED, REFUSED): 1, ("absent", REFUSED): 1}
    rows = dict(table(kinds))
    assert (rows["present"], rows["absent"], rows["declined"]) == ((1, 0, 1, 0, 0), (0, 0, 0, 0, 1), (0, 0, 0, 0, 1))


def test_a_live_route_stands_before_the_shadow() -> None:
    names = [("old", RouteMode.LIVE), ("next", RouteMode.SHADOW), ("chest", RouteMode.LIVE)]
    routes = tuple(Route(name=name, handler="x", mode=mode) for name, mode in names)
    assert choices(routes) == (("old", "next"), ("chest", "next"))


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 7), (400, 1000)])
def test_the_interval_of_a_proportion_is_that_of_scipy(hits: int, n: int) -> None:
    from scipy.stats import binomtest

    judged = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((hits / n, judged.low, judged.high))
    assert math.isnan(wilson(0, 0)[0])


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", "\n=1"])
def test_a_cell_that_a_spreadsheet_would_run_begins_with_an_apostrophe(cell: str) -> None:
    (row,) = list(csv.reader(io.StringIO("".join(csv_blocks(("a",), [[cell]])), newline="")))[1:]
    assert row == [f"'{cell}"]


@pytest.mark.parametrize("cell", ["a;=1+1", "a\t@SUM(1)", "a\n=1", 'a; "=1', "\uff1d1+1"])
def test_a_part_of_a_cell_that_some_spreadsheet_would_run_begins_with_an_apostrophe(cell: str) -> None:
    (row,) = list(csv.reader(io.StringIO("".join(csv_blocks(("a",), [[cell]])), newline="")))[1:]
    assert row != [cell]
    assert row[0].replace("'", "") == cell


def test_numbers_and_plain_texts_of_a_csv_stay_as_they_are_and_come_in_blocks() -> None:
    def rows() -> Iterator[Sequence[object]]:
        yield from ([-0.5, 'a "quoted", text - 5; none', None] for _ in range(5_000))

    blocks = list(csv_blocks(("a", "b", "c"), rows()))
    read = list(csv.reader(io.StringIO("".join(blocks), newline="")))
    assert 1 < len(blocks) < 10
    assert read[1] == ["-0.5", 'a "quoted", text - 5; none', ""]
    assert len(read) == 5_001
