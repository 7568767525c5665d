"""Is there a tumor of the lung or of the pancreas on this CT? Every slice is read, the study from its slices.

The body part of a series says which organ is read: a chest the lung, an abdomen with contrast the pancreas, a scan of
both, both. Slices that came as pictures, windowed already, are read too. The lung of a whole CT is not judged by its
slices: where the route says `detect = true` nodules are searched in it, elsewhere it is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ainode.handlers import (
    LUNG,
    MALIGNANT,
    PROBABILITY,
    PROBABILITY_OF_CANCER,
    algorithm,
    body_parts,
    loaded,
    percent,
    saliency,
    selection_of,
    threshold_texts,
    verdict_on,
)
from ainode.handlers.ct_tumor.candidates import CAUTION, UNSEARCHED, WEIGHTS, Candidates, LungSearch
from ainode.handlers.ct_tumor.slices import OrganSlices, are_pictures, organ_instances, organ_slices
from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.errors import UnusablePicture
from ainode.node.domain import (
    Algorithm,
    Capture,
    Code,
    Finding,
    Header,
    Instance,
    InstanceRef,
    OutOfScope,
    Presence,
    Result,
    Selection,
    Series,
    Study,
    SyntheticStudy,
    probability_text,
    refs,
)
from ainode.node.imaging.ct_look import CtLook, look_at
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.benchmarking import Table
    from ainode.models.ct_tumor.model import Reading, SliceReading, TumorModel

PACKAGES = ("cv2", "h5py", "keras", "openvino", "safetensors", "scipy", "torch")
"""what reading needs beside the node's own packages"""
PICTURES = "slice"
"""what a picture file that `ainode read` is given shows, as the original took it"""

_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
_CLASSES = {
    "normal": Code("17621005", "SCT", "Normal"),
    "benign": Code("30807003", "SCT", "Benign"),
    "malignant": MALIGNANT,
    "tumor": Code("108369006", "SCT", "Neoplasm"),
}
_PROBABILITIES = {
    "normal": Code("prob-normal", "99AINODE", "Probability of normal"),
    "benign": Code("prob-benign", "99AINODE", "Probability of benign"),
    "malignant": PROBABILITY_OF_CANCER,
    "tumor": Code("prob-neoplasm", "99AINODE", "Probability of neoplasm"),
}
"""names of the probabilities of classes that were not chosen"""
_SITES = {"lung": LUNG, "pancreas": Code("15776009", "SCT", "Pancreas")}
_LUNG = "lung"
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
    """The handler: loads its networks when it is prepared, else an organ's at the first study of it."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment
        self._card = read_card()
        self._models: dict[str, TumorModel] = {}
        self._search = LungSearch(environment)

    def weights(self) -> tuple[str, ...]:
        """Return the names of both organs' weights, and those of the search."""
        return (*(self._weights(organ) for organ in self._card.organs), *WEIGHTS)

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the best stack of each organ, or slices that are pictures, by their headers."""
        answers = {organ.name: organ_instances(organ, study.series) for organ in self._card.organs}
        chosen = {instance for answer in answers.values() if isinstance(answer, tuple) for instance in answer}
        declined = {name: answer for name, answer in answers.items() if isinstance(answer, OutOfScope)}
        if chosen:
            selection = selection_of(study, chosen)
            return replace(selection, declined=declined, wanted_candidates=study.wanted_candidates)
        return self._refusal(declined, study.series)

    def look(self, selection: Selection) -> Selection | OutOfScope:
        """Return the selection without the organs whose slices show another part, or hold no Hounsfield units.

        Pictures hold none, and are not looked at. The lung of a whole CT is declined where the route does not search,
        but not before the pixels show a lung.
        """
        organs = [organ for organ in self._card.organs if organ.name not in selection.declined]
        answers = {organ.name: organ_instances(organ, selection.series) for organ in organs}
        stacks = {name: stack(answer) for name, answer in answers.items() if isinstance(answer, tuple)}
        # A scan of both organs is looked at once.
        looks = {slices: look_at(slices) for slices in stacks.values() if isinstance(slices, Stack)}
        refusals = {
            name: refusal
            for name, slices in stacks.items()
            if isinstance(slices, Stack) and (refusal := _look_refusal(name, looks[slices], selection))
        }
        declined = {**selection.declined, **refusals}
        if refusals and len(refusals) == len(stacks):
            return self._refusal(declined, selection.series)
        return replace(selection, declined=declined)

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return what is said of each organ, and its key slices; no body at all is out of scope."""
        refusals = dict(selection.declined)
        readings: dict[str, _OrganReading | Candidates] = {}
        for organ in self._card.organs:
            instances = organ_instances(organ, selection.series)
            if isinstance(instances, OutOfScope) or organ.name in selection.declined:
                continue
            answer = self._organ_answer(organ, instances, selection)
            if isinstance(answer, OutOfScope):
                refusals[organ.name] = answer
            else:
                readings[organ.name] = answer
        specific_refusals = {name: reason for name, reason in refusals.items() if reason.code != "wrong-body-part"}
        if readings:
            return self._result(selection, readings, specific_refusals)
        return self._refusal(refusals, selection.series)

    def _organ_answer(
        self, organ: Organ, instances: tuple[Instance, ...], selection: Selection
    ) -> "_OrganReading | Candidates | OutOfScope":
        """Return what is said of one organ: by its slices; of the lung of a whole CT, by the search."""
        if organ.name == _LUNG and not are_pictures(instances):
            return _unsearched(instances, selection) or self._search.read(instances, selection)
        slices = organ_slices(organ, instances)
        if isinstance(slices, OutOfScope):
            return slices
        try:
            model = self._model(organ)
            reading = model.read(slices.values) if slices.hounsfield else model.read_pictures(slices.values)
        except UnusablePicture as error:
            return OutOfScope(f"{organ.name}: {error}", "unusable-pixels", refs(instances))
        return _OrganReading(organ, slices, reading, model)

    def prepare(self) -> tuple[object, ...]:
        """Return the loaded networks of each organ, and of the search."""
        return (*map(self._model, self._card.organs), self._search.prepare())

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic abdomen with a tumor of the pancreas."""
        from ainode.models.phantoms.abdomen import abdomen  # noqa: PLC0415
        from ainode.node.testing import ct  # noqa: PLC0415

        phantom = abdomen(np.random.default_rng(seed), tumor=True)
        return SyntheticStudy(ct(phantom.values, phantom.spacing_mm, frame=f"abdomen {seed}", header=_DEMONSTRATION))

    def _refusal(self, refusals: Mapping[str, OutOfScope], series: Sequence[Series]) -> OutOfScope:
        """Return the refusal of a study of which no organ is read: what is said of each organ that it may show."""
        specific_refusals = {
            organ.name: refusal
            for organ in self._card.organs
            if (refusal := refusals.get(organ.name)) and refusal.code != "wrong-body-part"
        }
        if not specific_refusals:
            return self._elsewhere(series)
        first, *others = specific_refusals.values()
        if all(other.reason == first.reason for other in others):
            return first
        reason = "; ".join(f"{name}: {refusal.reason}" for name, refusal in specific_refusals.items())
        return replace(first, reason=reason)

    def _elsewhere(self, series: Sequence[Series]) -> OutOfScope:
        organs = " and ".join(f"{' or '.join(organ.body_parts)} for the {organ.name}" for organ in self._card.organs)
        reason = f"the body part is {body_parts(series)}; the model reads {organs}"
        return OutOfScope(reason, "wrong-body-part", refs(item.instances[0] for item in series))

    def _weights(self, organ: Organ) -> str:
        return f"{self._card.name}/{organ.name}"

    def _model(self, organ: Organ) -> "TumorModel":
        from ainode.models.ct_tumor.model import TumorModel  # noqa: PLC0415

        if organ.name not in self._models:
            name, environment = self._weights(organ), self._environment
            path = environment.weights.verified(name)
            self._models[organ.name] = loaded(TumorModel.load, path, organ, name=name, environment=environment)
        return self._models[organ.name]

    def _algorithm(
        self, readings: Mapping[str, "_OrganReading | Candidates"], refusals: Mapping[str, OutOfScope]
    ) -> Algorithm:
        searched = [name for name, reading in readings.items() if isinstance(reading, Candidates)]
        by_slices = [organ for organ in self._card.organs if organ.name in readings and organ.name not in searched]
        names = (*map(self._weights, by_slices), *(WEIGHTS if searched else ()))
        parameters = dict(pair for reading in readings.values() for pair in reading.parameters())
        parameters |= {
            f"{name} {'searched' if refusal.code == 'no-candidate' else 'not read'}": refusal.reason
            for name, refusal in refusals.items()
        }
        cautions = (
            *(f"{name}: {CAUTION}" for name in searched),
            *(f"{organ.name}: {organ.caution}" for organ in by_slices),
        )
        card = replace(self._card, limits=replace(self._card.limits, known_limits=cautions))
        return algorithm(card, self._environment.weights, weights=names, parameters=parameters)

    def _result(
        self,
        selection: Selection,
        readings: Mapping[str, "_OrganReading | Candidates"],
        refusals: Mapping[str, OutOfScope],
    ) -> Result:
        answers = tuple(readings.values())
        key_images = tuple(dict.fromkeys(ref for answer in answers for ref in answer.key_images))
        evidence = tuple(dict.fromkeys(ref for answer in answers for ref in answer.evidence))
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm(readings, refusals),
            title=f"CT tumor, {' and '.join(readings)}",
            procedure=_PROCEDURE,
            findings=tuple(finding for answer in answers for finding in answer.findings()),
            captures=tuple(capture for answer in answers for capture in answer.captures()),
            evidence=evidence,
            key_images=key_images,
            scores={"probability": max(answer.score for answer in answers)}
            | {name: value for answer in answers for name, value in answer.scores().items()},
        )


class _OrganReading:
    """What the model says of one organ, in the node's words."""

    def __init__(self, organ: Organ, slices: OrganSlices, reading: "Reading", model: "TumorModel") -> None:
        self.organ, self.slices, self._reading, self._model = organ, slices, reading, model
        self._key_slices = reading.key_slices(_KEY_SLICES, organ.positive_index)
        self.key_images = tuple(slices.instances[slice_reading.index].ref for slice_reading in self._key_slices)

    @property
    def score(self) -> float:
        """Return the probability that the organ holds a tumor, of the whole study."""
        return self._reading.score

    @property
    def evidence(self) -> tuple[InstanceRef, ...]:
        """Return the slices that the answer rests on."""
        return refs(self.slices.instances)

    def findings(self) -> tuple[Finding, ...]:
        """Return the only finding."""
        return (self.finding(),)

    def finding(self) -> Finding:
        """Return the chosen class, with the verdict on the class that means a tumor and the probability of every class.

        The tumor is chosen where its probability is above the threshold, else the likeliest class.
        """
        organ = self.organ
        shares = dict(zip(organ.class_names, map(float, self._reading.probabilities), strict=True))
        likeliest = max(shares, key=lambda name: shares[name])
        verdict = verdict_on(self.score, self._model.calibration.threshold, organ.band)
        chosen = likeliest if verdict.presence is Presence.ABSENT else organ.positive
        if chosen != organ.positive:
            verdict = replace(verdict, about=_CLASSES[organ.positive])
        # First the probability that the verdict is on.
        names = sorted(shares, key=lambda name: name != organ.positive)
        return Finding(
            # What is judged, whatever the verdict: a later reading may choose another class.
            tracking_identifier=f"{organ.name} {organ.positive}",
            concept=_CLASSES[chosen],
            site=_SITES[organ.name],
            measurements=tuple(
                percent(PROBABILITY if name == chosen else _PROBABILITIES[name], shares[name], self.key_images)
                for name in names
            ),
            evidence=self.key_images,
            verdict=verdict,
        )

    def captures(self) -> tuple[Capture, ...]:
        """Return a picture of every key slice with the map of what speaks for a tumor."""
        return tuple(map(self._capture, self._key_slices))

    def _capture(self, key_slice: "SliceReading") -> Capture:
        organ = self.organ
        classes = zip(organ.class_names, key_slice.probabilities, strict=True)
        shares = ", ".join(f"{name} {probability_text(share, 3)}" for name, share in classes)
        return Capture(
            image=self.slices.instances[key_slice.index].ref,
            title=f"CT tumor, {organ.name}, slice {self._number(key_slice)} of {self.slices.whole_count}",
            captions=(f"This slice: {shares}",),
            saliency=saliency(self.slices.acquired(key_slice.index, key_slice.saliency())),
            subject=self.finding(),
        )

    def _number(self, slice_reading: "SliceReading") -> int:
        """Return the number of a slice in the whole scan, as a person counts."""
        return self.slices.numbers[slice_reading.index]

    def scores(self) -> Mapping[str, float]:
        """Return every number by name: of the study per class, of every slice for the tumor."""
        organ, index = self.organ, self.organ.positive_index
        class_shares = zip(organ.class_names, self._reading.probabilities, strict=True)
        study = {f"{organ.name} {name}": float(share) for name, share in class_shares}
        prefix = f"{organ.name} {organ.positive} slice"
        slices = self._reading.slices
        return study | {f"{prefix} {self._number(item)}": float(item.probabilities[index]) for item in slices}

    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Return what decided the answer, for the report."""
        organ, model, rule = self.organ, self._model, self._model.calibration
        window = f"level {organ.level:g} width {organ.width:g} HU" if self.slices.hounsfield else "as it came"
        read_count, count = len(self._reading.slices), len(self.slices.instances)
        return (
            *threshold_texts(rule.threshold, organ.band, f"{organ.name} {organ.positive}").items(),
            (f"{organ.name} calibration temperature", f"{rule.temperature:g}"),
            (
                f"{organ.name} study score",
                f"mean of the highest {rule.share:.0%} of {read_count} slices read of {count}",
            ),
            (f"{organ.name} input", f"{organ.side} x {organ.side}, body alone, window {window}"),
            *(((f"{organ.name} read", self.slices.statement),) if self.slices.statement else ()),
            (f"{organ.name} precision", f"{model.network.run.precision} on {model.network.run.device}"),
        )


def _look_refusal(organ_name: str, seen: CtLook, selection: Selection) -> OutOfScope | None:
    """Return why an organ is not read of what was seen; None if it is read."""
    if organ_name != _LUNG:
        return seen.unit_refusal or seen.abdomen_refusal
    return seen.unit_refusal or seen.chest_refusal or _unsearched(seen.scan.instances, selection)


def _unsearched(slices: Sequence[Instance], selection: Selection) -> OutOfScope | None:
    """Return the refusal of the lung of a whole CT where the route does not search; None where it does."""
    return None if selection.wanted_candidates else OutOfScope(UNSEARCHED, "not-searched", refs(slices[:1]))


def build(environment: ModelEnvironment) -> CtTumor:
    """Return the handler."""
    return CtTumor(environment)


def benchmark(environment: ModelEnvironment, *, full_size: bool, runs: int) -> "Table":
    """Return head and rows of how long a series takes with its maps, ours beside Keras on TensorFlow."""
    from ainode.models.ct_tumor.benchmark import benchmark as measured  # noqa: PLC0415

    path = None if full_size else environment.weights.verified("ct_tumor/lung")
    return measured(path, cache=environment.cache, runs=runs)
