"""A handler that answers at once, so that the time of a reading is the node's own time; `bench node` routes to it."""

from ainode.node.domain import (
    Algorithm,
    Capture,
    Code,
    Finding,
    Measurement,
    OutOfScope,
    Result,
    Saliency,
    Selection,
    Study,
    SyntheticStudy,
    WeightsStatus,
    refs,
)
from ainode.node.reading.weights import ModelEnvironment

_ABNORMAL = Code("263654008", "SCT", "Abnormal")
_BODY = Code("38266002", "SCT", "Entire body")
_IMAGING = Code("363679005", "SCT", "Imaging procedure")
_PROBABILITY = Code("122157", "DCM", "Probability")
_PERCENT = Code("%", "UCUM", "%")


class Immediate:
    """Returns the same finding for every study, with all images as evidence and a capture of the middle image."""

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return every series."""
        return Selection(study.study_instance_uid, study.series)

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return a finding and a capture, whose saliency has the size of the image."""
        images = refs(selection.instances)
        middle_image = selection.instances[len(images) // 2]
        rows, columns = (int(middle_image.text(keyword)) for keyword in ("Rows", "Columns"))
        probability = Measurement(_PROBABILITY, 50.0, _PERCENT, (middle_image.ref,))
        finding = Finding("study", _ABNORMAL, _BODY, (probability,), (middle_image.ref,))
        saliency = Saliency(rows, columns, (bytes(range(256)) * (rows * columns // 256 + 1))[: rows * columns])
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=Algorithm("immediate", "1", "0" * 64, WeightsStatus.DEMONSTRATION),
            title="Immediate answer",
            procedure=_IMAGING,
            findings=(finding,),
            captures=(Capture(middle_image.ref, "Immediate answer", ("of no meaning",), saliency, (finding,)),),
            evidence=images,
            key_images=(middle_image.ref,),
        )

    def weights(self) -> tuple[str, ...]:
        """Return no name, since the handler has no network."""
        return ()

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a study of a single image of noise."""
        from ainode.node.testing import noise  # noqa: PLC0415 - the encoders, which a running node does not import

        return SyntheticStudy((noise(512, 512, seed=seed),))


def build(environment: ModelEnvironment) -> Immediate:
    """Return the handler."""
    del environment
    return Immediate()
