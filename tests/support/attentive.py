"""A handler that looks at the middle of every slice, and draws a box around it."""

import numpy as np

from ainode.node.domain import Capture, Code, Finding, Region, Result, Saliency, Selection, Study
from ainode.node.reading.weights import ModelEnvironment
from support.handler import Obedient, result

LESION, LUNG = Code("52988006", "SCT", "Lesion"), Code("39607008", "SCT", "Lung")
SIDE = 128
HEAT = np.rint(255 * np.outer(np.hanning(SIDE), np.hanning(SIDE))).astype(np.uint8)


class Attentive(Obedient):
    """Reads square slices of 128 pixels."""

    def select(self, study: Study) -> Selection:
        return Selection(study.study_instance_uid, study.series)

    def read(self, selection: Selection) -> Result:
        images = [instance.ref for instance in selection.instances]
        boxes = [
            Finding(
                f"lesion {number}", LESION, LUNG, (), (image,), Region.box(image, left=32, top=32, right=96, bottom=96)
            )
            for number, image in enumerate(images, start=1)
        ]
        captures = tuple(
            Capture(image, "Attention", (), Saliency(SIDE, SIDE, HEAT.tobytes()), (box,))
            for image, box in zip(images, boxes, strict=True)
        )
        whole = result(selection)
        return Result(
            study_instance_uid=whole.study_instance_uid,
            algorithm=whole.algorithm,
            title="Attention",
            procedure=whole.procedure,
            findings=(*whole.findings[:1], *boxes),
            captures=captures,
            evidence=tuple(images),
            key_images=tuple(images),
            scores=whole.scores,
        )


def build(environment: ModelEnvironment) -> Attentive:
    del environment
    return Attentive()
