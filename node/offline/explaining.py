"""Why files would be read, or would not: what each route decides, and what the handlers of the chosen routes say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ainode.node.deciding import router
from ainode.node.domain import UID, Looking, OutOfScope, Selection, Study
from ainode.node.errors import BrokenSeries, ConfigError
from ainode.node.imaging import ct_look
from ainode.node.offline.inputs import UnreadFile, dicom_studies
from ainode.node.reading import pipeline, registry
from ainode.node.reading.boundary import boundary
from ainode.node.reading.weights import ModelEnvironment, environment
from ainode.node.routes import Route, RouteDecision
from ainode.node.settings import Settings

PIXELS: Final = ct_look.PIXELS


@dataclass(frozen=True, slots=True)
class Statement:
    """What the handler of a route that matches says about a study."""

    handler: str
    sentence: str
    is_reading: bool
    """whether the handler would read the study"""
    looks: tuple[str, ...] = ()
    """what the handler sees in the pixels of each CT"""
    are_looks_refused: bool = False


@dataclass(frozen=True, slots=True)
class StudyExplanation:
    """What becomes of one study."""

    study_instance_uid: UID
    instance_count: int
    decisions: tuple[RouteDecision, ...]
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of files."""

    studies: tuple[StudyExplanation, ...]
    unread: tuple[UnreadFile, ...]


def explanation_of(paths: Sequence[Path], settings: Settings) -> Explanation:
    """Return which series of files and folders each route chooses, and whether its handler reads them.

    Raises: ConfigError if a handler raises an error of another type than NodeError.
    """
    studies, unread = dicom_studies(paths, settings)
    models = environment(settings)
    return Explanation(tuple(_study_explanation(study, settings, models) for study in studies), unread)


def _study_explanation(study: Study, settings: Settings, models: ModelEnvironment) -> StudyExplanation:
    decisions = router.decide(study, settings.routes)
    statements = tuple(_statements(study, settings.routes, models))
    return StudyExplanation(study.study_instance_uid, len(study.instances), decisions, statements)


def _statements(study: Study, routes: Iterable[Route], models: ModelEnvironment) -> Iterable[Statement]:
    for route in routes:
        chosen = router.chosen(study, route)
        if chosen.series:
            yield _statement(chosen, route, models)


def _statement(chosen: Study, route: Route, models: ModelEnvironment) -> Statement:
    """Return what the handler of a route says of the images that the route chose.

    Raises: ConfigError if the handler raises an error of another type than NodeError.
    """
    handler = registry.handler(route.handler, models)
    with boundary(route.handler, f"in select() of study {chosen.study_instance_uid}", ConfigError):
        try:
            answer, selection = pipeline.selection_of(chosen, handler), handler.select(chosen)
            looks: tuple[str, ...] = ()
            if isinstance(selection, Selection) and isinstance(handler, Looking):
                looks = tuple(map(str, ct_look.looks(selection)))
        except BrokenSeries as error:
            return Statement(route.handler, f"cannot read it: {error}", is_reading=False)
    if isinstance(answer, OutOfScope):
        is_refused = answer.code in ct_look.CODES
        return Statement(
            route.handler, f"declines: {answer.reason}", is_reading=False, looks=looks, are_looks_refused=is_refused
        )
    return Statement(route.handler, "reads it", is_reading=True, looks=looks)
