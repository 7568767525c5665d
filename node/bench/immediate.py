"""A handler that answers at once: what remains of a reading is the node's own time. `bench node` routes to it."""

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
    """Finds the same in every study, on all of its images, and draws on the middle one."""

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return every series."""
        return Selection(study.study_instance_uid, study.series)

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return one finding and one capture with a saliency of the image's size, as models do."""
        images = refs(selection.instances)
        shown = selection.instances[len(images) // 2]
        rows, columns = (int(shown.text(keyword)) for keyword in ("Rows", "Columns"))
        certainty = Measurement(_PROBABILITY, 50.0, _PERCENT, (shown.ref,))
        finding = Finding("study", _ABNORMAL, _BODY, (certainty,), (shown.ref,))
        saliency = Saliency(rows, columns, (bytes(range(256)) * (rows * columns // 256 + 1))[: rows * columns])
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=Algorithm("immediate", "1", "0" * 64, WeightsStatus.DEMONSTRATION),
            title="Immediate answer",
            procedure=_IMAGING,
            findings=(finding,),
            captures=(Capture(shown.ref, "Immediate answer", ("of no meaning",), saliency, (finding,)),),
            evidence=images,
            key_images=(shown.ref,),
        )

    def weights(self) -> tuple[str, ...]:
        """Return nothing: there is no network."""
        return ()

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return one image of noise."""
        from ainode.node.testing import noise  # noqa: PLC0415 - encoders, which the node itself does without

        return SyntheticStudy((noise(512, 512, seed=seed),))


def build(environment: ModelEnvironment) -> Immediate:
    """Return the handler."""
    del environment
    return Immediate()
