"""How likely is this lung nodule malignant? One to three CTs; someone else says where the nodule is in one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from ainode.handlers import loaded
from ainode.handlers.lung_nodule.selecting import TITLE, nodule, selected
from ainode.models.errors import UnusablePicture
from ainode.models.lung_nodule.card import read_card
from ainode.node.domain import (
    Algorithm,
    Code,
    OutOfScope,
    Result,
    Selection,
    Study,
    SyntheticStudy,
)
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.handlers.lung_nodule.findings import Nodule
    from ainode.handlers.lung_nodule.places import Traced
    from ainode.models.benchmarking import Table
    from ainode.models.lung_nodule.model import LungNoduleModel, Prediction

PACKAGES = ("openvino", "safetensors", "scipy", "timm", "torch")
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
        known = {entry.name for entry in self._environment.weights.entries()}
        if f"{self._card.name}/{_SITE}" in known:
            return (_SITE, f"{_SITE}_recurrent", f"{_SITE}_linear")
        return tuple(self._card.files)

    def weights(self) -> tuple[str, ...]:
        """Return the names of every network's weights."""
        return tuple(f"{self._card.name}/{profile}" for profile in self._profiles())

    def paths(self) -> dict[str, Path]:
        """Return the verified file of each network by its name in the card."""
        store = self._environment.weights
        return {one: store.verified(f"{self._card.name}/{one}") for one in self._profiles()}

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the CTs of the study and its priors, and the positions in them, by their headers."""
        return selected(study, time_points=TIME_POINTS)

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return a finding with probability, attention, size and growth for every position, and its saliency."""
        from ainode.handlers.lung_nodule.tracing import traced  # noqa: PLC0415 - brings the networks' libraries along

        tracing = traced(selection)
        names = (name for name in map(nodule, count(1)) if name not in selection.declined)
        answers = {name: self._answer(name, one) for name, one in zip(names, tracing.nodules, strict=False)}
        not_read = {name: one for name, one in answers.items() if isinstance(one, OutOfScope)}
        nodules = [one for one in answers.values() if not isinstance(one, OutOfScope)]
        if not nodules:
            return next(iter(not_read.values()))
        result = self._result(selection, nodules, {**not_read, **selection.declined})
        return replace(result, seconds={"register": tracing.register_s} if tracing.register_s else {})

    def _answer(self, name: str, traced: "Traced | OutOfScope") -> "Nodule | OutOfScope":
        """Return what the model says of a nodule, or why it says nothing."""
        from ainode.handlers.lung_nodule.findings import Nodule  # noqa: PLC0415

        if isinstance(traced, OutOfScope):
            return traced
        scans = [place.scan for place in traced.places]
        try:
            alone = self._model.predict(scans[-1:])
            made = alone if len(scans) == 1 else self._model.predict(scans)
        except UnusablePicture as error:
            return OutOfScope(f"{name}: {error}", "unusable-pixels", (traced.current.key,))
        return Nodule(name, traced, made, alone)

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic chest CT around one nodule, and where the nodule is."""
        from ainode.handlers.lung_nodule.demonstration import made_up  # noqa: PLC0415

        return made_up(seed)

    @cached_property
    def _model(self) -> "LungNoduleModel":
        from ainode.models.lung_nodule.model import LungNoduleModel  # noqa: PLC0415

        return loaded(LungNoduleModel.load, self.paths(), name=self._card.name, environment=self._environment)

    def _algorithm(self, nodules: Sequence["Nodule"], not_read: Mapping[str, OutOfScope]) -> Algorithm:
        from ainode.handlers.lung_nodule.findings import each, parameters  # noqa: PLC0415

        card, store = self._card, self._environment.weights
        used = {f"{card.name}/{one.made.profile}" for one in nodules}
        places = [place for one in nodules for place in one.traced.places]
        said = {
            "threshold": f"{card.threshold:g}, for the word only",
            "profile": each({one.name: one.made.profile for one in nodules}),
            "time points": each({one.name: str(len(one.traced.places)) for one in nodules}),
            "current scan alone": each({one.name: self._alone(one.alone) for one in nodules}),
            "position from": ", ".join(sorted({place.location.source for place in places})),
            **parameters(nodules, not_read),
            "precision": f"{self._model.precision} on {self._model.device}",
        }
        status = store.status(used)
        return Algorithm(card.name, card.version, store.digest(self.weights()), status, tuple(said.items()))

    def _alone(self, made: "Prediction") -> str:
        """Return the probability of the current scan alone, and what its weights may be trusted for."""
        status = self._environment.weights.status({f"{self._card.name}/{made.profile}"})
        return f"{made.probability:.2%}, {made.profile}, {status} weights"

    def _result(self, selection: Selection, nodules: Sequence["Nodule"], not_read: Mapping[str, OutOfScope]) -> Result:
        from ainode.handlers.lung_nodule.findings import continued, evidence, key_images  # noqa: PLC0415

        scores = {"probability": max(one.made.probability for one in nodules)}
        for one in nodules:
            scores |= one.scores()
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm(nodules, not_read),
            title=TITLE,
            procedure=_PROCEDURE,
            findings=tuple(one.finding() for one in nodules),
            captures=tuple(one.capture(self._card) for one in nodules),
            evidence=evidence(selection, nodules),
            key_images=key_images(nodules),
            scores=scores,
            continues=continued(selection, nodules),
        )


def build(environment: ModelEnvironment) -> LungNodule:
    """Return the handler."""
    return LungNodule(environment)


def benchmark(environment: ModelEnvironment, *, full_size: bool, runs: int) -> "Table":
    """Return head and rows of how long a whole reading takes, ours beside eager PyTorch."""
    from ainode.models.lung_nodule.benchmark import HEAD, measured  # noqa: PLC0415

    rows = measured(LungNodule(environment).paths(), cache=environment.cache, full_size=full_size, runs=runs)
    return HEAD, rows


def registering() -> tuple[float, ...]:
    """Return the seconds of registering two CTs of full size, one for each run."""
    from ainode.models.following.benchmark import registering as timed  # noqa: PLC0415

    return timed()
