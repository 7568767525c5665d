"""One module per clinical question: select a study, read it, speak in findings.

What several of them do and say alike stands here, since every module beside this one is a handler.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import ModelError, UnusablePicture
from ainode.node.domain import (
    Algorithm,
    Code,
    Instance,
    InstanceRef,
    Measurement,
    OutOfScope,
    Saliency,
    Selection,
    Series,
    Study,
)
from ainode.node.errors import WeightsError
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.geometry import Stack, Volume
from ainode.node.reading.weights import ModelEnvironment, WeightStore

PROBABILITY = Code("122157", "DCM", "Probability")
PROBABILITY_OF_CANCER = Code("111047", "DCM", "Probability of cancer")
_PERCENT = Code("%", "UCUM", "%")

Model = TypeVar("Model")
Prediction = TypeVar("Prediction")


def loaded(load: Callable[..., Model], *where: object, name: str, environment: ModelEnvironment) -> Model:
    """Return a model loaded from verified files, as the installation runs its networks.

    Raises: WeightsError if they are not the model's, or its precision is refused.
    """
    from ainode.models.running.runtime import Execution  # noqa: PLC0415

    try:
        return load(*where, execution=Execution(environment.cache, environment.device, environment.precision))
    except ModelError as error:
        raise WeightsError(f"{name}: {error}") from error


def selection_of(study: Study, chosen: Collection[Instance]) -> Selection:
    """Return the chosen instances in their series."""
    series = (
        Series(one.series_instance_uid, one.modality, tuple(i for i in one.instances if i in chosen))
        for one in study.series
    )
    return Selection(study.study_instance_uid, tuple(one for one in series if one.instances))


def readable(study: Study, refusal: Callable[[Instance], OutOfScope | None]) -> Selection | OutOfScope:
    """Return the images that nothing in their headers speaks against; if there is none, why not the first."""
    refusals = {instance: refusal(instance) for instance in study.instances}
    chosen = {instance for instance, why in refusals.items() if why is None}
    if chosen:
        return selection_of(study, chosen)
    return next(filter(None, refusals.values()), OutOfScope("the study holds no image", "no-image"))


def misfit(instance: Instance, smallest_side: int) -> tuple[str, str] | None:
    """Return why an image is too small or several, in words and in a code; None if it is neither."""
    rows, columns = (int(instance.text(key) or 0) for key in ("Rows", "Columns"))
    if min(rows, columns) < smallest_side:
        return f"the image has {rows} x {columns} pixels; {smallest_side} a side are needed", "too-small"
    frames = instance.text("NumberOfFrames")
    return None if frames in {"", "1"} else (f"the image has {frames} frames; one is read", "multi-frame")


def each_read(
    instances: Iterable[Instance], read: Callable[[Path], Prediction]
) -> tuple[list[tuple[Instance, Prediction]], list[OutOfScope]]:
    """Return what is read of each image by itself, and why the others cannot be used."""
    found: list[tuple[Instance, Prediction]] = []
    unusable: list[OutOfScope] = []
    for instance in instances:
        try:
            found.append((instance, read(instance.path)))
        except UnusablePicture as error:
            unusable.append(image_refusal(instance, str(error), "unusable-pixels"))
    return found, unusable


def image_refusal(instance: Instance, reason: str, code: str) -> OutOfScope:
    """Return the answer that one image is not read, for a reason."""
    return OutOfScope(f"image {instance.ref.sop_instance_uid}: {reason}", code, (instance.ref,))


def body_parts(series: Iterable[Series]) -> str:
    """Return the body parts of several series in words; `none` where there is no series."""
    return ", ".join(sorted({str(body_part(item.instances[0].header)) for item in series})) or "none"


def algorithm(
    name: str,
    version: str,
    store: WeightStore,
    *,
    weights: tuple[str, ...],
    parameters: Mapping[str, str],
    decisive: Collection[str] = (),
) -> Algorithm:
    """Return which model made a result, trusted as far as the least of the decisive weights, by default of all."""
    status = store.status(decisive or weights)
    return Algorithm(name, version, store.digest(weights), status, tuple(parameters.items()))


def unread(images: int) -> Mapping[str, str]:
    """Return the parameter that counts the images which were not read; nothing where all were."""
    return {"images not read": f"{images}, unusable pixels"} if images else {}


def against_threshold(concept: str, probability: float, threshold: float) -> str:
    """Return a caption with a probability and on which side of the threshold it lies."""
    verdict = "above" if probability > threshold else "not above"
    return f"{concept} {probability:.1%}, {verdict} the threshold of {threshold:.1%}"


def percent(concept: Code, share: float, images: tuple[InstanceRef, ...]) -> Measurement:
    """Return a share, 0 to 1, as a measurement inferred from images."""
    return Measurement(concept, round(100 * share, 2), _PERCENT, images)


def saliency(shown: NDArray[np.float32]) -> Saliency:
    """Return a map (rows, columns), 0 to 1, on the grid of its image."""
    rows, columns = shown.shape
    return Saliency(rows, columns, np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8).tobytes())


def voxels_under(slices: Stack, number: int, scan: Volume) -> NDArray[np.float64]:
    """Return where each pixel of a slice lies in the volume made of the stack: z, y, x, continuous.

    Shapes: (3, rows, columns).
    """
    ends = (scan.index(slices.position(number, row, column)) for row, column in ((0, 0), (1, 0), (0, 1)))
    corner, down, right = np.asarray(tuple(ends))[:, :, None, None]
    rows, columns = np.mgrid[: slices.rows, : slices.columns]
    return np.asarray(corner + (down - corner) * rows + (right - corner) * columns)
