"""A handler that reads a CT with its priors and says how long a part of that took."""

from dataclasses import replace

from ainode.node.domain import OutOfScope, Result, Selection, SyntheticStudy
from ainode.node.reading.weights import ModelEnvironment
from support.handler import Obedient

REGISTER_S = 0.25


class Timed(Obedient):
    """Registers nothing, and says that it took a quarter of a second."""

    def read(self, selection: Selection) -> Result | OutOfScope:
        answer = super().read(selection)
        return replace(answer, seconds={"register": REGISTER_S}) if isinstance(answer, Result) else answer

    def demonstration(self, seed: int) -> SyntheticStudy:
        from ainode.node.testing import noise  # most reader processes need neither it nor what it imports

        image = noise(
            512, 512, seed=seed, SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT", SeriesDescription="read"
        )
        return SyntheticStudy((replace(image, header={**image.header, "ImagePositionPatient": (0.0, 0.0, 0.0)}),))


def registering() -> tuple[float, ...]:
    return 1.0, 3.0, 1.5


def build(environment: ModelEnvironment) -> Timed:
    del environment
    return Timed()
