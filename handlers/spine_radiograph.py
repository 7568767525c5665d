"""Is this radiograph of the spine abnormal, and where? Each image of the series is read by itself."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainode.handlers import (
    IMAGING_PROCEDURE,
    PROBABILITY,
    algorithm,
    each_read,
    grouped,
    image_refusal,
    loaded,
    misfit,
    percent,
    readable,
    saliency,
    threshold_texts,
    unread,
    verdict_on,
)
from ainode.models.spine_radiograph.card import Card, read_card
from ainode.node.domain import (
    Algorithm,
    Capture,
    Code,
    Finding,
    Instance,
    OutOfScope,
    Presence,
    Region,
    Result,
    Selection,
    Study,
    SyntheticImage,
    SyntheticStudy,
    Verdict,
    probability_text,
    refs,
)
from ainode.node.imaging.anatomy import body_part, contradiction
from ainode.node.imaging.free_text import as_code
from ainode.node.imaging.picture_kind import no_picture
from ainode.node.imaging.pixel_shape import height_per_width
from ainode.node.imaging.pixels import display_values
from ainode.node.imaging.radiograph_view import not_upright
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.benchmarking import Table
    from ainode.models.spine_radiograph.model import Prediction, SpineRadiographModel

PACKAGES = ("cv2", "openvino", "safetensors", "timm", "torch")
"""what reading needs beside the node's own packages, with the shipped weights on the CPU"""
PICTURES = "radiograph"
"""what a picture file that `ainode read` is given shows"""

_ABNORMAL = Code("263654008", "SCT", "Abnormal")
# No code for a lesion of the spine is published: lesion, with the spine as its site (PS3.16 CID 4).
_LESION = Code("52988006", "SCT", "Lesion")
# What the detector names that is no lesion, by the name of the detector's class.
_CONCEPTS = {"Surgical implant": Code("40388003", "SCT", "Implant")}
_SITES = {
    "CSPINE": Code("122494005", "SCT", "Cervical spine"),
    "TSPINE": Code("122495006", "SCT", "Thoracic spine"),
    "LSPINE": Code("122496007", "SCT", "Lumbar spine"),
}
_SPINE = Code("421060004", "SCT", "Spine")
_MODALITIES = frozenset({"CR", "DX"})
_SMALLEST_SIDE = 256
_DEMONSTRATION = {"AP": ("TSPINE", 1400, 700), "LATERAL": ("LSPINE", 1400, 900)}


class SpineRadiograph:
    """The handler: loads its networks when it is prepared, else at the first study it reads."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment
        self._card = read_card()

    @cached_property
    def packages(self) -> tuple[str, ...]:
        """Return what reading needs; ultralytics where the detector must be built: of other weights, or on a GPU."""
        if any(find_spec(name) is None for name in PACKAGES) or find_spec("ultralytics") or self._has_detector_graph():
            return PACKAGES
        return (*PACKAGES, "ultralytics")

    def _has_detector_graph(self) -> bool:
        from ainode.models.spine_radiograph.model import has_detector_graph  # noqa: PLC0415

        return loaded(has_detector_graph, self.paths(), name=self._card.name, environment=self._environment)

    def weights(self) -> tuple[str, ...]:
        """Return the names of every network's weights."""
        return tuple(f"{self._card.name}/{network}" for network in self._card.files)

    def paths(self) -> dict[str, Path]:
        """Return the verified file of each network by its name in the card."""
        return {
            network: self._environment.weights.verified(f"{self._card.name}/{network}") for network in self._card.files
        }

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the images that can be read, by their headers."""
        return readable(study, lambda instance: _refusal(instance, self._card))

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return findings, boxes and activation maps of every image; unusable pixels are out of scope."""
        predictions, unusable = each_read(selection.instances, self._predicted)
        if not predictions:
            return grouped(unusable)
        return self._result(selection, predictions, [*selection.declined.values(), *unusable])

    def prepare(self) -> tuple[object, ...]:
        """Return the loaded networks."""
        return (self._model,)

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic study of two projections, with lesions."""
        from ainode.models.phantoms.spine import spine_radiograph  # noqa: PLC0415

        images = []
        for view, (region, rows, columns) in _DEMONSTRATION.items():
            phantom = spine_radiograph(
                np.random.default_rng(seed), rows=rows, columns=columns, view=view, abnormal=True
            )
            header = {
                "BodyPartExamined": region,
                "ViewPosition": "AP" if view == "AP" else "LL",
                "PatientOrientation": ("L", "F") if view == "AP" else ("P", "F"),
                "SeriesDescription": f"Synthetic spine {view}",
                "ImagerPixelSpacing": (phantom.mm_per_pixel, phantom.mm_per_pixel),
                "PixelSpacing": (phantom.mm_per_pixel, phantom.mm_per_pixel),
            }
            images.append(SyntheticImage(rows, columns, phantom.image.astype("<u2").tobytes(), header))
        return SyntheticStudy(tuple(images))

    def _predicted(self, instance: Instance) -> "Prediction":
        pixels = display_values(instance.path)
        return self._model.predict(pixels, height_per_width=height_per_width(instance.header))

    @cached_property
    def _model(self) -> "SpineRadiographModel":
        from ainode.models.spine_radiograph.model import SpineRadiographModel  # noqa: PLC0415

        return loaded(SpineRadiographModel.load, self.paths(), name=self._card.name, environment=self._environment)

    def _algorithm(self, instances: Iterable[Instance], refusals: Collection[OutOfScope]) -> Algorithm:
        card = self._card
        parameters = {
            **threshold_texts(card.threshold, card.band),
            "networks": ", ".join(f"{network.architecture} {network.weight:g}" for network in card.networks),
            "detector": f"{card.detector.architecture} at {card.detector.side}",
            "input": f"{card.side} x {card.side}, {card.resize}",
            "precision": _precision_text(self._model),
            **unread(refusals),
            **_contradictions(instances),
        }
        store = self._environment.weights
        return algorithm(card, store, weights=self.weights(), parameters=parameters)

    def _result(
        self,
        selection: Selection,
        predictions: Sequence[tuple[Instance, "Prediction"]],
        refusals: Collection[OutOfScope],
    ) -> Result:
        images = [
            _Image(number, instance, prediction, self._card)
            for number, (instance, prediction) in enumerate(predictions, start=1)
        ]
        scores = {"probability": max(prediction.probability for _, prediction in predictions)}
        for image in images:
            scores |= image.scores()
        evidence = refs(instance for instance, _ in predictions)
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm((instance for instance, _ in predictions), refusals),
            title="Spine radiograph",
            procedure=IMAGING_PROCEDURE,
            findings=tuple(finding for image in images for finding in image.findings()),
            captures=tuple(image.capture() for image in images),
            evidence=evidence,
            key_images=evidence,
            scores=scores,
        )


class _Image:
    """What the model says of one image, in the node's words."""

    def __init__(self, number: int, instance: Instance, prediction: "Prediction", card: Card) -> None:
        self._number = number
        self._ref = instance.ref
        self._contradiction = contradiction(instance.header)
        self._prediction, self._card = prediction, card
        self._verdict = verdict_on(prediction.probability, card.threshold, card.band)
        parts = body_part(instance.header).parts
        self._site = next((_SITES[part] for part in parts if part in _SITES), _SPINE)

    def findings(self) -> tuple[Finding, ...]:
        """Return the image's own finding, and one per box."""
        return (self._whole(), *self._boxes())

    def _whole(self) -> Finding:
        return Finding(
            tracking_identifier=f"image {self._number} abnormal",
            concept=_ABNORMAL,
            site=self._site,
            measurements=(percent(PROBABILITY, self._prediction.probability, (self._ref,)),),
            evidence=(self._ref,),
            verdict=self._verdict,
        )

    def _boxes(self) -> tuple[Finding, ...]:
        """Return the boxes, which the detector found at the highest confidence that any box exceeds."""
        boxes, confidences = self._prediction.boxes, self._card.detector.confidences
        if not boxes or self._verdict.presence is not Presence.PRESENT:
            return ()
        confidence = next((confidence for confidence in confidences if boxes[0].score > confidence), confidences[-1])
        return tuple(
            Finding(
                tracking_identifier=f"image {self._number} box {number} {box.class_name}",
                concept=_CONCEPTS.get(box.class_name, _LESION),
                site=self._site,
                measurements=(percent(PROBABILITY, box.score, (self._ref,)),),
                evidence=(self._ref,),
                region=Region.box(self._ref, left=box.x0, top=box.y0, right=box.x1, bottom=box.y1),
                label=f"{box.class_name} {probability_text(box.score)}",
                verdict=Verdict.of(box.score, confidence),
            )
            for number, box in enumerate(boxes, start=1)
        )

    def capture(self) -> Capture:
        """Return the picture with the activation map and the boxes."""
        networks = ", ".join(
            f"{name} {probability_text(value)}" for name, value in self._prediction.per_network.items()
        )
        return Capture(
            image=self._ref,
            title=f"Spine radiograph, image {self._number}",
            captions=(f"Networks: {networks}", *([self._contradiction] if self._contradiction else [])),
            saliency=saliency(self._prediction.saliency),
            findings=self._boxes(),
            subject=self._whole(),
        )

    def scores(self) -> dict[str, float]:
        """Return every number of this image by name."""
        prefix = f"image {self._number}"
        single = {f"{prefix} {name}": value for name, value in self._prediction.per_network.items()}
        return {f"{prefix} probability": self._prediction.probability, **single}


def _precision_text(model: "SpineRadiographModel") -> str:
    """Return the precision and the device of the networks; that of the detector if it is another."""
    detector = model.detector_precision
    return f"{model.precision} on {model.device}" + (f", detector {detector}" if detector != model.precision else "")


def _contradictions(instances: Iterable[Instance]) -> Mapping[str, str]:
    """Return the parameter that says where label and descriptions name different parts; no parameter if none do."""
    sentences = dict.fromkeys(sentence for instance in instances if (sentence := contradiction(instance.header)))
    return {"body part": "; ".join(sentences)} if sentences else {}


def _refusal(instance: Instance, card: Card) -> OutOfScope | None:
    """Return why the header says that this image is not for the model; None if nothing speaks against it.

    An absent View Position says that nobody wrote it down (PS3.3 C.8.11.5.1.1, type 3 in CR).
    """
    part, view = body_part(instance.header), instance.text("ViewPosition").upper()
    if instance.text("Modality") not in _MODALITIES:
        reason, code = f"Modality is {as_code(instance.text('Modality'))}, CR or DX is read", "wrong-modality"
    elif not set(part.parts) & set(card.body_part):
        reason, code = f"the body part is {part}; the model reads {', '.join(card.body_part)}", "wrong-body-part"
    elif view and view not in card.views:
        reason, code = f"View Position is {as_code(view)}; the model reads {', '.join(card.views)}", "wrong-view"
    elif turned := not_upright(instance.header):
        reason, code = f"{turned}; upright films are read", "not-upright"
    elif problem := no_picture(instance) or misfit(instance, _SMALLEST_SIDE):
        reason, code = problem
    else:
        return None
    return image_refusal(instance, reason, code)


def build(environment: ModelEnvironment) -> SpineRadiograph:
    """Return the handler."""
    return SpineRadiograph(environment)


def benchmark(environment: ModelEnvironment, *, full_size: bool, runs: int) -> "Table":
    """Return head and rows of how long a whole reading takes, ours beside eager PyTorch."""
    from ainode.models.spine_radiograph.benchmark import benchmark as measured  # noqa: PLC0415

    return measured(SpineRadiograph(environment).paths(), cache=environment.cache, full_size=full_size, runs=runs)
