"""How likely is this lung nodule malignant? One to three CTs; someone else, or a search, says where the nodule is."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ainode.handlers.lung_nodule.selecting import selected
from ainode.models.lung_nodule.card import read_card
from ainode.models.nodule_reading.weights import DETECTION, OUTLINE, TRAITS
from ainode.node.domain import OutOfScope, Result, Selection, Study, SyntheticStudy
from ainode.node.imaging.ct_look import looks
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.handlers.lung_nodule.answering import Answering
    from ainode.models.benchmarking import Table

PACKAGES = ("cv2", "openvino", "safetensors", "scipy", "timm", "torch")
"""what reading needs beside the node's own packages"""
TIME_POINTS = 3
"""as many studies of a patient are read together: the current one and its newest priors"""

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
        """Return the names of all weights, those of a search and of the judge of outlines only where they are here."""
        names = {entry.name for entry in self._environment.weights.entries()}
        optional = (name for name in (DETECTION, TRAITS) if name in names)
        return (*(f"{self._card.name}/{profile}" for profile in self._profiles()), OUTLINE, *optional)

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
        """Return a finding with probability, attention, size and growth for every nodule, and its saliency."""
        return self._answering.read(selection)

    def prepare(self) -> tuple[object, ...]:
        """Return the loaded networks."""
        return (self._answering.reader, self._answering.detector)

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic chest CT around one nodule, and where the nodule is."""
        from ainode.handlers.lung_nodule.demonstration import synthetic_study  # noqa: PLC0415

        return synthetic_study(seed)

    @cached_property
    def _answering(self) -> "Answering":
        from ainode.handlers.lung_nodule.answering import Answering  # noqa: PLC0415 - brings the networks along

        return Answering(self._environment, self._card, self.paths(), self.weights())


def build(environment: ModelEnvironment) -> LungNodule:
    """Return the handler."""
    return LungNodule(environment)


def benchmark(environment: ModelEnvironment, *, full_size: bool, runs: int) -> "Table":
    """Return head and rows of how long a reading, an outline and a search take, ours beside eager PyTorch."""
    from ainode.models.benchmarking import Table  # noqa: PLC0415
    from ainode.models.lung_nodule.benchmark import HEAD, benchmark_rows  # noqa: PLC0415
    from ainode.models.nodule_detection import card as detection_card  # noqa: PLC0415
    from ainode.models.nodule_detection.benchmark import search_rows  # noqa: PLC0415
    from ainode.models.nodule_outline.benchmark import outline_rows  # noqa: PLC0415

    rows = benchmark_rows(LungNodule(environment).paths(), cache=environment.cache, full_size=full_size, runs=runs)
    detector = detection_card.read_card()
    paths = {detector.network: environment.weights.verified(f"{detector.name}/{detector.network}")}
    rows += outline_rows(environment.weights.verified(OUTLINE), cache=environment.cache, runs=runs)
    return Table(HEAD, [*rows, *search_rows(paths, cache=environment.cache, runs=runs)])


def registering() -> tuple[float, ...]:
    """Return the seconds of registering two CTs of full size, one for each run."""
    from ainode.models.following.benchmark import registration_seconds  # noqa: PLC0415

    return registration_seconds()
