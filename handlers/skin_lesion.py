"""Is the skin lesion on this photograph malignant? Each picture of the study is read by itself."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainode.models.skin_lesion.card import Card, read_card
from ainode.node.anatomy import body_part
from ainode.node.domain import (
    Algorithm,
    Capture,
    Code,
    Finding,
    Header,
    Instance,
    Measurement,
    OutOfScope,
    Result,
    Saliency,
    Selection,
    Study,
    SyntheticImage,
    SyntheticStudy,
    refs,
)
from ainode.node.errors import WeightsError
from ainode.node.pixels import picture
from ainode.node.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.skin_lesion.model import Prediction, SkinLesionModel

PACKAGES = ("cv2", "h5py", "keras", "openvino", "safetensors", "torch")
"""what reading needs beside the node's own packages"""

_PROBABILITY_OF_CANCER = Code("111047", "DCM", "Probability of cancer")
_PERCENT = Code("%", "UCUM", "%")
_SKIN_LESION = Code("95324001", "SCT", "Skin lesion")
_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")

# PS3.4 B.5: VL Photographic and Dermoscopic Photography; a capture says only by its body part what it shows.
_PHOTOGRAPHS = {
    "1.2.840.10008.5.1.4.1.1.77.1.4": "VL Photographic Image",
    "1.2.840.10008.5.1.4.1.1.77.1.7": "Dermoscopic Photography Image",
}
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
    """The handler: loads its network at the first study it reads."""

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
        refusals = {instance: _refusal(instance, self._card) for instance in study.instances}
        readable = {instance for instance, refusal in refusals.items() if refusal is None}
        if not readable:
            first = next((refusal for refusal in refusals.values() if refusal), None)
            return first or OutOfScope("the study holds no image", "no-image")
        series = tuple(
            type(one)(one.series_instance_uid, one.modality, tuple(i for i in one.instances if i in readable))
            for one in study.series
        )
        return Selection(study.study_instance_uid, tuple(one for one in series if one.instances))

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return a finding and a map of every picture; unusable pixels are out of scope."""
        from ainode.models.errors import UnusablePicture  # noqa: PLC0415 - brings the network's libraries along

        read: list[tuple[Instance, Prediction]] = []
        unusable: list[OutOfScope] = []
        for instance in selection.instances:
            try:
                read.append((instance, self._model.predict(picture(instance.path))))
            except UnusablePicture as error:
                uid = instance.ref.sop_instance_uid
                unusable.append(OutOfScope(f"image {uid}: {error}", "unusable-pixels", (instance.ref,)))
        return self._result(selection, read, left_out=len(unusable)) if read else unusable[0]

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic study of one dermoscopic picture."""
        from ainode.models.phantoms.skin import skin_lesion  # noqa: PLC0415

        drawn = skin_lesion(np.random.default_rng(seed))
        header = {
            "SOPClassUID": next(iter(_PHOTOGRAPHS)),
            "Modality": "XC",
            "BodyPartExamined": "UPPER EXTREMITY",
            "ImageLaterality": "L",
            "SeriesDescription": "Synthetic skin lesion",
        }
        return SyntheticStudy((SyntheticImage(drawn.shape[0], drawn.shape[1], drawn.tobytes(), header, 3),))

    @cached_property
    def _model(self) -> "SkinLesionModel":
        from ainode.models.errors import ModelError  # noqa: PLC0415
        from ainode.models.skin_lesion.model import SkinLesionModel  # noqa: PLC0415

        try:
            return SkinLesionModel.load(
                self.paths(),
                cache=self._environment.cache,
                card=self._card,
                device=self._environment.device,
                precision=self._environment.precision,
            )
        except ModelError as error:
            raise WeightsError(f"{self._card.name}: {error}") from error

    def _algorithm(self, *, left_out: int) -> Algorithm:
        card, store, model = self._card, self._environment.weights, self._model
        found = model.calibration
        parameters = {
            "threshold": f"{found.threshold:.3g}",
            "network": f"{card.network}, mean of {found.views} mirrored views",
            "calibration": f"Platt {found.slope:.3g} {found.intercept:+.3g}, for half of the lesions malignant",
            "input": f"{card.side} x {card.side}, stretched",
            "precision": f"{model.network.precision} on {model.network.device}",
        }
        if left_out:
            parameters["images not read"] = f"{left_out}, unusable pixels"
        status = store.entry(self.weights()[0]).status
        return Algorithm(card.name, card.version, store.digest(self.weights()), status, tuple(parameters.items()))

    def _result(self, selection: Selection, read: Sequence[tuple[Instance, "Prediction"]], *, left_out: int) -> Result:
        scores = {"probability": max(made.calibrated for _, made in read)}
        for number, (_, made) in enumerate(read, start=1):
            scores[f"image {number} probability"] = made.calibrated
            scores[f"image {number} before calibration"] = made.probability
        evidence = refs(instance for instance, _ in read)
        numbered = [(number, instance, made) for number, (instance, made) in enumerate(read, start=1)]
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm(left_out=left_out),
            title="Skin lesion",
            procedure=_PROCEDURE,
            findings=tuple(_finding(*one) for one in numbered),
            captures=tuple(_capture(*one, self._model.calibration.threshold) for one in numbered),
            evidence=evidence,
            key_images=evidence,
            scores=scores,
        )


def _finding(number: int, instance: Instance, made: "Prediction") -> Finding:
    share = Measurement(_PROBABILITY_OF_CANCER, round(100 * made.calibrated, 2), _PERCENT, (instance.ref,))
    return Finding(f"image {number}", _SKIN_LESION, _site(instance.header), (share,), (instance.ref,))


def _capture(number: int, instance: Instance, made: "Prediction", threshold: float) -> Capture:
    verdict = "above" if made.malignant else "not above"
    side = _SIDES.get(instance.text("ImageLaterality") or instance.text("Laterality"), "")
    site = ", ".join(word for word in (_site(instance.header).meaning, side) if word)
    rows, columns = made.saliency.shape
    values = np.rint(made.saliency * 255).astype(np.uint8).tobytes()
    return Capture(
        image=instance.ref,
        title=f"Skin lesion, image {number}",
        captions=(f"Malignant: {made.calibrated:.1%}, {verdict} the threshold of {threshold:.1%}", f"Site: {site}"),
        saliency=Saliency(rows, columns, values),
    )


def _site(header: Header) -> Code:
    """Return the body site: the header's own SNOMED CT code, else what its words say, else skin."""
    regions = header.get("AnatomicRegionSequence", ())
    for region in regions if isinstance(regions, tuple) else ():
        if isinstance(region, Mapping) and region.get("CodingSchemeDesignator") == "SCT":
            return Code(str(region.get("CodeValue", "")), "SCT", str(region.get("CodeMeaning", "")))
    written = str(header.get("BodyPartExamined", "")).upper().replace("_", " ")
    worded = (code for words, code in _SITES_IN_WORDS.items() if words in written)
    parted = (_SITES[part] for part in body_part(header).parts if part in _SITES)
    return next(worded, None) or next(parted, _SKIN)


def _refusal(instance: Instance, card: Card) -> OutOfScope | None:
    """Return why the header says that this picture is not for the model; None if nothing speaks against it.

    A photograph without a body part is read: phones and converted files name none.
    """
    part, sop_class = body_part(instance.header), instance.ref.sop_class_uid
    rows, columns = (int(instance.text(key) or 0) for key in ("Rows", "Columns"))
    if instance.text("Modality") not in card.modality:
        found = instance.text("Modality") or "absent"
        why, code = f"Modality is {found}; read is {', '.join(card.modality)}", "wrong-modality"
    elif sop_class == _SECONDARY_CAPTURE and "SKIN" not in part.parts:
        why, code = f"a secondary capture is read when its body part is SKIN; it is {part}", "wrong-body-part"
    elif sop_class not in {*_PHOTOGRAPHS, _SECONDARY_CAPTURE}:
        why, code = f"SOP class {sop_class}; read is {' and '.join(_PHOTOGRAPHS.values())}", "wrong-sop-class"
    elif part.parts and not set(part.parts) & set(_SITES):
        why, code = f"the body part is {part}; photographs of skin are read", "wrong-body-part"
    elif instance.text("PhotometricInterpretation").startswith("MONOCHROME"):
        why, code = "the image is gray; color photographs are read", "not-color"
    elif min(rows, columns) < card.smallest_side:
        why, code = f"the image has {rows} x {columns} pixels; {card.smallest_side} a side are needed", "too-small"
    elif instance.text("NumberOfFrames") not in {"", "1"}:
        why, code = f"the image has {instance.text('NumberOfFrames')} frames; one is read", "multi-frame"
    else:
        return None
    return OutOfScope(f"image {instance.ref.sop_instance_uid}: {why}", code, (instance.ref,))


def build(environment: ModelEnvironment) -> SkinLesion:
    """Return the handler."""
    return SkinLesion(environment)


def benchmark(
    environment: ModelEnvironment, *, full_size: bool, runs: int
) -> tuple[tuple[str, ...], list[Sequence[object]]]:
    """Return head and rows of how long a whole reading takes, ours beside Keras on TensorFlow."""
    from ainode.models.skin_lesion.benchmark import benchmark as measured  # noqa: PLC0415

    paths = SkinLesion(environment).paths()
    rows = measured(paths, cache=environment.cache, full_size=full_size, runs=runs)
    head = ("way", "network", "median ms", "quartiles ms", "runs", "x Keras", "largest dp")
    return head, [
        (
            row.way,
            row.network,
            f"{row.median_ms:.1f}",
            f"{row.low_ms:.1f}-{row.high_ms:.1f}",
            row.runs,
            f"{row.times_faster:.2f}",
            f"{row.max_dp:.4f}",
        )
        for row in rows
    ]
