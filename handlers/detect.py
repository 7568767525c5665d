"""What does a site's own network find, and where? Boxes on each image of the study.

The network, its input and its classes are those of a `model.toml` (`handlers/README.md`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ainode.handlers import unread
from ainode.handlers.described.base import ImageReading
from ainode.handlers.described.classes import classes_of, leading_number, threshold_parameters
from ainode.models.described.boxes import Box, BoxForm, Corners
from ainode.models.described.scaling import Values
from ainode.node.domain import Capture, Finding, Instance, InstanceRef, OutOfScope, Region, Result, Selection, refs
from ainode.node.reading.described import DescribedModel
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.described.placement import Placement

_MOST_BOXES = 100


@dataclass(frozen=True, slots=True)
class ScoredBoxes:
    """What the network says of one image: boxes, and the best score of each class."""

    boxes: tuple[Box, ...]
    best: tuple[float, ...]


class Detect(ImageReading[ScoredBoxes]):
    """The handler of a model that gives boxes."""

    output_keys = ("boxes", "scores", "labels")

    def __init__(self, environment: ModelEnvironment, model: DescribedModel) -> None:
        super().__init__(environment, model)
        output = self.description.output
        if not (output.text("boxes", "") and output.text("scores", "")):
            raise output.wrong_together("the names of the outputs with boxes and with scores are needed")
        self._classes = classes_of(output, self.site)
        if not all(item.threshold for item in self._classes):
            raise output.wrong_together("each class needs a threshold, above which its boxes are shown")
        self._form = BoxForm(
            cast("Corners", output.text("corners", choices=("xyxy", "cxcywh", "xywh"))),
            output.flag("normalized", default=False),
            output.whole("first_label", 1, least=0, most=1000),
            output.number("overlap", 0.5, least=0, most=1),
            output.whole("most_boxes", 20, least=1, most=_MOST_BOXES),
            output.flag("last_is_background", default=False),
        )
        output.refuse_unknown()

    def _placed(self, outputs: tuple[Values, ...], placement: "Placement") -> ScoredBoxes:
        thresholds = [item.threshold or 1.0 for item in self._classes]
        return ScoredBoxes(*self._form.boxes(outputs, placement, thresholds))

    def _result(
        self,
        selection: Selection,
        answers: Sequence[tuple[Instance, tuple[ScoredBoxes, str]]],
        refusals: Collection[OutOfScope],
    ) -> Result:
        """Return for each image a finding of each class, by its best score, and one for each box."""
        findings: list[Finding] = []
        captures: list[Capture] = []
        for number, (instance, (answer, seen)) in enumerate(answers, start=1):
            image, place = instance.ref, f"image {number}"
            pairs = zip(self._classes, answer.best, strict=True)
            whole = [item.finding(image, place, best) for item, best in pairs]
            boxes = [self._box(image, f"{place} box {count}", box) for count, box in enumerate(answer.boxes, start=1)]
            findings += [*whole, *boxes]
            subject = whole[leading_number(self._classes, answer.best)]
            others = tuple(finding for finding in whole if finding is not subject)
            captions = (seen,) if seen else ()
            title = f"{self.description.title}, {place}"
            captures.append(Capture(image, title, captions, findings=tuple(boxes), subject=subject, beside=others))
        evidence = refs(instance for instance, _ in answers)
        parameters = {**self._parameters(), **unread(refusals)}
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self.algorithm(parameters, (seen for _, (_, seen) in answers)),
            title=self.description.title,
            procedure=self.description.procedure,
            findings=tuple(findings),
            captures=tuple(captures),
            evidence=evidence,
            key_images=evidence,
            scores={f.tracking_identifier: f.verdict.probability for f in findings if f.verdict},
        )

    def _parameters(self) -> dict[str, str]:
        form = self._form
        boxes = f"{form.most_boxes} at most on an image, of one class with an overlap (IoU) of at most {form.overlap:g}"
        return {"boxes": boxes, **threshold_parameters(self._classes)}

    def _box(self, image: InstanceRef, place: str, box: Box) -> Finding:
        region = Region.box(image, left=box.left, top=box.top, right=box.right, bottom=box.bottom)
        return self._classes[box.class_number].finding(image, place, box.score, region)


def build(environment: ModelEnvironment, model: DescribedModel) -> Detect:
    """Return the handler of a described model."""
    return Detect(environment, model)
