"""Is there a tumor of the lung or of the pancreas on this CT? Every slice is read, the study from its slices.

The body part of a series says which organ is read: a chest the lung, an abdomen with contrast the pancreas, a scan of
both, both. Slices that came as pictures, windowed already, are read too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ainode.handlers import PROBABILITY, loaded, percent, saliency, selection_of, voxels_under
from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.errors import UnusablePicture
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
    Series,
    Study,
    SyntheticStudy,
    refs,
)
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.ct_series import CtRequirements, ct_stack
from ainode.node.imaging.geometry import Stack, Volume, stack, volume
from ainode.node.imaging.pixels import modality_values, picture
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.benchmarking import Table
    from ainode.models.ct_tumor.model import Reading, SliceReading, TumorModel

PACKAGES = ("cv2", "h5py", "keras", "openvino", "safetensors", "torch")
"""what reading needs beside the node's own packages"""
PICTURES = "slice"
"""what a picture file that `ainode read` is given shows, as the original took it"""

_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
_CLASSES = {
    "normal": Code("17621005", "SCT", "Normal"),
    "benign": Code("30807003", "SCT", "Benign"),
    "malignant": Code("21594007", "SCT", "Malignant"),
    "tumor": Code("108369006", "SCT", "Neoplasm"),
}
_SITES = {"lung": Code("39607008", "SCT", "Lung"), "pancreas": Code("15776009", "SCT", "Pancreas")}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_KEY_SLICES = 3
_DEMONSTRATION: Header = {
    "BodyPartExamined": "ABDOMEN",
    "SeriesDescription": "Synthetic abdomen, portal venous",
    "ConvolutionKernel": "STANDARD",
    "ContrastBolusAgent": "Synthetic",
    "WindowCenter": 40.0,
    "WindowWidth": 400.0,
}


class CtTumor:
    """The handler: loads an organ's network at the first study of it."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment
        self._card = read_card()
        self._models: dict[str, TumorModel] = {}

    def weights(self) -> tuple[str, ...]:
        """Return the names of both organs' weights."""
        return tuple(self._weights(organ) for organ in self._card.organs)

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the best stack of each organ, or slices that are pictures, by their headers."""
        answers = [_sources(organ, study.series) for organ in self._card.organs]
        chosen = {one for answer in answers if isinstance(answer, tuple) for one in answer}
        if chosen:
            return selection_of(study, chosen)
        refusals = [answer for answer in answers if isinstance(answer, OutOfScope)]
        told = [refusal for refusal in refusals if refusal.code != "wrong-body-part"]
        return told[0] if told else self._elsewhere(study.series)

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return the class probabilities of each organ, and its key slices; no body at all is out of scope."""
        found: list[_OrganReading] = []
        refusal = self._elsewhere(selection.series)
        for organ in self._card.organs:
            answer = _sources(organ, selection.series)
            if isinstance(answer, OutOfScope):
                continue
            try:
                slices = _slices(answer)
                model = self._model(organ)
                made = model.read(slices.values) if slices.hounsfield else model.read_pictures(slices.values)
                found.append(_OrganReading(organ, slices, made, model.calibration.threshold))
            except UnusablePicture as error:
                refusal = OutOfScope(f"{organ.name}: {error}", "unusable-pixels", refs(answer))
        return self._result(selection, found) if found else refusal

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic abdomen with a tumor of the pancreas."""
        from ainode.models.phantoms.abdomen import abdomen  # noqa: PLC0415
        from ainode.node.testing import ct  # noqa: PLC0415

        made = abdomen(np.random.default_rng(seed), tumor=True)
        return SyntheticStudy(ct(made.values, made.spacing_mm, frame=f"abdomen {seed}", header=_DEMONSTRATION))

    def _elsewhere(self, series: Sequence[Series]) -> OutOfScope:
        parts = ", ".join(sorted({str(body_part(one.instances[0].header)) for one in series})) or "none"
        read = " and ".join(f"{' or '.join(one.body_parts)} for the {one.name}" for one in self._card.organs)
        firsts = refs(one.instances[0] for one in series)
        return OutOfScope(f"the body part is {parts}; read is {read}", "wrong-body-part", firsts)

    def _weights(self, organ: Organ) -> str:
        return f"{self._card.name}/{organ.name}"

    def _model(self, organ: Organ) -> "TumorModel":
        from ainode.models.ct_tumor.model import TumorModel  # noqa: PLC0415

        if organ.name not in self._models:
            name, environment = self._weights(organ), self._environment
            path = environment.weights.verified(name)
            self._models[organ.name] = loaded(TumorModel.load, path, organ, name=name, environment=environment)
        return self._models[organ.name]

    def _algorithm(self, found: Sequence["_OrganReading"]) -> Algorithm:
        store = self._environment.weights
        names = tuple(self._weights(one.organ) for one in found)
        parameters = [pair for one in found for pair in one.parameters(self._model(one.organ))]
        # Two organs, two files: the report says no more than the lesser of them allows.
        status = store.status(names)
        return Algorithm(self._card.name, self._card.version, store.digest(names), status, tuple(parameters))

    def _result(self, selection: Selection, found: Sequence["_OrganReading"]) -> Result:
        key_images = tuple(dict.fromkeys(ref for one in found for ref in one.key_images))
        evidence = tuple(dict.fromkeys(ref for one in found for ref in refs(one.slices.instances)))
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm(found),
            title=f"CT tumor, {' and '.join(one.organ.name for one in found)}",
            procedure=_PROCEDURE,
            findings=tuple(finding for one in found for finding in one.findings()),
            captures=tuple(capture for one in found for capture in one.captures()),
            evidence=evidence,
            key_images=key_images,
            scores={"probability": max(one.score for one in found)}
            | {name: value for one in found for name, value in one.scores().items()},
        )


@dataclass(frozen=True, slots=True)
class _Slices:
    """Slices to read, each with the instance it is of.

    Shapes: values (n, rows, columns), columns to the left, rows to the back; `acquired` turns (number, map) into the
    map on the instance's own rows and columns.
    Units: Hounsfield units, or gray of 0 to 255.
    """

    instances: tuple[Instance, ...]
    values: Sequence[NDArray[Any]] = field(repr=False)
    acquired: Callable[[int, NDArray[np.float32]], NDArray[np.float32]] = field(repr=False)
    hounsfield: bool


class _OrganReading:
    """What the model says of one organ, in the node's words."""

    def __init__(self, organ: Organ, slices: _Slices, made: "Reading", threshold: float) -> None:
        self.organ, self.slices, self._made, self._threshold = organ, slices, made, threshold
        self._key = made.key_slices(_KEY_SLICES, organ.positive_index)
        self.key_images = tuple(slices.instances[one.index].ref for one in self._key)

    @property
    def score(self) -> float:
        """Return the probability that the organ holds a tumor, of the whole study."""
        return self._made.score

    def findings(self) -> tuple[Finding, ...]:
        """Return one finding per class: the class itself, its probability, the key slices."""
        organ = self.organ
        return tuple(
            Finding(
                tracking_identifier=f"{organ.name} {name}",
                concept=_CLASSES[name],
                site=_SITES[organ.name],
                measurements=(percent(PROBABILITY, float(share), self.key_images),),
                evidence=self.key_images,
            )
            for name, share in zip(organ.class_names, self._made.probabilities, strict=True)
        )

    def captures(self) -> tuple[Capture, ...]:
        """Return a picture of every key slice with the map of what speaks for a tumor."""
        return tuple(self._capture(number, one) for number, one in enumerate(self._key, start=1))

    def _capture(self, number: int, one: "SliceReading") -> Capture:
        organ, made = self.organ, self._made
        shares = ", ".join(f"{name} {p:.1%}" for name, p in zip(organ.class_names, one.probabilities, strict=True))
        verdict = "above" if made.above else "not above"
        return Capture(
            image=self.slices.instances[one.index].ref,
            title=f"CT tumor, {organ.name}, key slice {number} of {len(self._key)}",
            captions=(
                f"Study: {organ.positive} {made.score:.1%}, {verdict} the threshold of {self._threshold:.1%}",
                f"This slice, {one.index + 1} of {len(self.slices.instances)}: {shares}",
            ),
            saliency=saliency(self.slices.acquired(one.index, one.saliency())),
        )

    def scores(self) -> Mapping[str, float]:
        """Return every number by name: of the study per class, of every slice for the tumor."""
        organ, index = self.organ, self.organ.positive_index
        whole = zip(organ.class_names, self._made.probabilities, strict=True)
        study = {f"{organ.name} {name}": float(share) for name, share in whole}
        prefix = f"{organ.name} {organ.positive} slice"
        return study | {f"{prefix} {one.index + 1}": float(one.probabilities[index]) for one in self._made.slices}

    def parameters(self, model: "TumorModel") -> tuple[tuple[str, str], ...]:
        """Return what decided the answer, for the report."""
        organ, rule = self.organ, model.calibration
        window = f"level {organ.level:g} width {organ.width:g} HU" if self.slices.hounsfield else "as it came"
        read, all_ = len(self._made.slices), len(self.slices.instances)
        return (
            (f"{organ.name} threshold", f"{rule.threshold:g}"),
            (f"{organ.name} calibration temperature", f"{rule.temperature:g}"),
            (f"{organ.name} study score", f"mean of the highest {rule.share:.0%} of {read} slices read of {all_}"),
            (f"{organ.name} input", f"{organ.side} x {organ.side}, body alone, window {window}"),
            (f"{organ.name} precision", f"{model.network.run.precision} on {model.network.run.device}"),
        )


def _sources(organ: Organ, series: Sequence[Series]) -> tuple[Instance, ...] | OutOfScope:
    """Return the slices of an organ: the best stack, else pictures of slices, else why there are none."""
    shown = [one for one in series if _shows(organ, one)]
    if not shown:
        return OutOfScope(f"no series shows the {organ.name}", "wrong-body-part")
    wanted = CtRequirements(
        organ.min_slices, organ.min_coverage_mm, organ.max_spacing_mm, "soft", contrast=organ.contrast
    )
    scans = [Series(one.series_instance_uid, one.modality, _no_pictures(one)) for one in shown]
    found = ct_stack([one for one in scans if one.instances], wanted)
    if isinstance(found, Stack):
        return found.instances
    pictures = tuple(instance for one in shown for instance in one.instances if _is_picture(instance))
    return pictures or found


def _shows(organ: Organ, series: Series) -> bool:
    return bool(body_part(series.instances[0].header).names & set(organ.body_parts))


def _no_pictures(series: Series) -> tuple[Instance, ...]:
    return tuple(one for one in series.instances if not _is_picture(one))


def _is_picture(instance: Instance) -> bool:
    """Return whether this is a slice that was made a picture: a Secondary Capture of CT or of no modality."""
    kind = instance.text("ImageType").upper().split("\\")[:2]
    secondary = instance.ref.sop_class_uid == _SECONDARY_CAPTURE and kind == ["DERIVED", "SECONDARY"]
    return secondary and instance.text("Modality") in {"CT", "OT"}


def _slices(instances: tuple[Instance, ...]) -> _Slices:
    """Decode what `_sources` chose.

    Raises: BrokenSeries if an image cannot be decoded, or slices that were a stack are none.
    """
    if _is_picture(instances[0]):
        return _Slices(instances, [_gray(one) for one in instances], lambda _, values: values, hounsfield=False)
    slices = stack(instances)
    if isinstance(slices, OutOfScope):
        raise BrokenSeries(slices.reason)
    return _upright(slices, volume(slices))


def _upright(slices: Stack, scan: Volume) -> _Slices:
    """Return the slices from the feet to the head as a standing reader sees them, however they were acquired."""
    numbers = [round(slices.pixel(scan.position((z, 0, 0)))[0]) for z in range(len(scan.values))]

    def acquired(z: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        _, y, x = voxels_under(slices, numbers[z], scan)
        at = np.rint(y).astype(int), np.rint(x).astype(int)
        return np.asarray(values[at], np.float32)

    return _Slices(tuple(slices.instances[n] for n in numbers), tuple(scan.values), acquired, hounsfield=True)


def _gray(instance: Instance) -> NDArray[np.uint8]:
    """Return a picture as it came, in gray; 8-bit values are not stretched."""
    if instance.text("SamplesPerPixel") in {"", "1"} and instance.text("BitsStored") == "8":
        return np.asarray(modality_values(instance.path), np.uint8)
    return np.asarray(picture(instance.path).mean(axis=-1), np.uint8)


def build(environment: ModelEnvironment) -> CtTumor:
    """Return the handler."""
    return CtTumor(environment)


def benchmark(environment: ModelEnvironment, *, full_size: bool, runs: int) -> "Table":
    """Return head and rows of how long a series takes with its maps, ours beside Keras on TensorFlow."""
    from ainode.models.ct_tumor.benchmark import benchmark as measured  # noqa: PLC0415

    path = None if full_size else environment.weights.verified("ct_tumor/lung")
    return measured(path, cache=environment.cache, runs=runs)
