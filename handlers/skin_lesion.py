"""Is the skin lesion on this photograph malignant? Each picture of the study is read by itself."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainode.handlers import (
    IMAGING_PROCEDURE,
    MALIGNANT,
    PROBABILITY_OF_CANCER,
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
from ainode.models.skin_lesion.card import Card, read_card
from ainode.node.domain import (
    Algorithm,
    Capture,
    Code,
    Finding,
    Header,
    Instance,
    OutOfScope,
    Result,
    Selection,
    Study,
    SyntheticImage,
    SyntheticStudy,
    Verdict,
    WeightsStatus,
    refs,
)
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.picture_kind import no_picture
from ainode.node.imaging.pixel_shape import height_per_width
from ainode.node.imaging.pixels import picture
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.benchmarking import Table
    from ainode.models.skin_lesion.model import Prediction, SkinLesionModel

PACKAGES = ("cv2", "h5py", "keras", "openvino", "safetensors", "torch")
"""what reading needs beside the node's own packages"""

_SKIN_LESION = Code("95324001", "SCT", "Skin lesion")

# PS3.4 B.5: VL Photographic and Dermoscopic Photography; a capture says only by its body part what it shows.
_DERMOSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.7"
_PHOTOGRAPHS = {
    "1.2.840.10008.5.1.4.1.1.77.1.4": "VL Photographic Image",
    _DERMOSCOPIC: "Dermoscopic Photography Image",
}
_NO_DERMOSCOPE = "no header names a dermoscope: of a photograph without one the answer says nothing"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

_SKIN = Code("39937001", "SCT", "Skin")
_UPPER = Code("371311000", "SCT", "Skin of upper extremity")
_LOWER = Code("371304004", "SCT", "Skin of lower extremity")
_HAND = Code("33712006", "SCT", "Skin of hand")
_FOOT = Code("60496002", "SCT", "Skin of foot")
_HEAD = Code("70762009", "SCT", "Skin of head")
_TRUNK = Code("22943007", "SCT", "Trunk")
_CHEST = Code("816094009", "SCT", "Chest")
# PS3.16 CID 4029 (Dermatology Anatomic Site), for trunk and chest CID 4. First what ISIC and HAM10000 write as body
# site and no defined term says, then the terms of Body Part Examined.
_SITES_IN_WORDS = {
    "UPPER EXTREMITY": _UPPER,
    "LOWER EXTREMITY": _LOWER,
    "BACK": Code("66643007", "SCT", "Skin of back"),
    "TRUNK": _TRUNK,
    "TORSO": _TRUNK,
    "SCALP": Code("43067004", "SCT", "Skin of scalp"),
    "GENITAL": Code("60944009", "SCT", "Skin of external genitalia"),
}
_SITES = {
    "SKIN": _SKIN,
    "EXTREMITY": _SKIN,
    **dict.fromkeys(("SHOULDER", "ARM", "ELBOW", "FOREARM", "WRIST"), _UPPER),
    **dict.fromkeys(("HAND", "FINGER", "THUMB"), _HAND),
    **dict.fromkeys(("THIGH", "LEG", "KNEE", "ANKLE"), _LOWER),
    **dict.fromkeys(("FOOT", "TOE", "CALCANEUS"), _FOOT),
    **dict.fromkeys(("HEAD", "HEADNECK"), _HEAD),
    "FACE": Code("73897004", "SCT", "Skin of face"),
    "EAR": Code("1902009", "SCT", "Skin of ear"),
    "NECK": Code("43081002", "SCT", "Skin of neck"),
    "CHEST": _CHEST,
    "BREAST": Code("76752008", "SCT", "Breast"),
    "ABDOMEN": Code("75093004", "SCT", "Skin of abdomen"),
}
_SIDES = {"L": "left", "R": "right"}


class SkinLesion:
    """The handler: loads its network when it is prepared, else at the first study it reads."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment
        self._card = read_card()

    def weights(self) -> tuple[str, ...]:
        """Return the name of the network's weights."""
        return (f"{self._card.name}/{self._card.network}",)

    def paths(self) -> dict[str, Path]:
        """Return the verified file of the network by its name in the card."""
        return {self._card.network: self._environment.weights.verified(self.weights()[0])}

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the pictures that can be read, by their headers."""
        return readable(study, lambda instance: _refusal(instance, self._card))

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return a finding and a map of every picture; unusable pixels are out of scope."""
        predictions, unusable = each_read(selection.instances, self._predicted)
        if not predictions:
            return grouped(unusable)
        return self._result(selection, predictions, [*selection.declined.values(), *unusable])

    def _predicted(self, instance: Instance) -> "Prediction":
        return self._model.predict(picture(instance.path), height_per_width=height_per_width(instance.header))

    def prepare(self) -> tuple[object, ...]:
        """Return the loaded network."""
        return (self._model,)

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic study of one dermoscopic picture."""
        from ainode.models.phantoms.skin import skin_lesion  # noqa: PLC0415

        pixels = skin_lesion(np.random.default_rng(seed))
        header = {
            "SOPClassUID": next(iter(_PHOTOGRAPHS)),
            "Modality": "XC",
            "BodyPartExamined": "UPPER EXTREMITY",
            "ImageLaterality": "L",
            "SeriesDescription": "Synthetic skin lesion",
        }
        return SyntheticStudy((SyntheticImage(pixels.shape[0], pixels.shape[1], pixels.tobytes(), header, 3),))

    @cached_property
    def _model(self) -> "SkinLesionModel":
        from ainode.models.skin_lesion.model import SkinLesionModel  # noqa: PLC0415

        return loaded(SkinLesionModel.load, self.paths(), name=self._card.name, environment=self._environment)

    def _algorithm(self, instances: Iterable[Instance], refusals: Collection[OutOfScope]) -> Algorithm:
        card, model = self._card, self._model
        platt = model.calibration
        parameters = {
            **threshold_texts(round(platt.threshold, 3), card.band),
            "network": card.network,
            "calibration": f"Platt {platt.slope:.3g} {platt.intercept:+.3g}, for half of the lesions malignant",
            "input": model.reader.input_text,
            "precision": f"{model.reader.run.precision} on {model.reader.run.device}",
            **unread(refusals),
        }
        described = algorithm(card, self._environment.weights, weights=self.weights(), parameters=parameters)
        is_dermoscopic = all(instance.ref.sop_class_uid == _DERMOSCOPIC for instance in instances)
        if is_dermoscopic or described.weights_status is WeightsStatus.SITE:
            return described
        return replace(described, known_limits=(_NO_DERMOSCOPE, *described.known_limits))

    def _result(
        self,
        selection: Selection,
        predictions: Sequence[tuple[Instance, "Prediction"]],
        refusals: Collection[OutOfScope],
    ) -> Result:
        scores = {"probability": max(prediction.calibrated for _, prediction in predictions)}
        for number, (_, prediction) in enumerate(predictions, start=1):
            scores[f"image {number} probability"] = prediction.calibrated
            scores[f"image {number} before calibration"] = prediction.probability
        evidence = refs(instance for instance, _ in predictions)
        numbered_images = [(number, *pair) for number, pair in enumerate(predictions, start=1)]
        findings = tuple(
            _finding(number, instance, self._verdict(prediction)) for number, instance, prediction in numbered_images
        )
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm([instance for instance, _ in predictions], refusals),
            title="Skin lesion",
            procedure=IMAGING_PROCEDURE,
            findings=findings,
            captures=tuple(
                _capture(number, instance, prediction, finding)
                for (number, instance, prediction), finding in zip(numbered_images, findings, strict=True)
            ),
            evidence=evidence,
            key_images=evidence,
            scores=scores,
        )

    def _verdict(self, prediction: "Prediction") -> Verdict:
        threshold = self._model.calibration.threshold
        return verdict_on(prediction.calibrated, threshold, self._card.band, about=MALIGNANT)


def _finding(number: int, instance: Instance, verdict: Verdict) -> Finding:
    probability, site = percent(PROBABILITY_OF_CANCER, verdict.probability, (instance.ref,)), _site(instance.header)
    return Finding(f"image {number}", _SKIN_LESION, site, (probability,), (instance.ref,), verdict=verdict)


def _capture(number: int, instance: Instance, prediction: "Prediction", finding: Finding) -> Capture:
    side = _SIDES.get(instance.text("ImageLaterality") or instance.text("Laterality"), "")
    site = ", ".join(word for word in (_site(instance.header).meaning, side) if word)
    return Capture(
        image=instance.ref,
        title=f"Skin lesion, image {number}",
        captions=(f"Site: {site}",),
        saliency=saliency(prediction.saliency),
        subject=finding,
    )


def _site(header: Header) -> Code:
    """Return the body site: the header's own SNOMED CT code, else what its words say, else skin."""
    regions = header.get("AnatomicRegionSequence", ())
    for region in regions if isinstance(regions, tuple) else ():
        if isinstance(region, Mapping) and region.get("CodingSchemeDesignator") == "SCT":
            return Code(str(region.get("CodeValue", "")), "SCT", str(region.get("CodeMeaning", "")))
    part_text = str(header.get("BodyPartExamined", "")).upper().replace("_", " ")
    sites_by_words = (code for words, code in _SITES_IN_WORDS.items() if words in part_text)
    sites_by_part = (_SITES[part] for part in body_part(header).parts if part in _SITES)
    return next(sites_by_words, None) or next(sites_by_part, _SKIN)


def _refusal(instance: Instance, card: Card) -> OutOfScope | None:
    """Return why the header says that this picture is not for the model; None if nothing speaks against it.

    A photograph without a body part is read: phones and converted files name none.
    """
    part, sop_class = body_part(instance.header), instance.ref.sop_class_uid
    if instance.text("Modality") not in card.modality:
        modality = instance.text("Modality") or "absent"
        reason, code = f"Modality is {modality}; the model reads {', '.join(card.modality)}", "wrong-modality"
    elif sop_class == _SECONDARY_CAPTURE and "SKIN" not in part.parts:
        reason, code = f"a secondary capture is read when its body part is SKIN; it is {part}", "wrong-body-part"
    elif sop_class not in {*_PHOTOGRAPHS, _SECONDARY_CAPTURE}:
        photographs = " and ".join(_PHOTOGRAPHS.values())
        reason, code = f"SOP class {sop_class}; the model reads {photographs}", "wrong-sop-class"
    elif part.parts and not set(part.parts) & set(_SITES):
        reason, code = f"the body part is {part}; photographs of skin are read", "wrong-body-part"
    elif instance.text("PhotometricInterpretation").startswith("MONOCHROME"):
        reason, code = "the image is gray; color photographs are read", "not-color"
    elif problem := no_picture(instance) or misfit(instance, card.smallest_side):
        reason, code = problem
    else:
        return None
    return image_refusal(instance, reason, code)


def build(environment: ModelEnvironment) -> SkinLesion:
    """Return the handler."""
    return SkinLesion(environment)


def benchmark(environment: ModelEnvironment, *, full_size: bool, runs: int) -> "Table":
    """Return head and rows of how long a whole reading takes, ours beside Keras on TensorFlow."""
    from ainode.models.skin_lesion.benchmark import benchmark as measured  # noqa: PLC0415

    return measured(SkinLesion(environment).paths(), cache=environment.cache, full_size=full_size, runs=runs)
