"""How likely is this lung nodule malignant? One to three CTs; someone else says where the nodule is in one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from ainode.handlers import algorithm, loaded, threshold_texts
from ainode.handlers.lung_nodule.selecting import TITLE, nodule_name, selected
from ainode.models.errors import UnusablePicture
from ainode.models.lung_nodule.card import read_card
from ainode.models.nodule_reading.weights import OUTLINE
from ainode.node.domain import (
    Algorithm,
    Code,
    OutOfScope,
    Result,
    Selection,
    Study,
    SyntheticStudy,
)
from ainode.node.imaging.ct_look import looks
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.handlers.lung_nodule.findings import Nodule
    from ainode.handlers.lung_nodule.places import TracedNodule
    from ainode.models.benchmarking import Table
    from ainode.models.lung_nodule.model import LungNoduleModel, Prediction
    from ainode.models.nodule_reading.reading import NoduleReader

PACKAGES = ("cv2", "openvino", "safetensors", "scipy", "timm", "torch")
"""what reading needs beside the node's own packages"""
TIME_POINTS = 3
"""as many studies of a patient are read together: the current one and its newest priors"""

_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
_SITE = "fmcib"


class LungNodule:
    """The handler: loads its networks at the first study it reads."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment
        self._card = read_card()

    def _profiles(self) -> tuple[str, ...]:
        """Return the files' names: the original's where the site has named them, else those that ship."""
        names = {entry.name for entry in self._environment.weights.entries()}
        if f"{self._card.name}/{_SITE}" in names:
            return (_SITE, f"{_SITE}_recurrent", f"{_SITE}_linear")
        return tuple(self._card.files)

    def weights(self) -> tuple[str, ...]:
        """Return the names of every network's weights, that of the outline last."""
        return (*(f"{self._card.name}/{profile}" for profile in self._profiles()), OUTLINE)

    def paths(self) -> dict[str, Path]:
        """Return the verified file of each network by its name in the card."""
        store = self._environment.weights
        return {profile: store.verified(f"{self._card.name}/{profile}") for profile in self._profiles()}

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the CTs of the study and its priors, and the positions in them, by their headers."""
        return selected(study, time_points=TIME_POINTS)

    def look(self, selection: Selection) -> Selection | OutOfScope:
        """Return the selection if the values of every CT in it are Hounsfield units, and a CT shows lungs."""
        seen = tuple(looks(selection))
        unit_refusals = [refusal for look in seen if (refusal := look.unit_refusal)]
        chest_refusals = [look.chest_refusal for look in seen]
        if unit_refusals:
            return unit_refusals[0]
        return next(filter(None, chest_refusals), selection) if all(chest_refusals) else selection

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return a finding with probability, attention, size and growth for every position, and its saliency."""
        from ainode.handlers.lung_nodule.tracing import trace  # noqa: PLC0415 - brings the networks' libraries along

        tracing = trace(selection, self._reader.outlines.outline)
        names = (name for name in map(nodule_name, count(1)) if name not in selection.declined)
        answers = {name: self._answer(name, answer) for name, answer in zip(names, tracing.nodules, strict=False)}
        refusals = {name: answer for name, answer in answers.items() if isinstance(answer, OutOfScope)}
        nodules = [answer for answer in answers.values() if not isinstance(answer, OutOfScope)]
        if not nodules:
            return next(iter(refusals.values()))
        result = self._result(selection, nodules, {**refusals, **selection.declined})
        return replace(result, seconds={"register": tracing.register_s} if tracing.register_s else {})

    def _answer(self, name: str, traced_nodule: "TracedNodule | OutOfScope") -> "Nodule | OutOfScope":
        """Return what the model says of a nodule, or why it says nothing."""
        from ainode.handlers.lung_nodule.findings import Nodule  # noqa: PLC0415

        if isinstance(traced_nodule, OutOfScope):
            return traced_nodule
        place, scans = traced_nodule.current, [place.scan for place in traced_nodule.places]
        try:
            current_alone = self._reader.prediction(traced_nodule.outlined, place.grid, place.slices_below)
            prediction = current_alone if len(scans) == 1 else self._model.predict(scans)
        except UnusablePicture as error:
            return OutOfScope(f"{name}: {error}", "unusable-pixels", (place.key_slice,))
        return Nodule.of(name, traced_nodule, prediction, current_alone)

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic chest CT around one nodule, and where the nodule is."""
        from ainode.handlers.lung_nodule.demonstration import synthetic_study  # noqa: PLC0415

        return synthetic_study(seed)

    @cached_property
    def _model(self) -> "LungNoduleModel":
        from ainode.models.lung_nodule.model import LungNoduleModel  # noqa: PLC0415

        return loaded(LungNoduleModel.load, self.paths(), name=self._card.name, environment=self._environment)

    @cached_property
    def _reader(self) -> "NoduleReader":
        from ainode.models.nodule_outline.model import OutlineModel  # noqa: PLC0415
        from ainode.models.nodule_reading.reading import NoduleReader  # noqa: PLC0415

        path = self._environment.weights.verified(OUTLINE)
        outlines = loaded(OutlineModel.load, path, name=OUTLINE, environment=self._environment)
        return NoduleReader(outlines, self._model.single_scan_reader)

    def _algorithm(self, nodules: Sequence["Nodule"], refusals: Mapping[str, OutOfScope]) -> Algorithm:
        from ainode.handlers.lung_nodule.statements import by_nodule, parameters  # noqa: PLC0415

        card = self._card
        # The outline decides whether there is a nodule, and what is said of its size.
        weights_names = {OUTLINE, *(f"{card.name}/{nodule.prediction.profile}" for nodule in nodules)}
        places = [place for nodule in nodules for place in nodule.trace.places]
        parameters_by_name = {
            **threshold_texts(card.threshold, card.band),
            "profile": by_nodule({nodule.name: nodule.prediction.profile for nodule in nodules}),
            "time points": by_nodule({nodule.name: str(len(nodule.trace.places)) for nodule in nodules}),
            "current scan alone": by_nodule(
                {nodule.name: self._current_alone_text(nodule.current_alone) for nodule in nodules}
            ),
            "position from": ", ".join(sorted({place.location.source for place in places})),
            **parameters(nodules, refusals),
            "precision": f"{self._model.precision} on {self._model.device}",
        }
        return algorithm(
            card,
            self._environment.weights,
            weights=self.weights(),
            parameters=parameters_by_name,
            decisive=weights_names,
        )

    def _current_alone_text(self, prediction: "Prediction") -> str:
        """Return the probability of the current scan alone, and what its weights may be trusted for."""
        status = self._environment.weights.status({f"{self._card.name}/{prediction.profile}"})
        return f"{prediction.probability:.2%}, {prediction.profile}, {status} weights"

    def _result(self, selection: Selection, nodules: Sequence["Nodule"], refusals: Mapping[str, OutOfScope]) -> Result:
        from ainode.handlers.lung_nodule.findings import course  # noqa: PLC0415
        from ainode.handlers.lung_nodule.outlines import segmented  # noqa: PLC0415
        from ainode.handlers.lung_nodule.references import continued, evidence, key_images  # noqa: PLC0415

        scores = {"probability": max(nodule.prediction.probability for nodule in nodules)}
        for nodule in nodules:
            scores |= nodule.scores()
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm(nodules, refusals),
            title=TITLE,
            procedure=_PROCEDURE,
            findings=tuple(nodule.finding(self._card) for nodule in nodules),
            captures=tuple(nodule.capture(self._card) for nodule in nodules),
            evidence=evidence(selection, nodules),
            key_images=key_images(nodules),
            scores=scores,
            continues=continued(selection, nodules),
            course=course(nodules),
            segmented=segmented(
                {nodule.name: nodule.place for nodule in nodules}, self._reader.outlines.card.threshold
            ),
        )


def build(environment: ModelEnvironment) -> LungNodule:
    """Return the handler."""
    return LungNodule(environment)


def benchmark(environment: ModelEnvironment, *, full_size: bool, runs: int) -> "Table":
    """Return head and rows of how long a whole reading and a search for nodules take, ours beside eager PyTorch."""
    from ainode.models.benchmarking import Table  # noqa: PLC0415
    from ainode.models.lung_nodule.benchmark import HEAD, benchmark_rows  # noqa: PLC0415
    from ainode.models.nodule_detection import card as detection_card  # noqa: PLC0415
    from ainode.models.nodule_detection.benchmark import search_rows  # noqa: PLC0415

    rows = benchmark_rows(LungNodule(environment).paths(), cache=environment.cache, full_size=full_size, runs=runs)
    detector = detection_card.read_card()
    paths = {detector.network: environment.weights.verified(f"{detector.name}/{detector.network}")}
    return Table(HEAD, [*rows, *search_rows(paths, cache=environment.cache, runs=runs)])


def registering() -> tuple[float, ...]:
    """Return the seconds of registering two CTs of full size, one for each run."""
    from ainode.models.following.benchmark import registration_seconds  # noqa: PLC0415

    return registration_seconds()
