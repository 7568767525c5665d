"""How two routes compare on the same studies: agreement, probabilities, refusals, time. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from statistics import median, quantiles
from typing import Final

from ainode.node.domain import counted
from ainode.node.keeping.answer_search import REFUSED, UNDECIDED
from ainode.node.keeping.intervals import kappa, median_interval, wilson
from ainode.node.keeping.paired_answers import Opinion, PairedAnswer, PairedAnswers, RouteAnswer

Estimate = tuple[float, float, float]
"""a value with the ends of its 95 % interval"""
ENOUGH: Final = 20
"""studies that both routes read: with fewer, the interval of a full agreement still reaches below 84 %"""
_NO_VERDICT: Final = frozenset({REFUSED, UNDECIDED})
_FORTIETHS: Final = 40
_SIDES: Final = (attrgetter("first"), attrgetter("second"))


@dataclass(frozen=True, slots=True)
class RouteFigures:
    """One of two routes that are compared. Units: seconds."""

    name: str
    versions: tuple[str, ...]
    """name and version of each model that answered, the newest first"""
    refused_alone: int
    """studies that this route refused and the other read"""
    failures: int
    settings: Mapping[str, tuple[str, ...]]
    """precisions and thresholds that the answers state, by name"""
    seconds: float | None
    """median over the studies that both routes read"""
    seconds_interval: tuple[float, float] | None
    """None of less than six studies"""


@dataclass(frozen=True, slots=True)
class QuestionFigures:
    """How two routes agree on one of several questions."""

    question: str
    judged: int
    """studies on which either has a verdict: where the other has none, the verdicts differ"""
    agreement: Estimate
    kappa: Estimate | None
    median_gap: float | None
    """of the probability of the second route less that of the first"""


@dataclass(frozen=True, slots=True)
class RouteComparison:
    """Two routes on the studies that both answered."""

    routes: tuple[RouteFigures, RouteFigures]
    studies: int
    read: int
    """by both"""
    refused: int
    """by both"""
    synthetic: int
    """left out"""
    older: int
    """left out: read before a route's model or precision last changed"""
    kinds: Mapping[tuple[str, str], int]
    """how often the first route gave one answer and the second another: a presence, `refused` or `none`

    Of several questions the strongest verdict counts here.
    """
    agreement: Estimate
    """the share of studies with the same answer to every question"""
    judged: int
    """studies on which both have a verdict"""
    kappa: Estimate | None
    """Cohen's, of the verdicts; None where one answer is all that either route gave, and of several questions"""
    gaps: Sequence[float]
    """probability of the second route less that of the first, on each study that has both; none of several questions"""
    different: tuple[PairedAnswer, ...]
    questions: tuple[QuestionFigures, ...] = ()
    """where the routes answer several; a question that one route never answers is in `asked_by_one`"""
    asked_by_one: tuple[str, ...] = ()

    @property
    def median_gap(self) -> float | None:
        """Return the median of the differences of probability, None without any."""
        return median(self.gaps) if self.gaps else None

    @property
    def gap_limits(self) -> tuple[float, float] | None:
        """Return between which differences 95 % of the studies lie; of few studies, the least and the greatest."""
        if not self.gaps:
            return None
        if len(self.gaps) < _FORTIETHS:
            return min(self.gaps), max(self.gaps)
        steps = quantiles(self.gaps, n=_FORTIETHS, method="inclusive")
        return steps[0], steps[-1]

    @property
    def gap_studies(self) -> str:
        """Return of which studies `gap_limits` speaks, in words."""
        count = counted(len(self.gaps), "study", "studies")
        return count if len(self.gaps) < _FORTIETHS else f"95 % of {count}"

    @property
    def different_settings(self) -> tuple[str, ...]:
        """Return what both routes state and state differently, a sentence each: part of the differences is by this."""
        first, second = self.routes
        return tuple(
            f"{name}: {first.name} {' or '.join(first.settings[name])}, {second.name} "
            f"{' or '.join(second.settings[name])}"
            for name in sorted(first.settings.keys() & second.settings.keys())
            if first.settings[name] != second.settings[name]
        )

    @property
    def shortage(self) -> str:
        """Return why the comparison is too small to decide by; '' if it is not."""
        if self.read >= ENOUGH:
            return ""
        left_out = f"; {self.synthetic} synthetic ones do not count" if self.synthetic else ""
        older = f"; {self.older} from before a route's model or precision changed do not count" if self.older else ""
        return f"both routes read {self.read} of the same studies, and {ENOUGH} are needed{left_out}{older}"


def compared(answers: PairedAnswers) -> RouteComparison:
    """Return the figures of two routes."""
    names = [{name for pair in answers.pairs for name in side(pair).stated.opinions} for side in _SIDES]
    common = names[0] & names[1]
    pairs = tuple(_of_questions(pair, common) for pair in answers.pairs)
    kinds = Counter((pair.first.kind, pair.second.kind) for pair in pairs)
    read = [pair for pair in pairs if _is_read(pair)]
    verdicts = {pair: count for pair, count in kinds.items() if _NO_VERDICT.isdisjoint(pair)}
    is_of_several = len(names[0] | names[1]) > 1
    return RouteComparison(
        routes=(_figures(answers, 0, read), _figures(answers, 1, read)),
        studies=len(pairs),
        read=len(read),
        refused=kinds[REFUSED, REFUSED],
        synthetic=answers.synthetic,
        older=answers.older,
        kinds=kinds,
        agreement=wilson(sum(pair.is_same for pair in pairs), len(pairs)),
        judged=sum(verdicts.values()),
        kappa=None if is_of_several else kappa(verdicts),
        gaps=() if is_of_several else _gaps((pair.first, pair.second) for pair in pairs),
        different=tuple(pair for pair in pairs if not pair.is_same),
        questions=tuple(_question(name, read) for name in sorted(common)) if is_of_several else (),
        asked_by_one=tuple(sorted(names[0] ^ names[1])),
    )


def _is_read(pair: PairedAnswer) -> bool:
    """Return whether both routes read a study."""
    return not pair.first.code and not pair.second.code


def _of_questions(pair: PairedAnswer, questions: Iterable[str]) -> PairedAnswer:
    """Return a pair in which either route has an opinion on each question, if only that it said nothing."""
    if not _is_read(pair):
        return pair
    silent = dict.fromkeys(questions, Opinion("", None))
    first, second = (
        replace(answer, stated=replace(answer.stated, opinions={**silent, **answer.stated.opinions}))
        for answer in (pair.first, pair.second)
    )
    return replace(pair, first=first, second=second)


def _question(question: str, read: Sequence[PairedAnswer]) -> QuestionFigures:
    sides = [(pair.first.stated.opinions[question], pair.second.stated.opinions[question]) for pair in read]
    pairs = [(first, second) for first, second in sides if first.presence or second.presence]
    verdicts = Counter((first.presence, second.presence) for first, second in pairs)
    same = sum(count for (first, second), count in verdicts.items() if first == second)
    gaps = _gaps(pairs)
    return QuestionFigures(
        question, len(pairs), wilson(same, len(pairs)), kappa(verdicts), median(gaps) if gaps else None
    )


def _gaps(pairs: Iterable[tuple[RouteAnswer, RouteAnswer] | tuple[Opinion, Opinion]]) -> tuple[float, ...]:
    """Return the probability of the second less that of the first, of the pairs that have both."""
    return tuple(
        second.probability - first.probability
        for first, second in pairs
        if first.probability is not None and second.probability is not None
    )


def _figures(answers: PairedAnswers, side: int, read: Sequence[PairedAnswer]) -> RouteFigures:
    def of(pair: PairedAnswer) -> tuple[RouteAnswer, RouteAnswer]:
        return (pair.second, pair.first) if side else (pair.first, pair.second)

    own = [of(pair) for pair in answers.pairs]
    seconds = [of(pair)[0].seconds for pair in read]
    interval = median_interval(seconds)
    return RouteFigures(
        name=answers.routes[side],
        versions=tuple(dict.fromkeys(f"{answer.model} {answer.version}" for answer, _ in own if answer.model)),
        refused_alone=sum(bool(answer.code) and not other.code for answer, other in own),
        failures=answers.failures[side],
        settings=_settings(answer for answer, _ in own),
        seconds=median(seconds) if seconds else None,
        seconds_interval=interval[1:] if interval else None,
    )


def _settings(answers: Iterator[RouteAnswer]) -> Mapping[str, tuple[str, ...]]:
    texts: dict[str, set[str]] = {}
    for answer in answers:
        for name, text in answer.stated.settings.items():
            texts.setdefault(name, set()).add(text)
    return {name: tuple(sorted(values)) for name, values in texts.items()}
