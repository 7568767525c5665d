"""A shadow route beside a live route on the same studies: how often they differ, and where."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from ainode.node.console.days import days, last_days, today_of, zone_of
from ainode.node.console.entry.access import Viewer
from ainode.node.console.figures import charts
from ainode.node.console.figures.charts import Axis
from ainode.node.console.figures.distribution import bin_edges, shares
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.domain import counted
from ainode.node.keeping.answer_search import REFUSED, UNDECIDED
from ainode.node.keeping.gone_routes import studies_of_gone_routes
from ainode.node.keeping.paired_answers import RouteAnswer, newest_pairs
from ainode.node.keeping.route_comparison import compared
from ainode.node.routes import Route, RouteMode

_DAYS: Final = 90
_SHOWN: Final = 100
_BINS: Final = 20
_MOST_COMPARED: Final = 1000
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


def answer(reply: RouteAnswer) -> str:
    """Return what a route answered in words."""
    return f"declined ({reply.code})" if reply.code else ANSWERS.get(reply.presence, "no verdict")


def table(kinds: Mapping[tuple[str, str], int]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return each answer of the first route in words, with the counts of the answers of the second."""
    return tuple(
        (words, tuple(kinds.get((first, second), 0) for second in ANSWERS)) for first, words in ANSWERS.items()
    )


def _chart(gaps: Sequence[float]) -> Markup:
    edges = bin_edges(-1, 1, _BINS)
    ticks = tuple((tick / 2, f"{tick / 2:+.1f}") for tick in range(-2, 3))
    axis = Axis("probability of the second minus that of the first", -1.0, 1.0, ticks)
    return charts.histogram("Differences", edges, shares(gaps, edges), axis)


def choices(routes: tuple[Route, ...]) -> tuple[tuple[str, str], ...]:
    """Return the pairs to compare, a live route before a shadow; first the pairs that take the same images."""
    ordered = sorted(routes, key=lambda route: route.mode is RouteMode.SHADOW)
    pairs = [pair for pair in combinations(ordered, 2) if pair[1].mode is RouteMode.SHADOW]
    pairs.sort(key=lambda pair: not pair[0].takes_same_images(pair[1]))
    return tuple((first.name, second.name) for first, second in pairs)


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    routes = APIRouter()
    zone = zone_of(parts.settings)
    pairs_to_choose = choices(parts.settings.routes)

    @routes.get("/compare")
    def compare(  # one parameter for each field of the address
        request: Request, _: Viewer, first: _Route = "", second: _Route = "", since: _Day = "", until: _Day = ""
    ) -> Response:
        """Return the comparison of two routes."""
        period = days(since, until, last_days(_DAYS, today_of(zone)))
        if not (first and second) and pairs_to_choose:
            first, second = pairs_to_choose[0]
        answers = newest_pairs(parts.engine, (first, second), most=_MOST_COMPARED, period=period.period(zone))
        comparison = compared(answers)
        names = [route.name for route in parts.settings.routes]
        gone = studies_of_gone_routes(parts.engine, names, period.period(zone))
        return render(
            request,
            "compare.html",
            first=first,
            second=second,
            names=names,
            gone=gone,
            gone_counts=", ".join(f"{name} {counted(count, 'study', 'studies')}" for name, count in gone.items()),
            period=period,
            answers=tuple(ANSWERS.values()),
            answer=answer,
            comparison=comparison,
            table=table(comparison.kinds),
            differences=_chart(comparison.gaps) if comparison.gaps else "",
            shown=comparison.different[:_SHOWN],
            has_shadow=bool(pairs_to_choose),
            modes={route.name: route.mode.value for route in parts.settings.routes},
        )

    return routes
