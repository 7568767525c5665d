"""Models: what each is and is not for, how it did on its test, and what it answers here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Path, Request, Response

from ainode.node.console.days import Days, last_days, midnight, today_of, zone_of
from ainode.node.console.entry.access import Viewer
from ainode.node.console.judgements.page import share
from ainode.node.console.models.evaluation_figures import EvaluationFigures, evaluation_figures
from ainode.node.console.models.measures import TestFigure, figure_of
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.domain import counted
from ainode.node.errors import WeightsError
from ainode.node.keeping.agreement import Agreement, agreements
from ainode.node.keeping.judgements import Judgements
from ainode.node.keeping.statistics import HandlerCount, Statistics
from ainode.node.reading.cards import Card, card, evaluation_command
from ainode.node.reading.weights import WeightsEntry, environment

RECENT_DAYS: Final = 30
_EVER_DAYS: Final = 3_650
STATUS: Final = {"demonstration": "warn", "research": "sent", "site": "plain"}
"""how far weights may be trusted, and the color of the badge"""
# A count in the pattern itself would take 19 MB: one copy of all letters of Unicode for each place.
Name = Annotated[str, Path(pattern=r"^[\w.-]+$", max_length=200)]


@dataclass(frozen=True, slots=True)
class Use:
    """The weights of several models, with which a handler answers."""

    handler: str
    model: str
    """whose name the answers bear"""
    models: tuple[str, ...]
    """whose weights the handler reads with"""
    digest: str
    """over the weights, as in the answers"""


@dataclass(frozen=True, slots=True)
class Course:
    """What a handler did over the last days."""

    handler: str
    words: str
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """A model in the list of all."""

    name: str
    card: Card
    statuses: tuple[str, ...]
    """of the weights that the node serves"""
    tests: tuple[TestFigure, ...]
    routes: tuple[str, ...]
    reads_with: tuple[str, ...]
    """other models, whose weights make a part of its answers"""
    serves: tuple[str, ...]
    """other models, of whose answers its weights make a part"""
    counts: tuple[Course, ...]
    agreement: str
    """of persons with the model this month"""
    metrics: str = ""
    """what the manifests say of tests of its weights"""
    untold_handler: str = ""
    """a handler by whose name the list knows it, since no answer and no weights of it name a model yet"""

    @property
    def is_used(self) -> bool:
        """Return whether a route names it, or it answered or had a part in answers."""
        return bool(self.routes or self.serves or self.counts)


@dataclass(frozen=True, slots=True)
class _Survey:
    """What is known of all models together."""

    entries: Sequence[WeightsEntry]
    counts: Sequence[HandlerCount]
    own_models: Mapping[str, str]
    judged: Sequence[Agreement]
    """of this month"""
    uses: Sequence[Use]

    def model_of(self, handler: str) -> str:
        """Return the model of a handler."""
        return model_of(handler, self.counts, self.own_models)


class Models:
    """Answers what the pages ask about models."""

    def __init__(self, parts: Parts) -> None:
        self._settings, self._readers = parts.settings, parts.readers
        self._site = parts.settings.data / "weights"
        self._statistics, self._judgements = Statistics(parts.engine), Judgements(parts.engine)

    def weights(self) -> tuple[tuple[WeightsEntry, ...], str]:
        """Return the entries of the manifests, or none and what is wrong with a manifest."""
        try:
            return environment(self._settings).weights.entries(), ""
        except WeightsError as error:
            return (), str(error)

    def overview(self, entries: Sequence[WeightsEntry], recent: Days) -> tuple[Overview, ...]:
        """Return every model that has weights, a route or an answer."""
        counts = self._statistics.handlers(recent.period(zone_of(self._settings)))
        own_models = self.own_models(entries)
        zone = zone_of(self._settings)
        month = recent.until.replace(day=1)
        judged = agreements(self._judgements.current(midnight(month, zone)), zone)
        survey = _Survey(
            entries,
            counts,
            own_models,
            [item for item in judged if item.month == f"{month:%Y-%m}"],
            self.uses(entries, counts),
        )
        names = {entry.model for entry in entries}
        names |= {survey.model_of(route.handler) for route in self._settings.routes}
        names |= {count.model or survey.model_of(count.handler) for count in counts}
        return tuple(self._model(name, survey) for name in sorted(filter(None, names)))

    def own_models(self, entries: Sequence[WeightsEntry]) -> Mapping[str, str]:
        """Return the models of handlers that are not named as a model, by the first weights that they have told of.

        `spine_angles` reads with `spine_vertebrae`: before its first answer its weights alone say so.
        """
        model_of_weights = {entry.name: entry.model for entry in entries}
        named = {*model_of_weights.values()}
        models = {}
        for handler in {route.handler for route in self._settings.routes}:
            name = model_of(handler, ())
            if name in named or not self.card(name).problem:
                continue
            weights = self._readers.known_weights(handler)
            models[handler] = next((model_of_weights.get(each, "") for each in weights.names), "") if weights else ""
        return models

    def uses(self, entries: Sequence[WeightsEntry], counts: Sequence[HandlerCount]) -> tuple[Use, ...]:
        """Return the weights with which each handler of a route answers, as far as the handlers have told."""
        model_of_weights = {entry.name: entry.model for entry in entries}
        handlers = sorted({route.handler for route in self._settings.routes})
        own_models = self.own_models(entries)
        answering = {handler: weights for handler in handlers if (weights := self._readers.known_weights(handler))}
        return tuple(
            Use(
                handler,
                model_of(handler, counts, own_models),
                tuple(dict.fromkeys(model_of_weights.get(name, "") for name in weights.names)),
                weights.digest,
            )
            for handler, weights in answering.items()
        )

    def _model(self, name: str, survey: _Survey) -> Overview:
        own = card(name, self._site)
        own_month = [item for item in survey.judged if survey.model_of(item.handler) == name]
        entries = [entry for entry in survey.entries if entry.model == name]
        counts = [count for count in survey.counts if survey.model_of(count.handler) == name]
        routes = [route for route in self._settings.routes if survey.model_of(route.handler) == name]
        untold = next((route.handler for route in routes if not survey.own_models.get(route.handler, name)), "")
        return Overview(
            name=name,
            card=own,
            statuses=tuple(dict.fromkeys(entry.status.value for entry in entries)),
            tests=tuple(test for file in own.evaluations if (test := figure_of(file))),
            routes=tuple(route.name for route in routes),
            reads_with=tuple(
                model for use in survey.uses if use.model == name for model in use.models if model != name
            ),
            serves=tuple(use.model for use in survey.uses if name in use.models and use.model != name),
            counts=tuple(Course(count.handler, count_words(count), count.last_at) for count in counts),
            agreement=_agreement_words(own_month),
            metrics="; ".join(dict.fromkeys(entry.metrics for entry in entries if entry.metrics)),
            untold_handler="" if counts or entries else untold,
        )

    def handlers(self, name: str, recent: Days) -> tuple[str, ...]:
        """Return the handlers that answer with a model, the one with the most answers first."""
        counts = self._statistics.handlers(recent.period(zone_of(self._settings)))
        own_models = self.own_models(self.weights()[0])
        by_answers = sorted(counts, key=lambda count: -count.answers)
        handlers = [*(count.handler for count in by_answers), *(route.handler for route in self._settings.routes)]
        own = (handler for handler in handlers if model_of(handler, counts, own_models) == name)
        return tuple(dict.fromkeys(own)) or (name,)

    def card(self, name: str) -> Card:
        """Return the card of a model."""
        return card(name, self._site)


def count_words(count: HandlerCount) -> str:
    """Return how the readings of a handler ended, each share with what it is a share of."""
    of_studies = {"answered": count.answers, "declined": count.refusals, "failed": count.failures}
    parts = [f"{number} {word} ({_percent(number, count.studies)})" for word, number in of_studies.items()]
    if count.answers:
        parts.append(f"{count.positives} positive ({_percent(count.positives, count.answers)} answered)")
    if count.made_up:
        parts.append(f"{count.made_up} of made-up studies, as self-tests send them")
    return f"{counted(count.studies, 'reading')} ended: {', '.join(parts)}"


def _percent(number: int, total: int) -> str:
    return f"{100 * number / total:.0f} % of {total}"


def model_of(handler: str, counts: Iterable[HandlerCount], own_models: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the model of a handler: what it named in its answers, else what `own_models` has, else its own name."""
    named = (count.model for count in counts if count.handler == handler and count.model)
    return next(named, own_models.get(handler) or handler.rpartition(".")[2])


def router(parts: Parts) -> APIRouter:
    """Return the routes of the pages."""
    routes, models = APIRouter(), Models(parts)
    zone = zone_of(parts.settings)

    @routes.get("/models")
    def overview(request: Request, _: Viewer) -> Response:
        entries, problem = models.weights()
        recent = last_days(RECENT_DAYS, today_of(zone))
        rows = models.overview(entries, recent)
        return render(request, "models.html", models=rows, problem=problem, recent=recent, colors=STATUS)

    @routes.get("/models/{name}")
    def model(request: Request, name: Name, _: Viewer) -> Response:
        entries, problem = models.weights()
        own = [entry for entry in entries if entry.model == name]
        model_card = models.card(name)
        if not own and model_card.problem and models.handlers(name, last_days(_EVER_DAYS, today_of(zone))) == (name,):
            raise HTTPException(404, f"no weights, card or answer of a model {name!r}; see the list of models")
        folder = parts.settings.data / "weights" / "cards" / name
        return render(
            request,
            "model.html",
            name=name,
            card=model_card,
            weights=own,
            uses=[use for use in models.uses(entries, ()) if name in (use.model, *use.models)],
            evaluations=_evaluations(model_card, own),
            beaten=[
                f"test {test.name}: shortcuts that know no anatomy reach AUC {test.shortcut} beside {test.auc}"
                for file in model_card.evaluations
                if (test := figure_of(file)) and test.is_beaten
            ],
            problem=problem,
            colors=STATUS,
            folder=folder,
            evaluation_command=evaluation_command(name),
        )

    return routes


def _evaluations(model_card: Card, entries: Sequence[WeightsEntry]) -> tuple[EvaluationFigures, ...]:
    digests = {entry.name: entry.sha256 for entry in entries}
    return tuple(evaluation_figures(file, digests) for file in model_card.evaluations)


def _agreement_words(figures: Sequence[Agreement]) -> str:
    """Return how often persons agreed, and how many of the studies were made up."""
    words = share(sum(item.agreed for item in figures), sum(item.readings for item in figures))
    synthetic = sum(item.synthetic for item in figures)
    return f"{words}, {synthetic} synthetic" if synthetic else words
