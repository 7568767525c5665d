"""Where on this portal venous CT may a tumor of the pancreas be, and how large? Regions, and no probability of a tumor.

The network learned from patients who all have a tumor: it knows where a tumor lies if there is one, and not whether
there is one. So what it marks is a candidate, whose presence stays indeterminate, and no mark is no negative answer.
"""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from ainode.handlers import NOT_RULED_OUT, algorithm, body_parts, loaded
from ainode.handlers.pancreas_tumor.enhancing import phase_refusal
from ainode.handlers.pancreas_tumor.reading import Reading
from ainode.models.errors import UnusablePicture
from ainode.models.pancreas_tumor.card import read_card
from ainode.node.domain import (
    Algorithm,
    Code,
    Header,
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
from ainode.node.imaging.ct_look import look_at
from ainode.node.imaging.ct_parts import CtPart, below_lungs
from ainode.node.imaging.ct_series import CtRequirements, ct_stack
from ainode.node.imaging.geometry import stack, volume
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.benchmarking import Table
    from ainode.models.pancreas_tumor.model import PancreasModel

PACKAGES = ("cv2", "openvino", "safetensors", "scipy", "torch")
"""what reading needs beside the node's own packages"""

_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
_DEMONSTRATION: Header = {
    "BodyPartExamined": "ABDOMEN",
    "SeriesDescription": "Synthetic abdomen, portal venous",
    "ConvolutionKernel": "STANDARD",
    "ContrastBolusAgent": "Synthetic",
    "WindowCenter": 40.0,
    "WindowWidth": 400.0,
}


class PancreasTumor:
    """The handler: loads its network when it is prepared, else at the first study it reads."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment
        self._card = read_card()

    def weights(self) -> tuple[str, ...]:
        """Return the name of the network's weights."""
        return (self._card.weights,)

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the slices of the best stack of the abdomen in the portal venous phase, by their headers."""
        abdomens = tuple(series for series in study.series if _may_be_abdomen(series))
        if study.series and not abdomens:
            reason = f"the body part is {body_parts(study.series)}; the model reads ABDOMEN"
            return OutOfScope(reason, "wrong-body-part", refs(study.instances[:1]))
        scan = ct_stack(abdomens, self._requirements())
        if isinstance(scan, OutOfScope):
            needed = f"; read are {self._card.min_slices} slices or more, as DICOM or NIfTI, and no pictures of slices"
            return replace(scan, reason=scan.reason + needed) if scan.code == "no-ct" else scan
        uid = scan.instances[0].ref.series_instance_uid
        return Selection(study.study_instance_uid, (Series(uid, "CT", scan.instances),))

    def look(self, selection: Selection) -> Selection | OutOfScope:
        """Return the selection if its values are Hounsfield units, of an abdomen, and of no other phase."""
        slices = stack(selection.instances)
        if isinstance(slices, OutOfScope):
            return slices
        seen = look_at(slices)
        return seen.unit_refusal or seen.abdomen_refusal or phase_refusal(seen) or selection

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return the regions with their longest axes; an abdomen without a region is out of scope, and not healthy."""
        slices = stack(selection.instances)
        if isinstance(slices, OutOfScope):
            raise BrokenSeries(slices.reason)
        part = below_lungs(slices, volume(slices), self._requirements())
        if isinstance(part, OutOfScope):
            return part
        try:
            prediction = self._model.predict(part.volume.values, part.volume.spacing_mm)
        except UnusablePicture as error:
            return OutOfScope(str(error), "unusable-pixels", refs(slices.instances))
        reading = Reading(part, prediction)
        if not reading.regions:
            return OutOfScope(f"no region marked on {part}; {NOT_RULED_OUT}", "no-region", refs(part.slices.instances))
        return self._result(selection, reading)

    def prepare(self) -> tuple[object, ...]:
        """Return the loaded network."""
        return (self._model,)

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic abdomen with a tumor of the pancreas."""
        from ainode.models.pancreas_tumor.demonstration import demonstration_abdomen  # noqa: PLC0415
        from ainode.node.testing import ct  # noqa: PLC0415

        phantom = demonstration_abdomen(seed)
        images = ct(phantom.values, phantom.spacing_mm, frame=f"pancreas {seed}", header=_DEMONSTRATION)
        return SyntheticStudy(images)

    def _requirements(self) -> CtRequirements:
        card = self._card
        return CtRequirements(
            card.min_slices,
            card.min_coverage_mm,
            card.max_spacing_mm,
            "soft",
            contrast=True,
            agent_may_be_absent=True,
        )

    @cached_property
    def _model(self) -> "PancreasModel":
        from ainode.models.pancreas_tumor.model import PancreasModel  # noqa: PLC0415

        path = self._environment.weights.verified(self._card.weights)
        return loaded(PancreasModel.load, path, name=self._card.name, environment=self._environment)

    def _algorithm(self, part: CtPart, reading: Reading) -> Algorithm:
        marking, run = self._card.marking, self._model.network
        parameters = {
            "threshold": f"{marking.least_peak:g} for the highest value of a region",
            "region": f"above {marking.share_of_peak:g} of its highest value, over {marking.least_mm:g} mm and more",
            "most regions": f"{marking.most_regions}",
            "read": str(part),
            "slices": reading.slices_text,
            "precision": f"{run.precision} on {run.device}",
        }
        return algorithm(self._card, self._environment.weights, weights=self.weights(), parameters=parameters)

    def _result(self, selection: Selection, reading: Reading) -> Result:
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm(reading.part, reading),
            title="Pancreas, candidate regions",
            procedure=_PROCEDURE,
            findings=tuple(region.finding() for region in reading.regions),
            captures=tuple(region.capture() for region in reading.regions),
            evidence=refs(reading.part.slices.instances),
            key_images=reading.key_images,
            scores=reading.scores(),
            segmented=reading.segmented(),
        )


def _may_be_abdomen(series: Series) -> bool:
    """Return whether a series is of the abdomen or says nothing of its part."""
    part = body_part(series.instances[0].header)
    return not part.parts or "ABDOMEN" in part.names


def build(environment: ModelEnvironment) -> PancreasTumor:
    """Return the handler."""
    return PancreasTumor(environment)


def benchmark(environment: ModelEnvironment, *, full_size: bool, runs: int) -> "Table":
    """Return head and rows of how long a whole reading takes, ours beside eager PyTorch."""
    from ainode.models.pancreas_tumor.benchmark import benchmark as measured  # noqa: PLC0415

    path = None if full_size else environment.weights.verified(read_card().weights)
    return measured(path, cache=environment.cache, runs=runs)
