"""A shadow route beside a live route on the same studies: how often they differ, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from ainode.node.console.days import days, last_days, today_of, zone_of
from ainode.node.console.figures import charts
from ainode.node.console.figures.charts import Axis
from ainode.node.console.figures.distribution import bin_edges, shares
from ainode.node.console.figures.intervals import wilson
from ainode.node.console.models.page import Visit
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.keeping.answer_search import REFUSED, UNDECIDED
from ainode.node.keeping.statistics import Pair, Pairs, Reply, Statistics
from ainode.node.routes import Route, RouteMode

_DAYS: Final = 90
_SHOWN: Final = 100
_BINS: Final = 20
ANSWERS: Final = {
    "present": "present",
    "indeterminate": "indeterminate",
    "absent": "absent",
    UNDECIDED: "no verdict",
    REFUSED: "declined",
}
"""answers as the database has them, in words"""
_Route = Annotated[str, Query(max_length=64)]
_Day = Annotated[str, Query(max_length=10)]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers of two routes on the same studies."""

    n: int
    agreement: tuple[float, float, float]
    """the share of studies with the same answer, and its interval"""
    table: tuple[tuple[str, tuple[int, ...]], ...]
    """an answer of the first route, with the counts of the answers of the second"""
    mean_difference: float | None
    """of the probabilities, second less first; None where no study has both"""
    largest: float | None
    differences: Markup
    disagreements: tuple[Pair, ...]
    """the newest, a hundred at most"""
    disagreement_count: int


def answer(reply: Reply) -> str:
    """Return what a route answered in words."""
    return f"declined ({reply.code})" if reply.code else ANSWERS.get(reply.presence, "no verdict")


def comparison(pairs: Pairs) -> Comparison:
    """Return how two routes compare over the studies that both answered."""
    n = sum(pairs.counts.values())
    same = sum(count for (first, second), count in pairs.counts.items() if first == second)
    gaps = pairs.gaps
    return Comparison(
        n=n,
        agreement=wilson(same, n),
        table=tuple(
            (words, tuple(pairs.counts.get((first, second), 0) for second in ANSWERS))
            for first, words in ANSWERS.items()
        ),
        mean_difference=fmean(gaps) if gaps else None,
        largest=max(gaps, key=abs) if gaps else None,
        differences=_chart(gaps) if gaps else Markup(),
        disagreements=pairs.different,
        disagreement_count=n - same,
    )


def _chart(gaps: Sequence[float]) -> Markup:
    edges = bin_edges(-1, 1, _BINS)
    ticks = tuple((tick / 2, f"{tick / 2:+.1f}") for tick in range(-2, 3))
    axis = Axis("probability of the second less that of the first", -1.0, 1.0, ticks)
    return charts.histogram("Differences", edges, shares(gaps, edges), axis)


def choices(routes: tuple[Route, ...]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of routes to compare, a live route before a shadow."""
    ordered = sorted(routes, key=lambda route: route.mode is RouteMode.SHADOW)
    return tuple(
        (first.name, second.name)
        for first, second in combinations(ordered, 2)
        if RouteMode.SHADOW in {first.mode, second.mode}
    )


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    routes, statistics = APIRouter(), Statistics(parts.engine)
    zone = zone_of(parts.settings)
    pairs_to_choose = choices(parts.settings.routes)

    @routes.get("/compare")
    def compare(  # one parameter for each field of the address
        request: Request, _: Visit, first: _Route = "", second: _Route = "", since: _Day = "", until: _Day = ""
    ) -> Response:
        """Return the comparison of two routes."""
        period = days(since, until, last_days(_DAYS, today_of(zone)))
        if not (first and second) and pairs_to_choose:
            first, second = pairs_to_choose[0]
        pairs = statistics.pairs((first, second), period.period(zone), most=_SHOWN)
        return render(
            request,
            "compare.html",
            first=first,
            second=second,
            names=[route.name for route in parts.settings.routes],
            period=period,
            answers=tuple(ANSWERS.values()),
            answer=answer,
            comparison=comparison(pairs),
            has_shadow=bool(pairs_to_choose),
        )

    return routes
