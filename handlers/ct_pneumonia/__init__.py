"""Does this chest CT show pneumonia? One answer for the whole stack, with the regions it was read from."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ainode.handlers import (
    IMAGING_PROCEDURE,
    LUNG,
    PROBABILITY,
    algorithm,
    body_parts,
    loaded,
    percent,
    saliency,
    threshold_texts,
    verdict_on,
    voxels_under,
)
from ainode.handlers.ct_pneumonia.infection import PNEUMONIA, Infection, InfectionReader
from ainode.models.ct_pneumonia.card import Card, read_card
from ainode.models.ct_pneumonia.preprocess import SHAPE
from ainode.models.errors import UnusablePicture
from ainode.node.domain import (
    UID,
    Algorithm,
    Capture,
    Code,
    Finding,
    Header,
    InstanceRef,
    OutOfScope,
    Position,
    Result,
    Segmented,
    Selection,
    Series,
    Study,
    SyntheticStudy,
    probability_text,
    refs,
)
from ainode.node.domain import Region as ImageRegion
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.ct_look import look_at
from ainode.node.imaging.ct_parts import CtPart, lungs
from ainode.node.imaging.ct_series import CtRequirements, ct_stack
from ainode.node.imaging.geometry import stack, volume
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.benchmarking import Table
    from ainode.models.ct_pneumonia.model import PneumoniaModel, Prediction, Region

PACKAGES = ("cv2", "openvino", "safetensors", "scipy", "torch")
"""what reading needs beside the node's own packages"""

_DEVIATION = Code("deviation-of-draws", "99AINODE", "Standard deviation of probability over draws of noise")
_DEMONSTRATION: Header = {
    "BodyPartExamined": "CHEST",
    "SeriesDescription": "Synthetic chest, lung kernel",
    "ConvolutionKernel": "LUNG",
    "WindowCenter": -600.0,
    "WindowWidth": 1500.0,
}


class CtPneumonia:
    """The handler: loads its networks when it is prepared, else at the first study it reads."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment
        self._card = read_card()
        self._infection = InfectionReader(environment)

    def weights(self) -> tuple[str, ...]:
        """Return the name of the network's weights, and those of the outline of infection where a site has them."""
        return (self._card.weights, *self._infection.weights)

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the slices of the best stack of the chest, by their headers."""
        chests = tuple(series for series in study.series if _may_be_chest(series))
        if study.series and not chests:
            reason = f"the body part is {body_parts(study.series)}; the model reads CHEST"
            return OutOfScope(reason, "wrong-body-part", refs(study.instances[:1]))
        stack_or_refusal = ct_stack(chests, self._requirements())
        if isinstance(stack_or_refusal, OutOfScope):
            return stack_or_refusal
        uid = stack_or_refusal.instances[0].ref.series_instance_uid
        return Selection(study.study_instance_uid, (Series(uid, "CT", stack_or_refusal.instances),))

    def _requirements(self) -> CtRequirements:
        card = self._card
        return CtRequirements(card.min_slices, card.min_coverage_mm, card.max_spacing_mm, kernel="lung")

    def look(self, selection: Selection) -> Selection | OutOfScope:
        """Return the selection if its values are Hounsfield units, and show lungs."""
        slices = stack(selection.instances)
        if isinstance(slices, OutOfScope):
            return slices
        seen = look_at(slices)
        return seen.unit_refusal or seen.chest_refusal or selection

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return the finding and its key slices, of the lungs alone; what holds no lungs is out of scope."""
        slices = stack(selection.instances)
        if isinstance(slices, OutOfScope):
            return slices
        chest = lungs(slices, volume(slices), self._requirements())
        if isinstance(chest, OutOfScope):
            return chest
        infection = self._infection.read(chest)
        cells = infection.prediction.infected_on_grid(SHAPE) if isinstance(infection, Infection) else None
        seed = seed_of(selection.study_instance_uid, self._card)
        try:
            prediction = self._model.predict(chest.volume.values, seed, cells)
        except UnusablePicture as error:
            return OutOfScope(str(error), "unusable-pixels", refs(chest.slices.instances))
        return self._result(selection, _Reading(chest, prediction, infection, self._card))

    def prepare(self) -> tuple[object, ...]:
        """Return the loaded networks."""
        return (self._model, *self._infection.prepare())

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic chest with consolidations."""
        from ainode.models.phantoms.thorax import Field, thorax  # noqa: PLC0415
        from ainode.node.testing import ct  # noqa: PLC0415

        phantom = thorax(seed, seed, scanned=Field((40, 192, 192), (7.0, 1.95, 1.95)), consolidations=4)
        return SyntheticStudy(ct(phantom.values, phantom.spacing_mm, frame=f"thorax {seed}", header=_DEMONSTRATION))

    @cached_property
    def _model(self) -> "PneumoniaModel":
        from ainode.models.ct_pneumonia.model import PneumoniaModel  # noqa: PLC0415

        path = self._environment.weights.verified(self._card.weights)
        return loaded(PneumoniaModel.load, path, name=self._card.name, environment=self._environment)

    def _algorithm(self, reading: "_Reading") -> Algorithm:
        card = self._card
        z, y, x = reading.slices.spacing_mm
        draws = len(reading.prediction.draws)
        parameters = {
            **threshold_texts(card.threshold, card.band),
            "network": card.size,
            "read": str(reading.chest),
            "slices": f"{len(reading.slices.instances)} of {z:.2f} mm, pixels {y:.2f} x {x:.2f} mm",
            "sampling": f"mean of {draws} draws, 25 DDIM steps each, seeded by the Study Instance UID",
            "infection": str(reading.infection),
            "precision": f"{self._model.precision} on {self._model.device}",
        }
        described = algorithm(card, self._environment.weights, weights=self.weights(), parameters=parameters)
        prediction = reading.prediction
        contradictions = contradiction(prediction.classifier, prediction.label_map, card.threshold)
        return replace(described, known_limits=(*contradictions, *described.known_limits))

    def _result(self, selection: Selection, reading: "_Reading") -> Result:
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm(reading),
            title="Pneumonia on chest CT",
            procedure=IMAGING_PROCEDURE,
            findings=reading.findings(),
            captures=reading.captures(),
            evidence=refs(reading.slices.instances),
            key_images=reading.shown_images(),
            scores=reading.scores(),
            segmented=reading.segmented(),
        )


def contradiction(classifier: float, diffusion: float, threshold: float) -> tuple[str, ...]:
    """Return a sentence where the two parts of an answer lie on two sides of its threshold, else nothing."""
    if (classifier >= threshold) == (diffusion >= threshold):
        return ()
    parts = f"classifier {probability_text(classifier)}, diffusion {probability_text(diffusion)}"
    return (f"the parts of this answer contradict each other: {parts}",)


class _Reading:
    """What the model says of one chest, in the node's words and on the slices' own pixels."""

    def __init__(self, chest: CtPart, prediction: "Prediction", infection: Infection | str, card: Card) -> None:
        self.chest, self.slices, self.prediction = chest, chest.slices, prediction
        self.infection = infection
        self._card = card

    def scores(self) -> Mapping[str, float]:
        """Return every number by name."""
        prediction = self.prediction
        scores = {
            "probability": prediction.probability,
            "lowest draw": min(prediction.draws),
            "highest draw": max(prediction.draws),
            "deviation of draws": prediction.deviation,
            "diffusion mean": prediction.label_map,
            "classifier": prediction.classifier,
            "global prior": prediction.global_prior,
            "local prior": prediction.local_prior,
            "saliency peak": float(prediction.saliency.max()),
        }
        regions = enumerate(prediction.regions, start=1)
        if isinstance(self.infection, Infection):
            scores |= self.infection.scores()
        return scores | {f"region {number} attention": region.attention for number, region in regions}

    def findings(self) -> tuple[Finding, ...]:
        """Return the answer, and the infected share of each lung where it was measured."""
        shares = self.infection.findings() if isinstance(self.infection, Infection) else ()
        return (self.finding(), *shares)

    def segmented(self) -> Segmented | None:
        """Return the outlines of lung and infection; None where they were not measured."""
        return self.infection.segmented() if isinstance(self.infection, Infection) else None

    def finding(self) -> Finding:
        """Return the answer for the whole stack."""
        share, card, key_images = self.prediction.probability, self._card, self.key_images()
        band = undecided(self.prediction.draws, card.threshold, card.band)
        measurements = (
            percent(PROBABILITY, share, key_images),
            percent(_DEVIATION, self.prediction.deviation, key_images),
        )
        verdict = verdict_on(share, card.threshold, band)
        return Finding("pneumonia", PNEUMONIA, LUNG, measurements, key_images, verdict=verdict)

    def key_images(self) -> tuple[InstanceRef, ...]:
        """Return the slices through the middles of the regions, from the feet to the head, each once."""
        return tuple(self.slices.instances[number].ref for number in self._key_slices())

    def shown_images(self) -> tuple[InstanceRef, ...]:
        """Return the key images, and the image that the infected shares refer to."""
        shares = self.infection.findings() if isinstance(self.infection, Infection) else ()
        return tuple(dict.fromkeys((*self.key_images(), *(ref for finding in shares for ref in finding.evidence))))

    def captures(self) -> tuple[Capture, ...]:
        """Return a picture of each key slice with the saliency and the regions on it, and one of the infection."""
        prediction, finding = self.prediction, self.finding()
        infection = self.infection.captures(finding) if isinstance(self.infection, Infection) else ()
        return infection + tuple(
            Capture(
                image=self.slices.instances[number].ref,
                title=f"Pneumonia on chest CT, slice {self.chest.number(number)} of {self.chest.whole_count}",
                captions=(
                    (
                        f"{len(prediction.draws)} draws of noise: {probability_text(min(prediction.draws))} to "
                        f"{probability_text(max(prediction.draws))}"
                    ),
                    (
                        f"Diffusion {probability_text(prediction.label_map)}, "
                        f"classifier {probability_text(prediction.classifier)}, "
                        f"global {probability_text(prediction.global_prior)}"
                    ),
                    self._caption(),
                ),
                saliency=saliency(prediction.saliency_at(voxels_under(self.slices, number, self.chest.volume))),
                findings=self._boxes(number),
                subject=finding,
            )
            for number in self._key_slices()
        )

    def _caption(self) -> str:
        if isinstance(self.infection, Infection):
            return f"{self.infection.caption}; boxes: regions read closely"
        return "Infected share not measured. Lines: the guidance network's own map, which chose the boxed regions"

    def _key_slices(self) -> list[int]:
        last = len(self.slices.instances) - 1
        middles = (self._pixel(region.center)[0] for region in self.prediction.regions)
        return sorted({min(max(round(middle), 0), last) for middle in middles})

    def _pixel(self, index: Sequence[float]) -> Position:
        """Return (slice, row, column) of the stack for (z, y, x) of the volume."""
        return self.slices.pixel(self.chest.volume.position(index))

    def _boxes(self, number: int) -> tuple[Finding, ...]:
        image = self.slices.instances[number].ref
        drawn = []
        for order, region in enumerate(self.prediction.regions, start=1):
            box = self._box(number, region, image)
            if box is not None:
                label = f"region {order}, attention {region.attention:.2f}"
                drawn.append(Finding(f"region {order}", PNEUMONIA, LUNG, (), (image,), region=box, label=label))
        return tuple(drawn)

    def _box(self, number: int, region: "Region", image: InstanceRef) -> ImageRegion | None:
        """Return the region's outline on one slice, None where it does not reach it; corners of pixels count from 0."""
        ends = np.sort(np.asarray([self._pixel(corner) for corner in region.corners]), axis=0)
        (low, top, left), (high, bottom, right) = ends.tolist()
        if not low - 0.5 <= number <= high + 0.5:
            return None
        return ImageRegion.box(
            image,
            left=max(left, 0.0),
            top=max(top, 0.0),
            right=min(right + 1, float(self.slices.columns)),
            bottom=min(bottom + 1, float(self.slices.rows)),
        )


def undecided(draws: Sequence[float], threshold: float, band: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the band that decides nothing: the card's, widened to the draws where the draws lie on both sides."""
    low, high = min(draws), max(draws)
    if not low <= threshold <= high or low == high:
        return band
    return (min(low, band[0]), max(high, band[1])) if band else (low, high)


def seed_of(study_instance_uid: UID, card: Card) -> int:
    """Return the seed of a study's reading: the same however it is sent, sorted, split or compressed."""
    digest = hashlib.sha256(f"{card.seed} {study_instance_uid}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _may_be_chest(series: Series) -> bool:
    """Return whether a series is of the chest or says nothing of its part."""
    part = body_part(series.instances[0].header)
    return not part.parts or "CHEST" in part.names


def build(environment: ModelEnvironment) -> CtPneumonia:
    """Return the handler."""
    return CtPneumonia(environment)


def benchmark(environment: ModelEnvironment, *, full_size: bool, runs: int) -> "Table":
    """Return head and rows of how long a whole reading and the outline of infection take, ours beside eager PyTorch."""
    from ainode.models.ct_pneumonia.benchmark import benchmark as measured  # noqa: PLC0415
    from ainode.models.lung_infection.benchmark import infection_rows  # noqa: PLC0415

    path = None if full_size else environment.weights.verified(read_card().weights)
    table = measured(path, cache=environment.cache, runs=runs)
    names = InfectionReader(environment).weights
    infection = environment.weights.verified(names[0]) if names else None
    return table._replace(rows=[*table.rows, *infection_rows(infection, cache=environment.cache, runs=runs)])
