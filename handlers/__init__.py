"""One module per clinical question: select a study, read it, speak in findings.

What several of them do and say alike stands here, since every module beside this one is a handler.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import ModelError, UnusablePicture
from ainode.node.domain import (
    Algorithm,
    Band,
    Code,
    Instance,
    InstanceRef,
    Measurement,
    OutOfScope,
    Saliency,
    Selection,
    Series,
    Study,
    Verdict,
)
from ainode.node.errors import WeightsError
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.geometry import Stack, Volume
from ainode.node.reading.weights import ModelEnvironment, WeightStore

PROBABILITY = Code("122157", "DCM", "Probability")
PROBABILITY_OF_CANCER = Code("111047", "DCM", "Probability of cancer")
MALIGNANT = Code("21594007", "SCT", "Malignant")
_PERCENT = Code("%", "UCUM", "%")

Model = TypeVar("Model")
Prediction = TypeVar("Prediction")


def loaded(load: Callable[..., Model], *arguments: object, name: str, environment: ModelEnvironment) -> Model:
    """Return the model that `load` makes of the arguments, run as the installation runs its networks.

    Raises: WeightsError if the files are not the model's, or the model refuses the precision.
    """
    from ainode.models.running.runtime import Execution  # noqa: PLC0415

    try:
        return load(*arguments, execution=Execution(environment.cache, environment.device, environment.precision))
    except ModelError as error:
        raise WeightsError(f"{name}: {error}") from error


def selection_of(study: Study, chosen: Collection[Instance]) -> Selection:
    """Return the chosen instances in their series."""
    chosen_series = (
        dataclasses.replace(series, instances=tuple(instance for instance in series.instances if instance in chosen))
        for series in study.series
    )
    return Selection(study.study_instance_uid, tuple(series for series in chosen_series if series.instances))


def readable(study: Study, refusal: Callable[[Instance], OutOfScope | None]) -> Selection | OutOfScope:
    """Return the images whose headers `refusal` does not refuse; if every image is refused, the first refusal."""
    refusals = {instance: refusal(instance) for instance in study.instances}
    chosen = {instance for instance, reason in refusals.items() if reason is None}
    if chosen:
        return selection_of(study, chosen)
    return next(filter(None, refusals.values()), OutOfScope("the study holds no image", "no-image"))


def misfit(instance: Instance, smallest_side: int) -> tuple[str, str] | None:
    """Return reason and code of a refusal of an image that is too small or has several frames; None if it fits."""
    rows, columns = (int(instance.text(key) or 0) for key in ("Rows", "Columns"))
    if min(rows, columns) < smallest_side:
        return f"the image has {rows} x {columns} pixels; {smallest_side} a side are needed", "too-small"
    frames = instance.text("NumberOfFrames")
    return None if frames in {"", "1"} else (f"the image has {frames} frames; one is read", "multi-frame")


def each_read(
    instances: Iterable[Instance], read: Callable[[Path], Prediction]
) -> tuple[list[tuple[Instance, Prediction]], list[OutOfScope]]:
    """Return the prediction of each usable image, and a refusal of each unusable image."""
    predictions: list[tuple[Instance, Prediction]] = []
    unusable: list[OutOfScope] = []
    for instance in instances:
        try:
            predictions.append((instance, read(instance.path)))
        except UnusablePicture as error:
            unusable.append(image_refusal(instance, str(error), "unusable-pixels"))
    return predictions, unusable


def image_refusal(instance: Instance, reason: str, code: str) -> OutOfScope:
    """Return the answer that one image is not read, for a reason."""
    return OutOfScope(f"image {instance.ref.sop_instance_uid}: {reason}", code, (instance.ref,))


def body_parts(series: Iterable[Series]) -> str:
    """Return the body parts of several series as text; `none` without series."""
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
    """Return the algorithm of a result; its status is the lowest of the decisive weights, by default of all weights."""
    status = store.status(decisive or weights)
    return Algorithm(name, version, store.digest(weights), status, tuple(parameters.items()))


def unread(images: int) -> Mapping[str, str]:
    """Return the parameter with the number of images that were not read; no parameter for 0."""
    return {"images not read": f"{images}, unusable pixels"} if images else {}


def verdict_on(
    probability: float, threshold: float, band: tuple[float, float] | None, *, about: Code | None = None
) -> Verdict:
    """Return the verdict on a probability by the threshold and the band of a card."""
    return Verdict.of(probability, threshold, band=Band(*band) if band else None, about=about)


def threshold_texts(threshold: float, band: tuple[float, float] | None, subject: str = "") -> Mapping[str, str]:
    """Return threshold and band as parameters; `subject` names what they are of where a result has several.

    The UIDs of the documents hang on the parameters, and nothing else of a result knows the band.
    """
    prefix = f"{subject} " if subject else ""
    band_texts = {f"{prefix}band": f"{band[0]:g} to {band[1]:g}"} if band else {}
    return {f"{prefix}threshold": f"{threshold:g}", **band_texts}


def percent(concept: Code, share: float, images: tuple[InstanceRef, ...]) -> Measurement:
    """Return a share, 0 to 1, as a measurement inferred from images."""
    return Measurement(concept, round(100 * share, 2), _PERCENT, images)


def saliency(shown: NDArray[np.float32]) -> Saliency:
    """Return a map (rows, columns), 0 to 1, on the grid of its image."""
    rows, columns = shown.shape
    return Saliency(rows, columns, np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8).tobytes())


def voxels_under(slices: Stack, number: int, scan: Volume) -> NDArray[np.float64]:
    """Return the continuous voxel index (z, y, x) of each pixel of a slice, in the volume of the stack.

    Shapes: (3, rows, columns).
    """
    ends = (scan.index(slices.position(number, row, column)) for row, column in ((0, 0), (1, 0), (0, 1)))
    corner, down, right = np.asarray(tuple(ends))[:, :, None, None]
    rows, columns = np.mgrid[: slices.rows, : slices.columns]
    return np.asarray(corner + (down - corner) * rows + (right - corner) * columns)
