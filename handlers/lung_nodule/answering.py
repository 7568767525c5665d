"""The answer on a selection: nodules traced over the dates, judged, and said in the node's words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path

from ainode.handlers import algorithm as algorithm_of
from ainode.handlers import loaded, threshold_texts
from ainode.handlers.lung_nodule.findings import Nodule, Origin, course
from ainode.handlers.lung_nodule.outlines import segmented
from ainode.handlers.lung_nodule.places import TracedNodule
from ainode.handlers.lung_nodule.references import continued, evidence, key_images
from ainode.handlers.lung_nodule.searching import (
    Search,
    is_candidate,
    is_evaluated,
    no_candidate,
    searched,
    traced_search,
)
from ainode.handlers.lung_nodule.selecting import TITLE, candidate_name, nodule_name
from ainode.handlers.lung_nodule.statements import by_nodule, parameters, position_text
from ainode.handlers.lung_nodule.tracing import Tracing, trace
from ainode.models.errors import UnusablePicture
from ainode.models.lung_nodule.card import Card
from ainode.models.lung_nodule.model import LungNoduleModel, Prediction
from ainode.models.nodule_detection.card import read_card as read_detection_card
from ainode.models.nodule_detection.model import NoduleDetector
from ainode.models.nodule_malignancy.card import read_card as read_traits_card
from ainode.models.nodule_outline.model import OutlineModel
from ainode.models.nodule_reading.reading import NoduleReader
from ainode.models.nodule_reading.search import traits_model
from ainode.models.nodule_reading.weights import DETECTION, OUTLINE, TRAITS
from ainode.node.domain import Algorithm, Code, OutOfScope, Result, Selection, probability_text
from ainode.node.reading.weights import ModelEnvironment

_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")


@dataclass(frozen=True)
class Answering:
    """The loaded networks of the route, and what the route says by them.

    `paths` are the verified files of the networks of malignancy, `weights` the names of all weights of the route.
    """

    environment: ModelEnvironment
    card: Card
    paths: Mapping[str, Path]
    weights: tuple[str, ...]

    @cached_property
    def model(self) -> LungNoduleModel:
        """Return the networks of malignancy."""
        return loaded(LungNoduleModel.load, self.paths, name=self.card.name, environment=self.environment)

    @cached_property
    def reader(self) -> NoduleReader:
        """Return the outlines, and the network that judges a single scan."""
        path = self.environment.weights.verified(OUTLINE)
        outlines = loaded(OutlineModel.load, path, name=OUTLINE, environment=self.environment)
        paths = {TRAITS: self.environment.weights.verified(TRAITS)} if TRAITS in self.weights else {}
        return NoduleReader(outlines, self.model.single_scan_reader, traits_model(paths, outlines))

    @cached_property
    def detector(self) -> NoduleDetector | OutOfScope:
        """Return what searches for nodules, or why nothing is searched."""
        if DETECTION not in self.weights:
            command = "`ainode train nodule_detection` makes them, `ainode weights import` adds them"
            return OutOfScope(f"not searched for nodules: no weights of nodule_detection here; {command}", "not-ready")
        paths = {read_detection_card().network: self.environment.weights.verified(DETECTION)}
        return loaded(NoduleDetector.load, paths, name=DETECTION, environment=self.environment)

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return a finding with probability, attention, size and growth for every nodule, and its saliency."""
        outline = self.reader.nodule_at
        tracing = trace(selection, outline) if selection.locations else Tracing((), 0.0)
        search = self._search(selection) if selection.wanted_candidates else None
        if isinstance(search, Search):
            tracing = traced_search(search, selection, tracing, outline)
        if isinstance(search, OutOfScope) and not tracing.nodules:
            return search
        return self._answered(selection, tracing, search)

    def _search(self, selection: Selection) -> Search | OutOfScope:
        """Return what the search marked in the current study, or why nothing is searched."""
        detector = self.detector
        return detector if isinstance(detector, OutOfScope) else searched(selection, detector, self.reader)

    def _answered(
        self, selection: Selection, tracing: Tracing, search: Search | OutOfScope | None
    ) -> Result | OutOfScope:
        """Return the answer on every nodule that was traced."""
        refusals: dict[str, OutOfScope] = {}
        nodules: list[Nodule] = []
        origins = self._origins(tracing, search)
        numbers = (number for number in count(1) if nodule_name(number) not in selection.declined)
        for number, traced_nodule, origin in zip(numbers, tracing.nodules, origins, strict=False):
            name = candidate_name(number) if origin.is_candidate else nodule_name(number)
            answer = self._answer(name, traced_nodule, origin)
            if isinstance(answer, OutOfScope):
                refusals[name] = answer
            else:
                nodules.append(answer)
        if nodules:
            outlines = segmented({nodule.name: nodule.place for nodule in nodules}, self.reader.outlines.card.threshold)
            nodules = [nodule.beside(outlines.owners) for nodule in nodules]
            result = self._result(
                selection, nodules, self._algorithm(nodules, {**refusals, **selection.declined}, search)
            )
            seconds = {"register": tracing.register_s} if tracing.register_s else {}
            return replace(result, segmented=outlines.segmented, seconds=seconds)
        return no_candidate(search, refusals) if isinstance(search, Search) else next(iter(refusals.values()))

    def _origins(self, tracing: Tracing, search: Search | OutOfScope | None) -> list[Origin]:
        """Return who marked each nodule."""
        marks = search.locations(()) if isinstance(search, Search) else {}
        sureness = {location: mark.probability for location, mark in marks.items()}
        is_measured = DETECTION in self.weights and is_evaluated(self.environment.weights)
        return [
            Origin(
                is_candidate=True,
                sureness=sureness.get(nodule.current.location),
                is_evaluated=is_measured,
            )
            if isinstance(nodule, TracedNodule) and is_candidate(nodule)
            else Origin()
            for nodule in tracing.nodules
        ]

    def _answer(self, name: str, traced_nodule: TracedNodule | OutOfScope, origin: Origin) -> Nodule | OutOfScope:
        """Return what the model says of a nodule, or why it says nothing."""
        if isinstance(traced_nodule, OutOfScope):
            return traced_nodule
        place, scans = traced_nodule.current, [place.scan for place in traced_nodule.places]
        try:
            current_alone = self.reader.prediction(traced_nodule.outlined, place.grid, place.slices_below)
            prediction = current_alone if len(scans) == 1 else self.model.predict(scans)
        except UnusablePicture as error:
            return OutOfScope(f"{name}: {error}", "unusable-pixels", (place.key_slice,))
        density = self.reader.density(traced_nodule.outlined)
        return Nodule(name, traced_nodule, prediction, current_alone, origin, density)

    def _algorithm(
        self, nodules: Sequence[Nodule], refusals: Mapping[str, OutOfScope], search: Search | OutOfScope | None
    ) -> Algorithm:
        card, is_searched = self.card, any(nodule.origin.is_candidate for nodule in nodules)
        # The outline decides whether there is a nodule, and what is said of its size.
        searching = {DETECTION} if is_searched else set()
        weights_names = {OUTLINE, *searching, *(self._weights_of(nodule.prediction) for nodule in nodules)}
        places = [place for nodule in nodules for place in nodule.trace.places]
        parameters_by_name = {
            **threshold_texts(card.threshold, card.band),
            "profile": by_nodule({nodule.name: nodule.prediction.profile for nodule in nodules}),
            "time points": by_nodule({nodule.name: str(len(nodule.trace.places)) for nodule in nodules}),
            "current scan alone": by_nodule(
                {nodule.name: self._current_alone_text(nodule.current_alone) for nodule in nodules}
            ),
            "position from": ", ".join(sorted({place.location.source for place in places})),
            "marked at": by_nodule({nodule.name: position_text(nodule.place.location) for nodule in nodules}),
            **parameters(nodules, refusals),
            **({"search": search.text if isinstance(search, Search) else search.reason} if search else {}),
            "precision": f"{self.model.precision} on {self.model.device}",
        }
        described = algorithm_of(
            card, self.environment.weights, weights=self.weights, parameters=parameters_by_name, decisive=weights_names
        )
        is_by_traits = any(nodule.current_alone.profile == "traits" for nodule in nodules)
        limits = (
            *(read_detection_card().limits.known_limits if is_searched else ()),
            *(read_traits_card().limits.known_limits if is_by_traits else ()),
        )
        return replace(described, known_limits=(*described.known_limits, *limits))

    def _weights_of(self, prediction: Prediction) -> str:
        """Return the name of the weights that a prediction is by."""
        return TRAITS if prediction.profile == "traits" else f"{self.card.name}/{prediction.profile}"

    def _current_alone_text(self, prediction: Prediction) -> str:
        """Return the probability of the current scan alone, and what its weights may be trusted for."""
        status = self.environment.weights.status({self._weights_of(prediction)})
        return f"{probability_text(prediction.probability, 4)}, {prediction.profile}, {status} weights"

    def _result(self, selection: Selection, nodules: Sequence[Nodule], algorithm: Algorithm) -> Result:
        scores = {"probability": max(nodule.prediction.probability for nodule in nodules)}
        for nodule in nodules:
            scores |= nodule.scores()
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=algorithm,
            title=TITLE,
            procedure=_PROCEDURE,
            findings=tuple(nodule.finding(self.card) for nodule in nodules),
            captures=tuple(nodule.capture(self.card) for nodule in nodules),
            evidence=evidence(selection, nodules),
            key_images=key_images(nodules),
            scores=scores,
            continues=continued(selection, nodules),
            course=course(nodules),
        )
