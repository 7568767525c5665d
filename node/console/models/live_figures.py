"""What a model answered lately, as charts and sentences; pure functions of the samples."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import compress, pairwise
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from ainode.node.console.days import Days
from ainode.node.console.figures import charts
from ainode.node.console.figures.charts import MAX_BARS, Axis, Bar, Curve, Estimate, unit_axis
from ainode.node.console.figures.distribution import bin_edges, quantile, shares
from ainode.node.console.models.drift import FEWEST, Drift
from ainode.node.domain import Presence
from ainode.node.keeping.agreement import Agreement
from ainode.node.keeping.intervals import wilson
from ainode.node.keeping.statistics import AnswerCount, Sample

_BINS: Final = 20
_ENOUGH_FOR_P95: Final = 20
_MOST_MONTHS: Final = 6


@dataclass(frozen=True, slots=True)
class Durations:
    """How long readings took. Units: seconds."""

    n: int
    median: float
    p95: float | None
    """None where the readings are too few to tell"""


@dataclass(frozen=True, slots=True)
class WeightsCount:
    """The answers of one version with one set of weights."""

    version: str
    weights_sha256: str
    answers: int
    positives: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Refusals:
    """How often a code was the reason of a refusal."""

    code: str
    count: int
    share: float
    """of all readings that ended: answered, refused or failed"""


def volume_chart(sample: Sample, days: Days, zone: ZoneInfo | None) -> Markup:
    """Return how many studies were answered on each day, or in each of some longer parts of a period."""
    buckets = days.buckets(MAX_BARS)
    counts = _counted(sample.at, buckets, zone)
    bars = [Bar(_name(bucket), float(count)) for bucket, count in zip(buckets, counts, strict=True)]
    return charts.bar_chart("Volume", bars, _bucket_label(buckets), Axis("studies", 0.0))


def positives_chart(sample: Sample, days: Days, zone: ZoneInfo | None) -> Markup:
    """Return the share of positive studies among those with a verdict, over time."""
    buckets = days.buckets(MAX_BARS)
    answers = tuple(zip(sample.at, sample.presences, strict=True))
    positive = _counted([at for at, presence in answers if presence == Presence.PRESENT], buckets, zone)
    judged = _counted([at for at, presence in answers if presence], buckets, zone)
    points = tuple(
        (float(bucket.since.toordinal()), hits / n if n else float("nan"))
        for bucket, hits, n in zip(buckets, positive, judged, strict=True)
    )
    axis = charts.date_axis(_bucket_label(buckets), [bucket.since for bucket in buckets])
    return charts.line_chart(
        "Positives", [Curve("positive", points, is_marked=True)], axis, unit_axis("share positive")
    )


def scores_chart(scores: Sequence[float], reference: Sequence[float]) -> Markup:
    """Return the distribution of the scores, over that of the reference."""
    edges = bin_edges(0, 1, _BINS)
    shown = shares(reference, edges) if reference else ()
    return charts.histogram("Scores", edges, shares(scores, edges), unit_axis("probability"), reference=shown)


def agreement_chart(figures: tuple[Agreement, ...]) -> Markup | None:
    """Return how often persons agreed, by month, with intervals; None where nobody judged."""
    months = sorted({figure.month for figure in figures})
    counts = [[(item.agreed, item.readings) for item in figures if item.month == month] for month in months]
    estimates = [
        Estimate(month, *wilson(sum(agreed for agreed, _ in pairs), sum(n for _, n in pairs)), x=float(number))
        for number, (month, pairs) in enumerate(zip(months, counts, strict=True))
    ]
    every = max(1, -(-len(months) // _MOST_MONTHS))
    ticks = tuple((float(number), month) for number, month in enumerate(months) if number % every == 0)
    axes = Axis("month", -0.5, len(months) - 0.5, ticks), unit_axis("share of readings")
    return charts.interval_chart("Agreement of persons", estimates, *axes) if months else None


def _counted(times: Sequence[float], buckets: tuple[Days, ...], zone: ZoneInfo | None) -> list[int]:
    """Return how many of the ascending times are in each bucket."""
    periods = [bucket.period(zone) for bucket in buckets]
    edges = [*(period.since for period in periods), periods[-1].until]
    return [upper - lower for lower, upper in pairwise(bisect_left(times, edge.timestamp()) for edge in edges)]


def _name(bucket: Days) -> str:
    return bucket.since.isoformat()


def _bucket_label(buckets: tuple[Days, ...]) -> str:
    length = buckets[0].count
    return {1: "day", 7: "week, by its first day"}.get(length, f"{length} days, by the first")


def durations(sample: Sample) -> Durations | None:
    """Return median and 95th percentile of the reading time; None without a reading."""
    seconds = sorted(compress(sample.seconds, sample.is_read))
    if not seconds:
        return None
    p95 = quantile(seconds, 0.95) if len(seconds) >= _ENOUGH_FOR_P95 else None
    return Durations(len(seconds), quantile(seconds, 0.5), p95)


def course(counts: tuple[AnswerCount, ...], failures: int) -> tuple[tuple[str, str], ...]:
    """Return how many readings were answered, declined and failed, each with its share of all that ended."""
    declined = sum(count.answers for count in counts if count.code)
    answered = sum(count.answers for count in counts) - declined
    total = answered + declined + failures
    numbers = (("Answered", answered), ("Declined", declined), ("Failed", failures))
    return tuple((name, f"{number} of {total} ({100 * number / total:.0f} %)") for name, number in numbers if total)


def refusals(counts: tuple[AnswerCount, ...], failures: int) -> tuple[Refusals, ...]:
    """Return the refusals by code, the most frequent first."""
    total = sum(count.answers for count in counts) + failures
    by_code: dict[str, int] = {}
    for count in counts:
        if count.code:
            by_code[count.code] = by_code.get(count.code, 0) + count.answers
    ordered = sorted(by_code.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Refusals(code, number, number / total) for code, number in ordered)


def by_weights(counts: tuple[AnswerCount, ...]) -> tuple[WeightsCount, ...]:
    """Return the answers by version and weights, the newest first."""
    kinds = dict.fromkeys((count.version, count.weights_sha256) for count in counts if not count.code)
    groups = [[c for c in counts if (c.version, c.weights_sha256) == kind and not c.code] for kind in kinds]
    return tuple(
        WeightsCount(
            *kind,
            sum(count.answers for count in group),
            sum(count.answers for count in group if count.presence == Presence.PRESENT),
            min(count.first_at for count in group),
            max(count.last_at for count in group),
        )
        for kind, group in zip(kinds, groups, strict=True)
    )


def drift_words(drift: Drift | None, scores: int, reference: int) -> tuple[str, str]:
    """Return what the tests say in words, and the color of a badge."""
    if drift is None:
        words = f"too few scores to compare: {scores} in this period, {reference} in the reference; {FEWEST} are needed"
        return words, "plain"
    return {
        "none": ("no change that chance does not explain", "plain"),
        "look": ("the scores have changed; look at what arrives", "warn"),
        "act": ("the scores have changed much; find out why before you trust the model further", "bad"),
    }[drift.level]
