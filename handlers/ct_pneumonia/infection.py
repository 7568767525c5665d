"""Which share of each lung is infected, where a site has the weights: findings, a picture, outlines for a SEG."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ainode.handlers import (
    ABNORMAL_STRUCTURE,
    ANATOMICAL_STRUCTURE,
    LUNG,
    SIDES,
    label_map,
    loaded,
    percent,
    saliency,
    voxels_under,
)
from ainode.models.errors import UnusablePicture
from ainode.models.lung_infection.card import read_card
from ainode.node.domain import (
    Capture,
    Code,
    Finding,
    InstanceRef,
    LabelMap,
    Segment,
    Segmented,
)
from ainode.node.imaging.ct_parts import CtPart
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.lung_infection.model import InfectionModel, Prediction
    from ainode.models.lung_infection.sides import Shares

PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
_SHARE = Code("infected-share", "99AINODE", "Infected share of lung")
_SEGMENTS = (
    Segment("lung, not infected", ANATOMICAL_STRUCTURE, LUNG),
    Segment("infection", ABNORMAL_STRUCTURE, PNEUMONIA),
)
_FREE, _INFECTED = 1, 2
_NO_WEIGHTS = "not measured: no weights of lung_infection here; `ainode train lung_infection` makes them"


class InfectionReader:
    """Outlines the infection of a chest, if the site has the weights; loads its network at the first chest."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment
        self._card = read_card()

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """Return the name of the network's weights, nothing where no manifest names them."""
        entries = self._environment.weights.entries()
        return tuple(entry.name for entry in entries if entry.name == self._card.weights)

    def prepare(self) -> tuple[object, ...]:
        """Return the loaded network, nothing where the site has no weights."""
        return (self._model,) if self.weights else ()

    def read(self, chest: CtPart) -> "Infection | str":
        """Return the infection of a chest, or why it was not measured."""
        if not self.weights:
            return _NO_WEIGHTS
        pixel_mm = max(chest.volume.spacing_mm[1:])
        if pixel_mm > self._card.max_pixel_mm:
            return f"not measured: pixels of {pixel_mm:.1f} mm; read are {self._card.max_pixel_mm:g} mm at most"
        try:
            prediction = self._model.predict(chest.volume.values, chest.volume.spacing_mm[0])
        except UnusablePicture as error:
            return f"not measured: {error}"
        return Infection(chest, prediction, self._card.decision.infection)

    @cached_property
    def _model(self) -> "InfectionModel":
        from ainode.models.lung_infection.model import InfectionModel  # noqa: PLC0415

        path = self._environment.weights.verified(self._card.weights)
        return loaded(InfectionModel.load, path, name=self._card.name, environment=self._environment)


@dataclass(frozen=True)
class Infection:
    """The infection of a chest in the node's words, on the slices' own pixels."""

    chest: CtPart
    prediction: "Prediction"
    threshold: float

    def __str__(self) -> str:
        """Return what was read, for a report."""
        count, whole = len(self.prediction.numbers), len(self.chest.slices.instances)
        return f"outlined on {count} of {whole} slices, threshold {self.threshold:g}"

    @property
    def caption(self) -> str:
        """Return the share of each lung in words."""
        return "Infected: " + ", ".join(f"{name} {100 * share:.1f} %" for name, _, share in self._sides())

    def scores(self) -> dict[str, float]:
        """Return the share of each lung and of both in percent, by name."""
        both = self._shares.both or 0.0
        sides = {f"infected share of the {name} in percent": 100 * share for name, _, share in self._sides()}
        return {**sides, "infected share of both lungs in percent": 100 * both}

    def findings(self) -> tuple[Finding, ...]:
        """Return a finding for each lung that was outlined: its infected share in percent."""
        images = (self.instance(self.worst),)
        return tuple(
            Finding(
                f"infection of the {name}",
                PNEUMONIA,
                LUNG,
                (percent(_SHARE, share, images),),
                images,
                laterality=side,
                label=f"{name} {100 * share:.1f} %",
            )
            for name, side, share in self._sides()
        )

    def captures(self, subject: Finding) -> tuple[Capture, ...]:
        """Return a picture of the slice with the most infection; none where nothing is infected."""
        infected = self._labels(self.worst) == _INFECTED
        if not infected.any():
            return ()
        number = self._number(self.worst)
        return (
            Capture(
                image=self.instance(self.worst),
                title=f"Infection, slice {self.chest.number(number)} of {self.chest.whole_count}",
                captions=(self.caption, "Lines: the outlined infection"),
                saliency=saliency(infected.astype(np.float32)),
                subject=subject,
            ),
        )

    def segmented(self) -> Segmented:
        """Return lung and infection on the pixels of the slices that were read."""
        return Segmented("LUNG_INFECTION", _SEGMENTS, tuple(self._maps()), self._distance_mm)

    @property
    def _distance_mm(self) -> float | None:
        """Return the distance between slices that were read, which may be every second one; None of a single slice."""
        first, *others = self.prediction.numbers
        return (others[0] - first) * self.chest.volume.spacing_mm[0] if others else None

    @property
    def worst(self) -> int:
        """Return the place, among the slices that were read, of the slice with the most infection."""
        return int(self.prediction.infected.sum(axis=(1, 2)).argmax())

    def instance(self, order: int) -> InstanceRef:
        """Return the instance of a slice that was read."""
        return self.chest.slices.instances[self._number(order)].ref

    @cached_property
    def _shares(self) -> "Shares":
        return self.prediction.shares()

    def _sides(self) -> Iterator[tuple[str, Code, float]]:
        for side, share in (("right", self._shares.right), ("left", self._shares.left)):
            if share is not None:
                yield f"{side} lung", SIDES[side], share

    def _maps(self) -> Iterator[LabelMap]:
        for order in range(len(self.prediction.numbers)):
            yield label_map(self.instance(order), self._labels(order))

    def _labels(self, order: int) -> NDArray[np.uint8]:
        """Return the labels on the pixels of a slice that was read, (rows, columns)."""
        prediction = self.prediction
        labels = np.where(prediction.lung_on(order), _FREE, 0).astype(np.uint8)
        labels[prediction.infected_on(order)] = _INFECTED
        _, row, column = np.rint(voxels_under(self.chest.slices, self._number(order), self.chest.volume)).astype(int)
        return np.ascontiguousarray(labels[row, column])

    def _number(self, order: int) -> int:
        """Return the number in the stack of a slice that was read; the volume counts from the feet."""
        place = self.chest.volume.position((self.prediction.numbers[order], 0, 0))
        return round(self.chest.slices.pixel(place)[0])
