"""Which of its classes does a site's own network see? On each image, on a stack slice by slice, or on a volume.

The network, its input and its classes are those of a `model.toml` (`handlers/README.md`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ainode.handlers import each_read, grouped, saliency, unread
from ainode.handlers.described.base import DescribedReading, joined
from ainode.handlers.described.classes import classes_of, leading_number, threshold_parameters
from ainode.handlers.described.description import ACTIVATIONS, PICTURE
from ainode.models.described.scaling import Activation, Values, activated, probabilities
from ainode.models.errors import UnusablePicture
from ainode.node.domain import Capture, Finding, Instance, OutOfScope, Result, Saliency, Selection, refs
from ainode.node.errors import WeightsError
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.reading.described import DescribedModel
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.handlers.described.volumes import Scan
    from ainode.models.described.placement import Placement


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """What the network says of one image, or of a stack that the image stands for."""

    instance: Instance
    probabilities: Values
    shown: Saliency | None = None
    place: str = ""
    """`image 1`, '' of a stack"""
    seen: str = ""
    """what share of the image or the volume was seen, in words; '' where it is the whole"""


class Classify(DescribedReading):
    """The handler of a model that gives a probability for each class."""

    def __init__(self, environment: ModelEnvironment, model: DescribedModel) -> None:
        super().__init__(environment, model)
        output = self.description.output
        self._activation = cast("Activation", output.text("activation", choices=ACTIVATIONS))
        self.refuse_second(self._activation)
        self._classes = classes_of(output, self.site)
        self.answer_count = len(self._classes)
        if self._activation == "softmax" and len(self._classes) == 1:
            raise output.wrong("activation", 'softmax over one class is 1 always; "sigmoid" reads one class')
        self._over_slices = cast("Literal['max', 'mean']", output.text("over_slices", "max", choices=("max", "mean")))
        if output.has("over_slices") and not (
            self.description.takes.is_stack and self.description.input.dimensions == PICTURE
        ):
            raise output.wrong("over_slices", 'slices are read one by one by dimensions = 2 and images = "stack"')
        self._is_shown = output.flag("saliency", default=True)
        output.refuse_unknown()
        if not any(item.threshold for item in self._classes):
            raise output.wrong_together("no class has a threshold; the classes that are findings have one")
        self._saliency_kind = ""

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return a finding for each class with a threshold, on each image or on the stack."""
        self.begin_study()
        if not self.description.takes.is_stack:
            return self._of_images(selection)
        slices = stack(selection.instances)
        if isinstance(slices, OutOfScope):
            return slices
        try:
            answer = self._of_stack(slices)
        except UnusablePicture as error:
            return OutOfScope(str(error), "unusable-pixels", refs(selection.instances))
        return self._result(selection, slices.instances, [answer], list(selection.declined.values()))

    def _of_images(self, selection: Selection) -> Result | OutOfScope:
        answers, unusable = each_read(selection.instances, self._of_image)
        if not answers:
            return grouped(unusable)
        named = [replace(answer, place=f"image {number}") for number, (_, answer) in enumerate(answers, start=1)]
        read = tuple(instance for instance, _ in answers)
        return self._result(selection, read, named, [*selection.declined.values(), *unusable])

    def _of_image(self, instance: Instance) -> ImageAnswer:
        from ainode.handlers.described.pictures import prepared, seen_text  # noqa: PLC0415 - brings cv2 along

        inputs, placement = prepared(instance, self.description.input)
        probabilities, seen = self._probabilities(inputs), seen_text(placement.seen_share, "image")
        shown = None
        if self._is_shown:
            shown = saliency(self._attention_on(inputs, placement, leading_number(self._classes, probabilities)))
        return ImageAnswer(instance, probabilities, shown, seen=seen)

    def _of_stack(self, slices: Stack) -> ImageAnswer:
        """Return the answer on a stack, for which the slice stands that decides."""
        from ainode.handlers.described.volumes import Scan  # noqa: PLC0415 - brings scipy along

        scan = Scan(slices)
        is_flat = self.description.input.dimensions == PICTURE
        return self._of_planes(scan) if is_flat else self._of_volume(scan)

    def _of_volume(self, scan: "Scan") -> ImageAnswer:
        from ainode.handlers.described.pictures import seen_text  # noqa: PLC0415
        from ainode.handlers.described.volumes import prepared_volume  # noqa: PLC0415
        from ainode.models.described.attention import deciding_place  # noqa: PLC0415
        from ainode.models.described.grids import enlarged  # noqa: PLC0415

        inputs, placement = prepared_volume(scan, self.description.input)
        probabilities = self._probabilities(inputs)
        answer = ImageAnswer(scan.middle, probabilities, seen=seen_text(placement.seen_share, "volume"))
        if not self._is_shown:
            return answer
        leading = leading_number(self._classes, probabilities)
        coarse = self._attention(inputs, leading)
        whole = placement.on_source(enlarged(coarse, placement.target))
        if not whole.any():
            return answer
        place = deciding_place(
            coarse,
            inputs,
            placement.order.index(scan.across),
            lambda hidden: float(self._probabilities(hidden)[leading]),
            is_channels_last=self.description.input.is_channels_last,
        )
        return self._shown_on_slice(answer, scan, scan.number_of(placement.index_on_source(place)), whole)

    def _of_planes(self, scan: "Scan") -> ImageAnswer:
        """Return the answer on slices that are read one by one: the highest probability of a class, or the mean."""
        from ainode.handlers.described.pictures import seen_text  # noqa: PLC0415
        from ainode.handlers.described.volumes import prepared_planes  # noqa: PLC0415

        planes, turned = prepared_planes(scan, self.description.input)
        answers = np.stack([self._probabilities(inputs) for inputs, _ in planes])
        probabilities = answers.max(axis=0) if self._over_slices == "max" else answers.mean(axis=0)
        leading = leading_number(self._classes, probabilities)
        number = int(answers[:, leading].argmax())
        # Anew, for all slices as inputs at a time may be more than the memory.
        inputs, placement = next(islice(prepared_planes(scan, self.description.input)[0], number, None))
        answer = ImageAnswer(scan.middle, probabilities, seen=seen_text(placement.seen_share, "volume"))
        whole = np.zeros(turned.target, np.float32)
        if self._is_shown:
            whole[number] = self._attention_on(inputs, placement, leading)
        place = scan.number_of(turned.index_on_source((number, 0, 0)))
        return self._shown_on_slice(answer, scan, place, turned.on_source(whole))

    def _shown_on_slice(self, answer: ImageAnswer, scan: "Scan", number: int, whole: Values) -> ImageAnswer:
        """Return the answer for which a slice stands, with what a map on the voxels of the volume shows there."""
        shown = saliency(np.asarray(scan.on_slice(whole, number), np.float32)) if self._is_shown else None
        return replace(answer, instance=scan.slices.instances[number], shown=shown)

    def _probabilities(self, inputs: Values) -> Values:
        """Return the probability of each class.

        Raises: as `_of_classes`.
        """
        return self._of_classes(self.network(inputs)[0])

    def _of_classes(self, logits: Values) -> Values:
        """Return the probability of each class by the numbers of an answer.

        Raises: WeightsError if the network answers with another number of classes; UnusablePicture if with no
        probabilities.
        """
        if logits.size != len(self._classes):
            raise WeightsError(
                f"{self.name}: the network answers with {logits.size} numbers, model.toml names "
                f"{len(self._classes)} classes; name as many below [[output.classes]]"
            )
        # An activation makes a 1 or a 0 of what is infinite.
        is_finite = np.isfinite(logits).all()
        values = activated(logits.reshape(-1), self._activation if is_finite else "none")
        return probabilities(values, "the network's answer")

    def _attention(self, inputs: Values, number: int) -> Values:
        from ainode.models.described.attention import attention  # noqa: PLC0415

        is_last = self.description.input.is_channels_last
        shown, self._saliency_kind = attention(self.network, inputs, number, self._activation, is_channels_last=is_last)
        return shown

    def _attention_on(self, inputs: Values, placement: "Placement", number: int) -> Values:
        return placement.on_source(self._attention(inputs, number))

    def _result(
        self,
        selection: Selection,
        read: tuple[Instance, ...],
        answers: Sequence[ImageAnswer],
        refusals: Collection[OutOfScope],
    ) -> Result:
        scores = {
            f"{answer.place} {item.name}".strip(): float(probability)
            for answer in answers
            for item, probability in zip(self._classes, answer.probabilities, strict=True)
        }
        findings = [self._findings(answer) for answer in answers]
        parameters = {**self._parameters(), **unread(refusals)}
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self.algorithm(parameters, (answer.seen for answer in answers)),
            title=self.description.title,
            procedure=self.description.procedure,
            findings=tuple(finding for group in findings for finding in group.values()),
            captures=tuple(self._capture(*pair) for pair in zip(answers, findings, strict=True)),
            evidence=refs(read),
            key_images=refs(dict.fromkeys(answer.instance for answer in answers)),
            scores=scores,
        )

    def _parameters(self) -> dict[str, str]:
        texts = {
            "activation": self._activation,
            "saliency": self._saliency_kind or "none",
            **threshold_parameters(self._classes),
        }
        if self.description.takes.is_stack and self.description.input.dimensions == PICTURE:
            texts["slices"] = f"read one by one, {self._over_slices} of each class"
        return texts

    def _findings(self, answer: ImageAnswer) -> dict[int, Finding]:
        """Return the finding of each class that is one, by the number of the class."""
        pairs = enumerate(zip(self._classes, answer.probabilities, strict=True))
        return {
            number: item.finding(answer.instance.ref, answer.place, float(value))
            for number, (item, value) in pairs
            if item.threshold
        }

    def _capture(self, answer: ImageAnswer, findings: dict[int, Finding]) -> Capture:
        subject = findings[leading_number(self._classes, answer.probabilities)]
        return Capture(
            answer.instance.ref,
            joined((self.description.title, answer.place), ", "),
            tuple(filter(None, (answer.seen,))),
            saliency=answer.shown,
            subject=subject,
            beside=tuple(finding for finding in findings.values() if finding is not subject),
            window=self.window_of(answer.instance),
        )


def build(environment: ModelEnvironment, model: DescribedModel) -> Classify:
    """Return the handler of a described model."""
    if model.format == "bundle":
        from ainode.handlers.described.bundles import BundleClassify  # noqa: PLC0415 - it is made of this module

        return BundleClassify(environment, model)
    return Classify(environment, model)
