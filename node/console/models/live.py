"""What a model answers here: volume, positives, scores against a reference period, refusals, times, weights."""

from datetime import date, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from ainode.node.console.days import Days, days, last_days, midnight, today_of, zone_of
from ainode.node.console.entry.access import Viewer
from ainode.node.console.judgements.page import share
from ainode.node.console.models import live_figures
from ainode.node.console.models.drift import drift
from ainode.node.console.models.page import RECENT_DAYS, Models, Name
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.console.questions import Day, Long
from ainode.node.jobs import memory
from ainode.node.keeping.agreement import Agreement, agreements
from ainode.node.keeping.judgements import Judgements
from ainode.node.keeping.statistics import MOST_ANSWERS, Statistics

_REFERENCE_DAYS: Final = 90
_A_YEAR: Final = timedelta(days=365)


class Question(BaseModel):
    """The periods, the handler and the weights that an address names."""

    since: Day = ""
    until: Day = ""
    reference_since: Day = ""
    reference_until: Day = ""
    handler: Annotated[str, Field(max_length=200)] = ""
    weights: Long = ""

    def periods(self, default: Days) -> tuple[Days, Days]:
        """Return the period and its reference, by default the 90 days before.

        Raises: HTTPException for a date that is none.
        """
        period = days(self.since, self.until, default)
        return period, days(self.reference_since, self.reference_until, period.before(_REFERENCE_DAYS))


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    routes, models, statistics = APIRouter(), Models(parts), Statistics(parts.engine)
    judgements, zone = Judgements(parts.engine), zone_of(parts.settings)

    def judged(handler: str, until: date) -> tuple[Agreement, ...]:
        figures = agreements(judgements.current(midnight(until - _A_YEAR, zone), handler), zone)
        return tuple(item for item in figures if item.month <= f"{until:%Y-%m}")

    @routes.get("/models/{name}/live")
    def live(request: Request, name: Name, _: Viewer, question: Annotated[Question, Query()]) -> Response:
        """Return the figures of a period; what up to 50,000 answers took goes back to the system."""
        try:
            return figures_page(request, name, question)
        finally:
            memory.give_back()

    def figures_page(request: Request, name: str, question: Question) -> Response:
        period, reference = question.periods(last_days(RECENT_DAYS, today_of(zone)))
        handlers = models.handlers(name, period)
        handler = question.handler if question.handler in handlers else handlers[0]
        counts = statistics.counts(handler, period.period(zone))
        failures = statistics.failures(handler, period.period(zone))
        sample = statistics.sample(handler, period.period(zone), question.weights)
        earlier = statistics.scores(handler, reference.period(zone), question.weights)
        agreement = judged(handler, period.until)
        change = drift(sample.scores, earlier)
        return render(
            request,
            "model_live.html",
            name=name,
            handler=handler,
            handlers=handlers,
            weights=question.weights,
            period=period,
            reference=reference,
            sample=sample,
            most=MOST_ANSWERS,
            drift=change,
            drift_words=live_figures.drift_words(change, len(sample.scores), len(earlier)),
            counts=counts,
            course=live_figures.course(counts, failures),
            durations=live_figures.durations(sample),
            refusals=live_figures.refusals(counts, failures),
            figures=agreement,
            share=share,
            kinds=live_figures.by_weights(counts),
            agreement=live_figures.agreement_chart(agreement),
            charts={
                "volume": live_figures.volume_chart(sample, period, zone),
                "positives": live_figures.positives_chart(sample, period, zone),
                "scores": live_figures.scores_chart(sample.scores, earlier),
            },
        )

    return routes
