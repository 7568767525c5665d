"""A handler that does what a Series Description says: read, healthy, decline, slow, told, hang, crash, leak, raise.

`told` is read once there is a file of that name in the folder of the node; a file `begun` is there before.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

from ainode.node.domain import (
    Algorithm,
    Code,
    Finding,
    Measurement,
    OutOfScope,
    Region,
    Result,
    Selection,
    Study,
    SyntheticStudy,
    Verdict,
    WeightsStatus,
)
from ainode.node.reading.weights import ModelEnvironment

PROBABILITY = Code("122157", "DCM", "Probability")
PERCENT = Code("%", "UCUM", "%")
ABNORMAL = Code("263654008", "SCT", "Abnormal")
SPINE = Code("421060004", "SCT", "Spine")
PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
BOX = (10.0, 20.0, 110.0, 220.0)
"""left, top, right, bottom in pixels"""


_SECONDS = {"slow": 4, "hang": 3600}


class Obedient:
    """Reads by instruction, needs no weights."""

    def select(self, study: Study) -> Selection | OutOfScope:
        if study.instances[0].text("SeriesDescription") == "decline":
            return OutOfScope("this study asks to be declined", "declined")
        return Selection(study.study_instance_uid, study.series)

    def read(self, selection: Selection) -> Result | OutOfScope:
        order = selection.instances[0].text("SeriesDescription")
        if order in _SECONDS:
            time.sleep(_SECONDS[order])
        elif order == "told":
            Path("begun").touch()
            while not Path("told").exists():
                time.sleep(0.05)
        elif order == "crash":
            os._exit(7)
        elif order == "leak":
            hoard = [bytearray(1 << 20) for _ in range(2000)]
            time.sleep(60)
            del hoard
        elif order == "raise":
            raise ZeroDivisionError
        return healthy(selection) if order == "healthy" else result(selection)

    def weights(self) -> tuple[str, ...]:
        return ()

    def demonstration(self, seed: int) -> SyntheticStudy:
        from ainode.node.testing import noise  # most reader processes need neither it nor what it imports

        return SyntheticStudy((noise(512, 512, seed=seed, SeriesDescription="read"),))


def result(selection: Selection) -> Result:
    """Return a result with one box at known pixels."""
    image = selection.instances[0].ref
    left, top, right, bottom = BOX
    certainty = Measurement(PROBABILITY, 81.0, PERCENT, (image,))
    whole = Finding("whole image", ABNORMAL, SPINE, (certainty,), (image,))
    boxes = tuple(
        Finding(
            f"box {number}",
            Code("52988006", "SCT", "Lesion"),
            SPINE,
            (certainty,),
            (image,),
            region=Region.box(image, left=left + shift, top=top, right=right + shift, bottom=bottom),
            label=f"Lesion {number}",
        )
        for number, shift in ((1, 0.0), (2, 150.0))
    )
    return Result(
        study_instance_uid=selection.study_instance_uid,
        algorithm=Algorithm("obedient", "1", "0" * 64, WeightsStatus.DEMONSTRATION),
        title="Obedience",
        procedure=PROCEDURE,
        findings=(whole, *boxes),
        captures=(),
        evidence=(image,),
        key_images=(image,),
        scores={"probability": 0.81},
    )


def healthy(selection: Selection) -> Result:
    """Return a result without a box, whose probability is below the threshold."""
    image = selection.instances[0].ref
    probability = Measurement(PROBABILITY, 33.0, PERCENT, (image,))
    verdict = Verdict.of(0.33, 0.416)
    whole = Finding("spine abnormal", ABNORMAL, SPINE, (probability,), (image,), verdict=verdict)
    return replace(result(selection), findings=(whole,), scores={"probability": 0.33})


def build(environment: ModelEnvironment) -> Obedient:
    del environment
    return Obedient()
