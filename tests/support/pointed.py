"""A handler that compares up to three time points and says in its scores what it was given."""

import dataclasses

from ainode.node.domain import OutOfScope, Result, Selection, Study, SyntheticStudy
from ainode.node.reading.weights import ModelEnvironment
from support import handler

TIME_POINTS = 3
PICTURES = "slice"


class Pointed:
    """Selects everything, newest study first."""

    def select(self, study: Study) -> Selection | OutOfScope:
        earlier = tuple(series for prior in reversed(study.priors) for series in prior.series)
        return Selection(study.study_instance_uid, study.series + earlier, study.locations)

    def read(self, selection: Selection) -> Result | OutOfScope:
        scores = {"series": float(len(selection.series)), "instances": float(len(selection.instances))}
        for number, location in enumerate(selection.locations):
            scores |= {f"{axis} {number}": value for axis, value in zip("xyz", location.position_mm, strict=True)}
        images = tuple(series.instances[0].ref for series in selection.series)
        whole = handler.result(selection)
        return dataclasses.replace(whole, findings=whole.findings[:1], scores=scores, evidence=images)

    def weights(self) -> tuple[str, ...]:
        return ()

    def demonstration(self, seed: int) -> SyntheticStudy:
        del seed
        return SyntheticStudy(())


def build(environment: ModelEnvironment) -> Pointed:
    del environment
    return Pointed()
