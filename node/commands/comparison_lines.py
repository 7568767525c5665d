"""What `ainode compare` prints: two routes on the studies that both answered."""

from collections.abc import Iterator, Mapping
from typing import Final

from ainode.node.domain import counted, probability_text
from ainode.node.keeping.paired_answers import Opinion, PairedAnswer, RouteAnswer
from ainode.node.keeping.route_comparison import Estimate, RouteComparison, RouteFigures
from ainode.node.routes import RouteMode
from ainode.node.terminal import table

_MOST_SHOWN: Final = 50
_DIGITS: Final = 4


def comparison_lines(comparison: RouteComparison, modes: Mapping[str, RouteMode]) -> Iterator[str]:
    """Yield the lines of a comparison; no line has a patient attribute. `modes` are those of the routes by name."""
    first, second = comparison.routes
    named = {name: f"{name} ({modes.get(name, 'gone')})" for name in (first.name, second.name)}
    left_out = f"; {comparison.synthetic} synthetic left out" if comparison.synthetic else ""
    count = counted(comparison.studies, "study", "studies")
    before = "from before a route's model or precision last changed"
    older = f"; {comparison.older} {before} left out" if comparison.older else ""
    yield f"{named[first.name]} and {named[second.name]}: {count} that both answered{left_out}{older}"
    if not comparison.studies:
        return
    for route in comparison.routes:
        yield f"{named[route.name]}: {', '.join(route.versions) or 'refused every study'}"
    for difference in comparison.different_settings:
        yield f"set differently: {difference}"
    different = len(comparison.different)
    yield f"same answer: {_percentages(comparison.agreement)}, {different} {'differs' if different == 1 else 'differ'}"
    if not comparison.questions:
        yield f"Cohen's kappa: {_kappa(comparison.kappa)} over {counted(comparison.judged, 'verdict')}"
    for figures in comparison.questions:
        gap = "" if figures.median_gap is None else f", median difference of probability {figures.median_gap:+.3f}"
        yield (
            f"{figures.question}: same verdict on {_percentages(figures.agreement)} of "
            f"{counted(figures.judged, 'study', 'studies')}, Cohen's kappa {_kappa(figures.kappa)}{gap}"
        )
    if comparison.asked_by_one:
        yield f"answered by one route alone, and not compared: {', '.join(comparison.asked_by_one)}"
    if (limits := comparison.gap_limits) and comparison.median_gap is not None:
        yield (
            f"probability of {second.name} minus that of {first.name}: median {comparison.median_gap:+.3f}, "
            f"from {limits[0]:+.3f} to {limits[1]:+.3f} on {comparison.gap_studies}"
        )
    alone = ", ".join(f"by {route.name} alone {route.refused_alone}" for route in comparison.routes)
    yield f"refused: by both {comparison.refused}, {alone}"
    yield "failed since: " + ", ".join(f"{route.name} {route.failures}" for route in comparison.routes)
    yield f"seconds on what both read: {', '.join(map(_seconds, comparison.routes))}"
    yield from _different_lines(comparison, named)


def _different_lines(comparison: RouteComparison, named: Mapping[str, str]) -> Iterator[str]:
    if not comparison.different:
        return
    shown = comparison.different[:_MOST_SHOWN]
    rows = [(pair.study_instance_uid, *_answers(pair)) for pair in shown]
    yield ""
    yield table(("study", *(named[route.name] for route in comparison.routes)), rows)
    if len(comparison.different) > len(shown):
        yield f"the newest {len(shown)} of {len(comparison.different)}; the console's page /console/compare has more"


def _percentages(estimate: Estimate) -> str:
    share, low, high = (100 * number for number in estimate)
    return f"{share:.1f} % ({low:.1f} to {high:.1f} %)"


def _kappa(estimate: Estimate | None) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*estimate) if estimate else "none (both routes gave one answer alone)"


def _seconds(route: RouteFigures) -> str:
    if route.seconds is None:
        return f"{route.name} none"
    interval = " ({:.1f} to {:.1f})".format(*route.seconds_interval) if route.seconds_interval else ""
    return f"{route.name} {route.seconds:.1f}{interval}"


def _answers(pair: PairedAnswer) -> tuple[str, str]:
    """Return what both routes answered: to the questions on which they differ, else in all."""
    if not pair.different_questions:
        return _answer(pair.first), _answer(pair.second)
    first, second = (
        ", ".join(f"{question}: {_words(stated.opinions[question])}" for question in pair.different_questions)
        for stated in (pair.first.stated, pair.second.stated)
    )
    return first, second


def _answer(answer: RouteAnswer) -> str:
    if answer.code:
        return f"refused ({answer.code})"
    return _words(answer)


def _words(opinion: RouteAnswer | Opinion) -> str:
    probability = "" if opinion.probability is None else f" {probability_text(opinion.probability, _DIGITS)}"
    return f"{opinion.presence or 'no verdict'}{probability}"
